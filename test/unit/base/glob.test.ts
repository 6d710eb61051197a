import fc from "fast-check";
import { expect, test } from "vitest";
import { compileGlob } from "../../../src/base/glob.ts";

test.each([
  ["nginx", "nginx"],
  ["*", "nginx"],
  ["*", ""],
  ["library/*", "library/nginx"],
  ["*/nginx", "library/nginx"],
  ["lib*ry/ng?nx", "library/nginx"],
  ["*.example.com", "eu.mirror.example.com"],
  ["**", ""],
  ["**", "a/b/c"],
  ["**:latest", "docker.io/library/nginx:latest"],
  ["docker.io/**:1.*", "docker.io/library/nginx:1.27"],
  ["**/nginx", "nginx"],
  ["**/nginx", "docker.io/library/nginx"],
  ["docker.io/**/nginx", "docker.io/nginx"],
  ["docker.io/**/nginx", "docker.io/a/b/nginx"],
  ["docker.io/**", "docker.io/library/nginx"],
  ["docker.io/my**", "docker.io/myorg/app"],
  ["reg.example:5000/**", "reg.example:5000/a/b"],
  ["**/.hidden", "a/.hidden"],
  ["*", ".hidden"],
  ["a***b", "a/x/b"],
  ["sha256-*.sig", "sha256-abc.sig"],
])("%s matches %s", (glob, name) => {
  expect(compileGlob(glob)(name)).toBe(true);
});

test.each([
  ["nginx", "nginx2"],
  ["nginx", "NGINX"],
  ["*", "library/nginx"],
  ["library/*", "library/a/b"],
  ["library/*", "library"],
  ["?", ""],
  ["?", "/"],
  ["a.c", "abc"],
  ["a-c", "abc"],
  ["docker.io/**", "docker.io"],
  ["docker.io/**", "docker.iox/a"],
  ["**/nginx", "library/xnginx"],
  ["docker.io/**/nginx", "docker.io/xnginx"],
  ["docker.io/**/nginx", "docker.ionginx"],
  ["*.example.com", "example.com"],
  ["*.example.com", "a.example.com.evil.org"],
  ["**:latest", "docker.io/library/nginx:latest2"],
])("%s does not match %s", (glob, name) => {
  expect(compileGlob(glob)(name)).toBe(false);
});

test.each(["", "x".repeat(513), "{a,b}", "!a", "@(a|b)", "v[0-9]", "a\\*", "a b", "ü", "a\n", "a+"])(
  "%j is refused with a sentence",
  (glob) => {
    expect(() => compileGlob(glob)).toThrow(/^the glob ".*/);
  },
);

/** The same meaning, said with a regular expression. */
function asRegExp(glob: string): RegExp {
  const source = glob
    .replace(/[.]/g, "\\.")
    .replace(/(^|\/)\*\*\//g, "$1<segments>")
    .replace(/\*\*/g, "<any>")
    .replace(/\*/g, "[^/]*")
    .replace(/\?/g, "[^/]")
    .replace(/<any>/g, ".*")
    .replace(/<segments>/g, "(?:.*/)?");
  return new RegExp(`^${source}$`, "s");
}

test("globs mean what the regular expression says", () => {
  const part = fc.constantFrom("a", "b", ".", "/", "*", "**", "?", "/**/");
  const glob = fc
    .array(part, { minLength: 1, maxLength: 8 })
    .map((parts) => parts.join(""))
    // Three stars in a row, and two segment globs that share a slash, are beyond what the translation above can say.
    .filter((text) => !/\*{3}|\*\*\/\*\*/.test(text));
  const name = fc.array(fc.constantFrom("a", "b", ".", "/"), { maxLength: 8 }).map((parts) => parts.join(""));
  fc.assert(
    fc.property(glob, name, (pattern, text) => {
      expect(compileGlob(pattern)(text), `${pattern} on ${text}`).toBe(asRegExp(pattern).test(text));
    }),
    { numRuns: 5_000 },
  );
});

test("a name matches itself", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9._:/@-]{1,60}$/), (name) => {
      expect(compileGlob(name)(name)).toBe(true);
    }),
  );
});

test("many stars on a long name are no more work than few", () => {
  // A backtracking matcher would not come back from this one.
  expect(compileGlob(`${"**a".repeat(100)}b`)("a".repeat(400))).toBe(false);
});
