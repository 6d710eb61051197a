import { expect, test } from "vitest";
import { fingerprint } from "../../../src/base/fingerprint.ts";
import { Secret } from "../../../src/base/secret.ts";

test.each([
  ["texts", "a", "b"],
  ["a text and a number", "1", 1],
  ["nothing and something", undefined, "a"],
  ["entries of mappings", { a: { b: 1 } }, { a: { b: 2 } }],
  ["entries of lists", [1, [2]], [1, [3]]],
  ["the order of lists", [1, 2], [2, 1]],
  ["entries of maps", new Map([["a", { b: 1 }]]), new Map([["a", { b: 2 }]])],
  ["addresses", { at: new URL("http://a/") }, { at: new URL("http://b/") }],
  ["secrets", { password: new Secret("a") }, { password: new Secret("b") }],
])("%s tell", (_name, a, b) => {
  expect(fingerprint(a)).not.toBe(fingerprint(b));
  expect(fingerprint(a)).toBe(fingerprint(a));
});

test("what is written anew the same way is the same, and no secret stands in it", () => {
  const make = () => ({
    at: new URL("http://a/"),
    left: undefined,
    map: new Map([["k", [new Secret("hunter2")]]]),
    list: [{ password: new Secret("hunter2") }],
  });
  expect(fingerprint(make())).toBe(fingerprint(make()));
  expect(fingerprint(make())).not.toContain("hunter2");
});
