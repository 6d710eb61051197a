import { expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";
import type { CredentialConfig } from "../../../src/config/types.ts";
import { adapterOf, normaliseRepository } from "../../../src/upstream/adapters/index.ts";
import { compileCredentials } from "../../../src/upstream/credentials/select.ts";

test.each([
  ["dockerhub", "nginx", "library/nginx"],
  ["dockerhub", "library/nginx", "library/nginx"],
  ["dockerhub", "org/app", "org/app"],
  ["generic", "nginx", "nginx"],
] as const)("%s: %s means %s", (type, repository, expected) => {
  expect(normaliseRepository(type, repository)).toBe(expected);
});

test("on Docker Hub an invalid token is trouble, and only a lack of scope a no", () => {
  expect(adapterOf("dockerhub").denies("insufficient_scope")).toBe(true);
  expect(adapterOf("dockerhub").denies("invalid_token")).toBe(false);
  expect(adapterOf("generic").denies("invalid_token")).toBe(true);
});

test("the first credential whose globs match is used", () => {
  const credential = (label: string, repositories?: readonly string[]): CredentialConfig => ({
    label,
    username: "u",
    password: new Secret("p"),
    repositories,
  });
  const select = compileCredentials([
    credential("team", ["team/*"]),
    credential("deep", ["team/**", "other/app"]),
    credential("never", ["team/app"]),
  ]);
  expect(select("team/app")?.label).toBe("team");
  expect(select("team/sub/app")?.label).toBe("deep");
  expect(select("other/app")?.label).toBe("deep");
  expect(select("third/app")).toBeUndefined();
  expect(compileCredentials([credential("all")])("any/thing")?.label).toBe("all");
  expect(compileCredentials([])("any/thing")).toBeUndefined();
});
