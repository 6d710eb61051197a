import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { digestOf, parseDigest } from "../../../src/oci/digest.ts";
import {
  blobKey,
  blobRecordKey,
  checkKey,
  formatLink,
  layerLinkKey,
  manifestRecordKey,
  parseLinkFile,
  referrersRecordKey,
  repoRecordKey,
  repositoryPart,
  revisionLinkKey,
  tagIndexLinkKey,
  tagLinkKey,
  tagRecordKey,
  upstreamFolder,
  upstreamOfFolder,
} from "../../../src/storage/layout.ts";

const HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DIGEST = parseDigest(`sha256:${HEX}`);
const LONG = digestOf(new Uint8Array(), "sha512");
const REPO = { upstream: "reg.example:5000", repository: "team/app" };
const FOLDER = "docker/registry/v2/repositories/reg.example__5000/team/app";

test("the distribution layout is met to the letter", () => {
  expect(blobKey(DIGEST)).toBe(`docker/registry/v2/blobs/sha256/e3/${HEX}/data`);
  expect(blobKey(LONG)).toMatch(/^docker\/registry\/v2\/blobs\/sha512\/cf\/cf[0-9a-f]{126}\/data$/);
  expect(layerLinkKey(REPO, DIGEST)).toBe(`${FOLDER}/_layers/sha256/${HEX}/link`);
  expect(revisionLinkKey(REPO, DIGEST)).toBe(`${FOLDER}/_manifests/revisions/sha256/${HEX}/link`);
  expect(tagLinkKey(REPO, "v1")).toBe(`${FOLDER}/_manifests/tags/v1/current/link`);
  expect(tagIndexLinkKey(REPO, "v1", DIGEST)).toBe(`${FOLDER}/_manifests/tags/v1/index/sha256/${HEX}/link`);
});

test("the layout's own records lie under weir/v1", () => {
  expect(repoRecordKey(REPO)).toBe("weir/v1/repositories/reg.example__5000/team/app/_repository.json");
  expect(tagRecordKey(REPO, "v1")).toBe("weir/v1/repositories/reg.example__5000/team/app/_tags/v1.json");
  expect(referrersRecordKey(REPO, DIGEST)).toBe(
    `weir/v1/repositories/reg.example__5000/team/app/_referrers/sha256/e3/${HEX}.json`,
  );
  expect(manifestRecordKey(DIGEST)).toBe(`weir/v1/manifests/sha256/e3/${HEX}.json`);
  expect(blobRecordKey(DIGEST)).toBe(`weir/v1/blobs/sha256/e3/${HEX}.json`);
});

test.each(["reg.example:5000", "localhost"])(
  "what is written of a repository of %s is known by its key",
  (upstream) => {
    const repo = { upstream, repository: "team/app" };
    expect(repositoryPart(layerLinkKey(repo, DIGEST))).toEqual({ repo, digest: DIGEST });
    expect(repositoryPart(revisionLinkKey(repo, LONG))).toEqual({ repo, digest: LONG });
    expect(repositoryPart(tagLinkKey(repo, "v1"))).toEqual({ repo, tag: "v1" });
    expect(repositoryPart(tagRecordKey(repo, "v1"))).toEqual({ repo, tag: "v1" });
    expect(repositoryPart(repoRecordKey(repo))).toEqual({ repo });
  },
);

test.each([blobKey(DIGEST), manifestRecordKey(DIGEST), blobRecordKey(DIGEST), referrersRecordKey(REPO, DIGEST), "x"])(
  "%s says nothing of what a repository has",
  (key) => {
    expect(repositoryPart(key)).toBeUndefined();
  },
);

describe("upstream folders", () => {
  test.each([
    ["docker.io", "docker.io"],
    ["localhost:5000", "localhost__5000"],
    ["my_registry:5000", "my_registry__5000"],
    ["[::1]:5000", "[____1]__5000"],
  ])("%s is written %s, and back", (upstream, folder) => {
    expect(upstreamFolder(upstream)).toBe(folder);
    expect(upstreamOfFolder(folder)).toBe(upstream);
  });

  test.each(["", "a__5000", "a_:5000", "a/b"])(
    "R5 the name %j, whose folder could be another's, is refused",
    (upstream) => {
      expect(() => upstreamFolder(upstream)).toThrow(RangeError);
    },
  );

  test("R5 two upstreams never share a folder", () => {
    const name = fc.string({ unit: fc.constantFrom("a", ":", "_", "."), maxLength: 8 });
    fc.assert(
      fc.property(name, (upstream) => {
        let folder: string;
        try {
          folder = upstreamFolder(upstream);
        } catch {
          return;
        }
        expect(upstreamOfFolder(folder)).toBe(upstream);
      }),
    );
  });

  test("a folder that no upstream has is none's", () => {
    expect(upstreamOfFolder("a:5000")).toBeUndefined();
  });
});

describe("links", () => {
  test("S1 a link is the bare digest", () => {
    expect(Buffer.from(formatLink(DIGEST)).toString()).toBe(`sha256:${HEX}`);
    expect(parseLinkFile(formatLink(DIGEST))).toBe(DIGEST);
    expect(parseLinkFile(formatLink(LONG))).toBe(LONG);
  });

  test.each(["", `sha256:${HEX}\n`, ` sha256:${HEX}`, `sha256:${HEX.toUpperCase()}`, HEX, `md5:${HEX}`, "sha256:"])(
    "S1 %j is no link",
    (text) => {
      expect(parseLinkFile(Buffer.from(text))).toBeUndefined();
    },
  );

  test("any bytes are a link or none, never an error", () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => parseLinkFile(bytes) === undefined));
  });
});

test("R6 a key that passes stays below its root", () => {
  const key = fc.array(fc.oneof(fc.constantFrom("..", ".", "", "a", "/", "\0", "..."), fc.string()), { maxLength: 6 });
  fc.assert(
    fc.property(key, (parts) => {
      const text = parts.join("/");
      try {
        checkKey(text);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
        return;
      }
      expect(new URL(`file:///store/${text.split("/").map(encodeURIComponent).join("/")}`).pathname).toMatch(
        /^\/store\/./,
      );
    }),
  );
});
