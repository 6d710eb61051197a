import { format, inspect } from "node:util";
import { expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";

const secret = new Secret("hunter2");

test("the value comes out on request only", () => {
  expect(secret.reveal()).toBe("hunter2");
});

test.each([
  ["String()", () => String(secret)],
  ["a template", () => `${secret}`],
  ["JSON", () => JSON.stringify({ password: secret })],
  ["inspect", () => inspect({ password: secret }, { showHidden: true, depth: 9 })],
  ["format", () => format("%s %o %j", secret, secret, secret)],
  ["spreading", () => JSON.stringify({ ...secret })],
  ["an error's cause", () => inspect(new Error("refused", { cause: secret }))],
])("A4 %s shows no secret", (_name, print) => {
  expect(print()).not.toContain("hunter2");
});

test("the hash is SHA-256 in hex", () => {
  expect(new Secret("abc").hash()).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect(secret.hash()).not.toBe(new Secret("hunter3").hash());
});
