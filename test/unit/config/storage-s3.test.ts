import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import type { S3Config } from "../../../src/config/types.ts";

function s3Of(section: object, driver = "s3"): S3Config | undefined {
  const result = parseConfig({ storage: { driver, s3: section } }, {}, "/srv/weir");
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config.storage.s3;
}

function problemsOf(storage: object): string[] {
  const result = parseConfig({ storage }, {}, "/srv/weir");
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

test("a bucket is enough", () => {
  expect(s3Of({ bucket: "mirror" })).toMatchObject({
    bucket: "mirror",
    region: "us-east-1",
    prefix: "",
    forcePathStyle: false,
    redirect: false,
    timeouts: { connectMs: 5_000, idleMs: 30_000 },
  });
});

test("another server has its buckets in the path, unless it is told otherwise", () => {
  const endpoint = "https://s3.example";
  expect(s3Of({ bucket: "mirror", endpoint })?.forcePathStyle).toBe(true);
  expect(s3Of({ bucket: "mirror", endpoint, forcePathStyle: false })?.forcePathStyle).toBe(false);
});

test.each([
  ["weir", "weir/"],
  ["/mirrors/weir/", "mirrors/weir/"],
  ["/", ""],
])("S6 the prefix %j ends where a folder does: %j", (written, prefix) => {
  expect(s3Of({ bucket: "mirror", prefix: written })?.prefix).toBe(prefix);
});

test("A4 secrets are not printed", () => {
  const config = s3Of({ bucket: "mirror", accessKeyId: "key", secretAccessKey: "hidden", sessionToken: "hidden" });
  expect(JSON.stringify(config)).not.toContain("hidden");
  expect(config?.credentials?.secretAccessKey.reveal()).toBe("hidden");
});

describe("what does not go together is refused", () => {
  test.each<[object, RegExp]>([
    [{ driver: "s3" }, /^storage\.s3: is missing, although storage\.driver is s3/],
    [{ driver: "s3", s3: { bucket: "Not A Bucket" } }, /^storage\.s3\.bucket: expected a bucket's name/],
    [
      { driver: "s3", s3: { bucket: "mirror", accessKeyId: "a" } },
      /^storage\.s3: accessKeyId and secretAccessKey go together/,
    ],
    [
      { driver: "s3", s3: { bucket: "mirror", sessionToken: "a" } },
      /^storage\.s3\.sessionToken: belongs to an accessKeyId/,
    ],
    [{ driver: "s3", s3: { bucket: "mirror", kmsKeyId: "a" } }, /^storage\.s3\.kmsKeyId: has no effect/],
    [{ driver: "s3", s3: { bucket: "mirror", prefix: "a/../b" } }, /^storage\.s3\.prefix: expected a prefix of keys/],
    [
      { driver: "s3", s3: { bucket: "mirror", redirect: true, endpoint: "http://localhost:9000" } },
      /^storage\.s3\.redirect: clients cannot be sent to http:\/\/localhost:9000, .* publicEndpoint/,
    ],
    [
      { driver: "s3", s3: { bucket: "mirror", redirectExcept: ["nobody"] } },
      /^storage\.s3\.redirectExcept\[0\]: expected an address/,
    ],
  ])("%j", (storage, sentence) => {
    const problems = problemsOf(storage);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(sentence);
  });

  test("an address that clients reach makes up for a loopback endpoint", () => {
    const section = { bucket: "mirror", redirect: true, endpoint: "http://127.0.0.1:9000" };
    expect(s3Of({ ...section, publicEndpoint: "https://s3.example" })?.redirect).toBe(true);
  });
});

test("each limit has its own key: a disk's is storage.maxSize, a bucket's storage.s3.maxSize", () => {
  expect(s3Of({ bucket: "mirror" })?.maxSize).toBeUndefined();
  expect(s3Of({ bucket: "mirror", maxSize: "2TiB" })?.maxSize).toBe(2 * 2 ** 40);
  expect(problemsOf({ driver: "s3", s3: { bucket: "mirror" }, maxSize: "1GiB" })).toEqual([
    "storage.maxSize: bounds a disk, and there is none with storage.driver s3; the bucket's is storage.s3.maxSize",
  ]);
  expect(problemsOf({ driver: "tiered", s3: { bucket: "mirror", maxSize: "2TiB" }, maxSize: "1GiB" })).toEqual([]);
});

test("a disk in front of a bucket is a disk of one's own, and clients are not sent past it", () => {
  expect(problemsOf({ driver: "tiered" })).toEqual([
    "storage.s3: is missing, although storage.driver is tiered; it names at least the bucket",
  ]);
  const filesystem = { root: "data", shared: true };
  const s3 = { bucket: "mirror", redirect: true, maxSize: "1TiB" };
  expect(problemsOf({ driver: "tiered", filesystem, s3, spool: { dir: "spool" } })).toEqual([
    "storage.filesystem.shared: does not go with storage.driver tiered: each Weir has a disk of its own there",
    "storage.s3.redirect: does not go with storage.driver tiered, where what is held is read from the disk",
  ]);
});
