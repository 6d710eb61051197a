import { describe, expect, test } from "vitest";
import { parseSelection, type UpstreamNames } from "../../../src/proxy/upkeep/selection.ts";
import { UpkeepError } from "../../../src/proxy/upkeep/upkeep.ts";

const NAMES: UpstreamNames = {
  upstream: (name) =>
    ({ "docker.io": "docker.io", "index.docker.io": "docker.io", "quay.io": "quay.io", hub: "docker.io" })[name],
  defaultUpstream: "docker.io",
  normalise: (upstream, repository) =>
    upstream === "docker.io" && !repository.includes("/") ? `library/${repository}` : repository,
};

const DIGEST = `sha256:${"a".repeat(64)}`;
const nginx = { upstream: "docker.io", repository: "library/nginx" };

describe("a reference means what it means in a pull", () => {
  test.each([
    ["docker.io/library/nginx:1.27", { kind: "tag", repo: nginx, tag: "1.27" }],
    ["index.docker.io/nginx:1.27", { kind: "tag", repo: nginx, tag: "1.27" }],
    ["hub/nginx:1.27", { kind: "tag", repo: nginx, tag: "1.27" }],
    ["nginx:1.27", { kind: "tag", repo: nginx, tag: "1.27" }],
    ["nginx", { kind: "repository", repo: nginx }],
    ["team/app", { kind: "repository", repo: { upstream: "docker.io", repository: "team/app" } }],
    [`nginx@${DIGEST}`, { kind: "digest", repo: nginx, digest: DIGEST }],
    [`quay.io/a/b:1@${DIGEST}`, { kind: "digest", repo: { upstream: "quay.io", repository: "a/b" }, digest: DIGEST }],
    ["reg.example:5000/a:1", { kind: "tag", repo: { upstream: "reg.example:5000", repository: "a" }, tag: "1" }],
    ["Was.Removed.example/a", { kind: "repository", repo: { upstream: "was.removed.example", repository: "a" } }],
  ])("%s", (text, expected) => {
    expect(parseSelection(text, NAMES)).toEqual(expected);
  });
});

/** `<upstream>/<repository>` split for the pattern, and a tag where it has a part for one. */
function matches(pattern: string, upstream: string, repository: string, tag?: string): boolean {
  const selection = parseSelection(pattern, NAMES);
  if (selection.kind !== "pattern") throw new Error("no pattern");
  expect(selection.matchesTag === undefined).toBe(tag === undefined);
  return selection.matches({ upstream, repository }) && (tag === undefined || (selection.matchesTag?.(tag) ?? true));
}

describe("a pattern", () => {
  test.each([
    ["quay.io/acme/**:dev-*", "quay.io", "acme/a/b", "dev-1", true],
    ["quay.io/acme/**:dev-*", "quay.io", "acme/a", "v1", false],
    ["quay.io/acme/**:dev-*", "docker.io", "acme/a", "dev-1", false],
    ["hub/ngin*:?", "docker.io", "library/nginx", "1", true],
    ["ngin*:1", "docker.io", "library/nginx", "1", true],
    ["docker.io/**:latest", "docker.io", "team/app", "latest", true],
    ["nginx:*", "docker.io", "library/nginx", "x", true],
    ["**:latest", "quay.io", "a/b", "latest", true],
    ["*.io/a:latest", "quay.io", "a", "latest", true],
  ])("%s on %s/%s:%s is %s", (pattern, upstream, repository, tag, expected) => {
    expect(matches(pattern, upstream, repository, tag)).toBe(expected);
  });

  test("without a tag part is one of repositories", () => {
    expect(matches("docker.io/team/*", "docker.io", "team/app")).toBe(true);
    expect(matches("docker.io/team/*", "docker.io", "team/app/sub")).toBe(false);
    expect(matches("reg.example:5000/**", "reg.example:5000", "a")).toBe(true);
  });
});

describe("what is none is told in one sentence", () => {
  test.each([
    [""],
    ["https://docker.io/app"],
    ["app:with space"],
    ["docker.io/UPPER:1"],
    ["app@sha256:short"],
    [`app@${DIGEST}@${DIGEST}`],
    ["docker.io"],
    ["docker.io/app:"],
    ["app:{a,b}*"],
    ["a//b"],
  ])("%j", (text) => {
    expect(() => parseSelection(text, NAMES)).toThrow(UpkeepError);
    expect(() => parseSelection(text, NAMES)).toThrow(/^[^\n]+$/);
  });

  test("also where there is no default upstream", () => {
    expect(() => parseSelection("nginx", { ...NAMES, defaultUpstream: undefined })).toThrow("routing.default");
  });
});
