import fc from "fast-check";
import { expect, test } from "vitest";
import { quote } from "../../../src/base/quote.ts";

test("short text stands there whole", () => {
  expect(quote("library/nginx")).toBe('"library/nginx"');
});

test("control characters and quotes are escaped", () => {
  expect(quote('a"\n\u0000')).toBe('"a\\"\\n\\u0000"');
});

test("long text is cut", () => {
  expect(quote("x".repeat(100))).toBe(`"${"x".repeat(100)}"`);
  expect(quote("x".repeat(101))).toBe(`"${"x".repeat(100)}…"`);
});

test("whatever comes in, one bounded line comes out", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
      const quoted = quote(text);
      expect(quoted.length).toBeLessThanOrEqual(103 * 6);
      expect(quoted).not.toMatch(/[\r\n\0]/);
    }),
  );
});
