import fc from "fast-check";
import { expect, test } from "vitest";
import { formatScope, parseScope, repositoryScope } from "../../../src/oci/scope.ts";

test.each([
  ["repository:library/nginx:pull", { type: "repository", name: "library/nginx", actions: ["pull"] }],
  ["repository:a/b:pull,push", { type: "repository", name: "a/b", actions: ["pull", "push"] }],
  ["repository:reg.example:5000/a/b:pull", { type: "repository", name: "reg.example:5000/a/b", actions: ["pull"] }],
  ["repository(plugin):a/b:pull", { type: "repository", class: "plugin", name: "a/b", actions: ["pull"] }],
  ["registry:catalog:*", { type: "registry", name: "catalog", actions: ["*"] }],
  ["repository:img:metadata_read", { type: "repository", name: "img", actions: ["metadata_read"] }],
])("the scope %s", (text, scope) => {
  expect(parseScope(text)).toEqual(scope);
  expect(formatScope(scope)).toBe(text);
});

test.each([
  "",
  "*",
  "repository",
  "repository:a",
  ":a:pull",
  "repository::pull",
  "repository:a:",
  "repository:a:pull,",
  "repository:a:pull push",
  "repository:a b:pull",
  'repository:a":pull',
  "Repository:a:pull",
  "repository():a:pull",
  "repository(a:b:pull",
  "repository:a:PULL",
  `repository:${"a".repeat(1024)}:pull`,
])("%j is no scope", (text) => {
  expect(parseScope(text)).toBeUndefined();
});

test("a repository's scope", () => {
  expect(formatScope(repositoryScope("library/nginx", ["pull"]))).toBe("repository:library/nginx:pull");
});

test("scopes survive being written and read, and no text throws", () => {
  const scope = fc.record({
    type: fc.stringMatching(/^[a-z0-9]{1,10}$/),
    name: fc.stringMatching(/^[a-z0-9.:/_-]{1,100}$/),
    actions: fc.array(fc.stringMatching(/^([a-z_]{1,8}|\*)$/), { minLength: 1, maxLength: 4 }),
  });
  fc.assert(
    fc.property(scope, fc.string(), (value, text) => {
      expect(parseScope(formatScope(value))).toEqual(value);
      parseScope(text);
    }),
  );
});
