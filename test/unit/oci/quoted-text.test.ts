import fc from "fast-check";
import { expect, test } from "vitest";
import { readQuoted, splitUnquoted } from "../../../src/oci/quoted-text.ts";

test.each([
  ['"abc"', "abc", 5],
  ['""', "", 2],
  ['"a\\"b" rest', 'a"b', 6],
  ['"a\\\\"', "a\\", 5],
  ['"a,b;c"', "a,b;c", 7],
  ['"never closed', "never closed", 13],
  ['"ends in a backslash\\', "ends in a backslash\\", 21],
  ['"', "", 1],
])("the quoted string %s", (header, text, end) => {
  expect(readQuoted(header, 0)).toEqual({ text, end });
});

test.each([
  ["", []],
  [",, ,", []],
  ["a", ["a"]],
  [" a , b,c ", ["a", "b", "c"]],
  ['a="x,y", b', ['a="x,y"', "b"]],
  ['a="x\\",y", b', ['a="x\\",y"', "b"]],
  ['a="never, closed', ['a="never, closed']],
])("the list %j", (header, parts) => {
  expect(splitUnquoted(header, ",")).toEqual(parts);
});

test("any text can be quoted and read again, any header can be split", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const quoted = `"${text.replace(/["\\]/g, "\\$&")}"`;
      expect(readQuoted(quoted, 0)).toEqual({ text, end: quoted.length });
      splitUnquoted(text, ",");
      splitUnquoted(text, ";");
    }),
  );
});
