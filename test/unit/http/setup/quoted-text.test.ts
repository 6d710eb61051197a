import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parse as parseYaml } from "yaml";
import { quoted } from "../../../../src/http/setup/quoted-text.ts";

describe("quoted text", () => {
  test("is read back by JSON and YAML alike", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect([JSON.parse(quoted(text)), parseYaml(quoted(text))]).toEqual([text, text]);
      }),
    );
  });

  test.each([
    ['a"b\\c', '"a\\"b\\\\c"'],
    ["line\nbreak\u0000", '"line\\nbreak\\u0000"'],
    // TOML and YAML allow these only escaped.
    ["\u007f\u0085", '"\\u007f\\u0085"'],
    ["\ud800", '"\ufffd"'],
  ])("%j", (text, expected) => {
    expect(quoted(text)).toBe(expected);
  });
});
