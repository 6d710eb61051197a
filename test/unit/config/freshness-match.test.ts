import { expect, test } from "vitest";
import { compileFreshness, compileMatch, probeMatch } from "../../../src/config/freshness-match.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import type { FreshnessConfig } from "../../../src/config/types.ts";

function freshness(section: unknown): FreshnessConfig {
  const result = parseConfig({ freshness: section }, {});
  if (!result.ok) {
    throw new Error(JSON.stringify(result.problems));
  }
  return result.config.freshness;
}

test.each([
  ["**:latest", "docker.io", "library/nginx", "latest", true],
  ["**:latest", "docker.io", "library/nginx", "latest-1", false],
  ["docker.io/library/*:1.*", "docker.io", "library/nginx", "1.27", true],
  ["docker.io/library/*:1.*", "docker.io", "library/nginx", "2.27", false],
  ["docker.io/*:1", "docker.io", "library/nginx", "1", false],
  ["docker.io/**:1", "docker.io", "library/nginx", "1", true],
  ["quay.io/**:*", "docker.io", "library/nginx", "1", false],
  // A glob's star does not reach across to the tag.
  ["docker.io/library/nginx*:1", "docker.io", "library/nginx", "1", true],
  ["reg.example:5000/app:edge", "reg.example:5000", "app", "edge", true],
  ["reg.example:5000/**:/v\\d+/", "reg.example:5000", "app", "v12", true],
  ["**:/v?\\d+\\.\\d+\\.\\d+/", "quay.io", "a/b", "v1.2.3", true],
  // The whole tag.
  ["**:/v?\\d+\\.\\d+\\.\\d+/", "quay.io", "a/b", "v1.2.3-rc1", false],
  ["**:/a|b/", "quay.io", "a", "ab", false],
  ["**:/a|b/", "quay.io", "a", "b", true],
  ["**:/a:/b/", "quay.io", "a", "a:/b", true],
])("%s on %s/%s:%s is %s", (match, upstream, repository, tag, expected) => {
  expect(compileMatch(match)({ upstream, repository }, tag)).toBe(expected);
});

test.each([
  ["**", "no tag part"],
  ["reg.example:5000/**", "no tag part"],
  ["**:", "no tag part"],
  [":latest", "no tag part"],
  ["**://", "no tag part"],
  ["", "no tag part"],
  ["**:/(/", "not a regular expression"],
  ["**:/a)(b/", "not a regular expression"],
  [`**:/${"a".repeat(201)}/`, "201 characters, of 200"],
  ["{a,b}/**:1", "the glob"],
  ["**:[0-9]", "the glob"],
])("%s is refused", (match, expected) => {
  expect(() => compileMatch(match)).toThrow(expected);
});

test.each([["**:/(a+)+/"], ["**:/(\\d+)*x/"], ["**:/([a-z0-9]+[.-]?)+!/"], ["**:/a*a*a*a*a*a*a*!/"]])(
  "%s, which a client's tag could make run for ever, is refused",
  (match) => {
    expect(() => probeMatch(match)).toThrow("takes too long");
  },
);

test.each([["**:latest"], ["**:/v?\\d+\\.\\d+\\.\\d+/"], ["**:/\\d+(\\.\\d+)*(-[a-z]+\\d*)?/"], ["**:/.*-alpine/"]])(
  "%s is quick enough",
  (match) => {
    expect(() => probeMatch(match)).not.toThrow();
  },
);

test("a tag that is longer than a tag can be matches no expression", () => {
  const matches = compileMatch("**:/a+/");
  expect(matches({ upstream: "a.b", repository: "c" }, "a".repeat(128))).toBe(true);
  expect(matches({ upstream: "a.b", repository: "c" }, "a".repeat(129))).toBe(false);
});

test("the first rule that matches decides, and is named", () => {
  const { ttlMs } = compileFreshness(
    freshness({
      default: "10m",
      rules: [
        { match: "docker.io/**:latest", ttl: "5s" },
        { match: "**:latest", ttl: "1m" },
        { match: "**:*", ttl: "0s" },
        { match: "docker.io/**:never", ttl: "1d" },
      ],
    }),
  );
  expect(ttlMs({ upstream: "docker.io", repository: "library/nginx" }, "latest")).toEqual({
    ttlMs: 5000,
    rule: "docker.io/**:latest",
    key: "freshness.rules[0]",
  });
  expect(ttlMs({ upstream: "quay.io", repository: "a" }, "latest")).toMatchObject({ ttlMs: 60_000, rule: "**:latest" });
  expect(ttlMs({ upstream: "docker.io", repository: "a/b" }, "never")).toMatchObject({ ttlMs: 0, rule: "**:*" });
});

test("without a rule the default decides", () => {
  expect(
    compileFreshness(freshness({ rules: [], default: "3m" })).ttlMs({ upstream: "a.b", repository: "c" }, "d"),
  ).toEqual({
    ttlMs: 180_000,
    rule: "default",
    key: "freshness.default",
  });
});

test.each([
  [{ default: "1h", rules: [{ match: "a.b/**:own", ttl: "5s" }] }, "own", "upstreams.a.b.freshness.rules[0]"],
  [{ default: "1h", rules: [{ match: "a.b/**:own", ttl: "5s" }] }, "latest", "freshness.rules[0]"],
  [{ default: "1h", rules: [{ match: "a.b/**:own", ttl: "5s" }] }, "other", "upstreams.a.b.freshness.default"],
  [{ negative: "5s" }, "other", "freshness.default"],
  // The same value as the global one: changing that would change nothing.
  [{ default: "10m" }, "other", "upstreams.a.b.freshness.default"],
  [undefined, "latest", "freshness.rules[0]"],
])("an upstream's own section %j: %s is by %s", (section, tag, key) => {
  const result = parseConfig({ upstreams: { "a.b": section === undefined ? {} : { freshness: section } } }, {});
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  const upstream = result.config.upstreams.find(({ name }) => name === "a.b");
  const { ttlMs } = compileFreshness(upstream?.freshness ?? result.config.freshness, "a.b");
  expect(ttlMs({ upstream: "a.b", repository: "c" }, tag).key).toBe(key);
});

test("a bad pattern is a problem of its key", () => {
  const result = parseConfig(
    {
      freshness: { rules: [{ match: "**:/(a+)+/", ttl: "1m" }] },
      upstreams: { "a.b": { freshness: { rules: [{ match: "a.b/**", ttl: "1m" }] } } },
    },
    {},
  );
  expect(result.ok ? [] : result.problems.map(({ path }) => path)).toEqual([
    'upstreams["a.b"].freshness.rules[0].match',
    "freshness.rules[0].match",
  ]);
});
