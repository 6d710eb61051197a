import { describe, expect, test } from "vitest";
import { compileContentRules } from "../../../src/access/content-rules.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { parseReference } from "../../../src/oci/reference.ts";
import { normaliseRepository } from "../../../src/upstream/adapters/index.ts";

const GOOD = parseDigest(`sha256:${"a".repeat(64)}`);
const BAD = parseDigest(`sha256:${"b".repeat(64)}`);

type Curated = Partial<Omit<Parameters<typeof compileContentRules>[0], "name">>;

function rules(curated: Curated) {
  const nothing = { name: "docker.io", allow: [], deny: [], platforms: [], frozen: false };
  return compileContentRules({ ...nothing, ...curated }, (repository) => normaliseRepository("dockerhub", repository));
}

/** What each kind of request gets: manifest by tag 1, by digest, a blob, the repository's lists. */
function verdicts(compiled: ReturnType<typeof rules>, repository: string, tag = "1", digest = GOOD) {
  return {
    tag: compiled.manifest(repository, parseReference(tag)),
    digest: compiled.manifest(repository, parseReference(digest)),
    blob: compiled.content(repository, digest),
    repository: compiled.repository(repository),
  };
}

const OPEN = { tag: undefined, digest: undefined, blob: undefined, repository: undefined };
const all = (key: string) => ({ tag: key, digest: key, blob: key, repository: key });

test("without entries everything is open", () => {
  expect(verdicts(rules({}), "library/nginx")).toEqual(OPEN);
});

describe("deny", () => {
  test("a repository is denied as a whole, by the key of the entry that matches", () => {
    const compiled = rules({ deny: ["evil/*", "**/secret"] });
    expect(verdicts(compiled, "evil/app")).toEqual(all("upstreams.docker.io.deny[0]"));
    expect(verdicts(compiled, "a/b/secret")).toEqual(all("upstreams.docker.io.deny[1]"));
    expect(verdicts(compiled, "evil/app/deep")).toEqual(OPEN);
    expect(verdicts(compiled, "library/nginx")).toEqual(OPEN);
  });

  test("a tag is denied by tag only", () => {
    const compiled = rules({ deny: ["library/nginx:1", String.raw`library/*:/v?0\..*/`] });
    expect(verdicts(compiled, "library/nginx")).toEqual({ ...OPEN, tag: "upstreams.docker.io.deny[0]" });
    expect(verdicts(compiled, "library/nginx", "10")).toEqual(OPEN);
    expect(verdicts(compiled, "library/redis", "v0.9").tag).toBe("upstreams.docker.io.deny[1]");
    expect(verdicts(compiled, "library/redis", "1.0.9").tag).toBeUndefined();
  });

  test("a digest is denied as manifest and as blob, in the repositories that match", () => {
    const compiled = rules({ deny: [`**@${BAD}`] });
    expect(verdicts(compiled, "library/nginx", "1", BAD)).toEqual({
      ...OPEN,
      digest: "upstreams.docker.io.deny[0]",
      blob: "upstreams.docker.io.deny[0]",
    });
    expect(verdicts(compiled, "library/nginx")).toEqual(OPEN);
    expect(verdicts(rules({ deny: [`team/*@${BAD}`] }), "library/nginx", "1", BAD)).toEqual(OPEN);
  });

  test("wins over allow", () => {
    const compiled = rules({ allow: ["library/*"], deny: ["library/nginx"] });
    expect(verdicts(compiled, "library/nginx")).toEqual(all("upstreams.docker.io.deny[0]"));
    expect(verdicts(compiled, "library/redis")).toEqual(OPEN);
  });
});

describe("allow", () => {
  test("denies everything else", () => {
    const compiled = rules({ allow: ["library/*", "team/**"] });
    expect(verdicts(compiled, "library/nginx")).toEqual(OPEN);
    expect(verdicts(compiled, "team/a/b")).toEqual(OPEN);
    expect(verdicts(compiled, "other/app")).toEqual(all("upstreams.docker.io.allow"));
  });

  test("a tag opens the repository to digests, and to no other tag", () => {
    const compiled = rules({ allow: ["library/nginx:1.*"] });
    expect(verdicts(compiled, "library/nginx", "1.27")).toEqual(OPEN);
    expect(verdicts(compiled, "library/nginx", "latest")).toEqual({ ...OPEN, tag: "upstreams.docker.io.allow" });
    expect(verdicts(compiled, "library/redis", "1.27")).toEqual(all("upstreams.docker.io.allow"));
  });

  test("a digest opens the repository to itself and to blobs, and to no tag", () => {
    const compiled = rules({ allow: [`library/nginx@${GOOD}`] });
    expect(verdicts(compiled, "library/nginx")).toEqual({ ...OPEN, tag: "upstreams.docker.io.allow" });
    expect(verdicts(compiled, "library/nginx", "1", BAD)).toMatchObject({
      digest: "upstreams.docker.io.allow",
      blob: undefined,
    });
  });
});

test("A3 a short name in a rule is the repository that it is at the upstream", () => {
  const compiled = rules({ deny: ["nginx", "redis:1", "*-test"] });
  expect(verdicts(compiled, "library/nginx")).toEqual(all("upstreams.docker.io.deny[0]"));
  expect(verdicts(compiled, "library/redis").tag).toBe("upstreams.docker.io.deny[1]");
  expect(verdicts(compiled, "library/a-test")).toEqual(all("upstreams.docker.io.deny[2]"));
  expect(verdicts(compiled, "team/nginx")).toEqual(OPEN);
  expect(verdicts(rules({ deny: ["**"] }), "team/nginx")).toEqual(all("upstreams.docker.io.deny[0]"));
});

test("platforms: what is listed, and what belongs to no platform", () => {
  const { platform, repository } = rules({ platforms: ["linux/amd64", "linux/arm64"] });
  const key = "upstreams.docker.io.platforms";
  expect(platform?.({ os: "linux", architecture: "arm64" })).toBeUndefined();
  expect(platform?.({ os: "unknown", architecture: "unknown" })).toBeUndefined();
  expect(platform?.({ os: "linux", architecture: "s390x" })).toBe(key);
  expect(platform?.({ os: "windows", architecture: "amd64" })).toBe(key);
  expect(platform?.({ os: "linux", architecture: "unknown" })).toBe(key);
  expect(repository("library/nginx")).toBeUndefined();
  expect(rules({}).platform).toBeUndefined();
});

test("frozen, beside the lists", () => {
  expect(rules({ frozen: true }).frozen).toBe("upstreams.docker.io.frozen");
  const both = rules({ frozen: true, deny: ["evil/*"] });
  expect(both.frozen).toBe("upstreams.docker.io.frozen");
  expect(both.repository("evil/app")).toBe("upstreams.docker.io.deny[0]");
  expect(rules({ deny: ["evil/*"] }).frozen).toBeUndefined();
});
