import fc from "fast-check";
import { expect, test } from "vitest";
import { OciError } from "../../../src/oci/errors.ts";
import { formatReference, formatRepo, parseReference, parseRepository, parseTag } from "../../../src/oci/reference.ts";

const DIGEST = `sha256:${"a1".repeat(32)}`;

test.each([
  "nginx",
  "library/nginx",
  "a/b/c/d/e",
  "0",
  "my-org/my--app",
  "a_b/c__d",
  "a.b.c/d",
  "manifests/blobs/tags",
  "v2/v2",
  `a/${"b".repeat(253)}`,
])("the repository %s", (name) => {
  expect(parseRepository(name)).toBe(name);
});

test.each([
  "",
  "/",
  "/nginx",
  "nginx/",
  "a//b",
  ".",
  "..",
  "../a",
  "a/../b",
  "a/..",
  "a/./b",
  "A/b",
  "library/Nginx",
  "a b",
  "a\nb",
  "nginx\n",
  "a\u0000b",
  "a%00b",
  "a%2fb",
  "a\\b",
  "a:b",
  "a@b",
  "a?b",
  "-a",
  "a-",
  "_a",
  "_catalog",
  "a_",
  "a___b",
  ".a",
  "a.",
  "a..b",
  "a._b",
  "a-.b",
  "ä",
  "ａ",
  "a*",
  "__proto__",
  "b".repeat(256),
  "b".repeat(300),
  `${"a/".repeat(127)}aa`,
])("R6 %j is NAME_INVALID", (name) => {
  expect(() => parseRepository(name)).toThrow(expect.objectContaining({ code: "NAME_INVALID", status: 400 }));
});

test.each(["latest", "1.27", "_x", "A", "v1.0.0-rc.1_build", "x".repeat(128), "sha256-abc.sig", "__proto__"])(
  "the tag %s",
  (tag) => {
    expect(parseTag(tag)).toBe(tag);
    expect(parseReference(tag)).toEqual({ kind: "tag", tag });
  },
);

test.each(["", ".x", "-x", "a/b", "a b", "a\n", "a\u0000", "a%00", "ä", "a+b", "x".repeat(129), ".."])(
  "R6 %j is TAG_INVALID",
  (tag) => {
    expect(() => parseTag(tag)).toThrow(expect.objectContaining({ code: "TAG_INVALID", status: 400 }));
    expect(() => parseReference(tag)).toThrow(expect.objectContaining({ code: "TAG_INVALID" }));
  },
);

test("a colon makes a digest", () => {
  expect(parseReference(DIGEST)).toEqual({ kind: "digest", digest: DIGEST });
  for (const bad of [":", "latest:", "sha256:abc", DIGEST.toUpperCase(), `md5:${"a".repeat(32)}`]) {
    expect(() => parseReference(bad)).toThrow(expect.objectContaining({ code: "DIGEST_INVALID" }));
  }
});

test("a repository is written with its upstream in front", () => {
  expect(formatRepo({ upstream: "docker.io", repository: "library/nginx" })).toBe("docker.io/library/nginx");
});

const component = fc.stringMatching(/^[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}$/);

test("every name of the grammar is accepted", () => {
  fc.assert(
    fc.property(fc.array(component, { minLength: 1, maxLength: 6 }), (components) => {
      const name = components.join("/");
      expect(parseRepository(name)).toBe(name);
    }),
  );
});

test("references survive being written and read", () => {
  const reference = fc.oneof(
    fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/),
    fc.stringMatching(/^sha256:[0-9a-f]{64}$/),
  );
  fc.assert(
    fc.property(reference, (text) => {
      expect(formatReference(parseReference(text))).toBe(text);
    }),
  );
});

test("nothing but an OciError is thrown", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[a-z0-9._/:-]{0,300}$/));
  fc.assert(
    fc.property(text, fc.constantFrom(parseRepository, parseTag, parseReference), (input, parse) => {
      try {
        parse(input);
      } catch (err) {
        expect(err).toBeInstanceOf(OciError);
      }
    }),
  );
});
