import { chmod, chown, lstat, mkdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Digest, parseDigest } from "../../../src/oci/digest.ts";
import {
  blobKey,
  layerLinkKey,
  layersMarkKey,
  manifestRecordKey,
  QUARANTINE_PREFIX,
  repoRecordKey,
  revisionLinkKey,
  tagIndexLinkKey,
  tagLinkKey,
  tagRecordKey,
} from "../../../src/storage/layout.ts";
import { type VerifyEvent, type VerifyFinding, type VerifySummary, verifyStore } from "../../../src/storage/verify.ts";
import { type Image, multiArchImage, smallImage } from "../../support/images.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { filesOpenBelow } from "../../support/open-files.ts";
import { toolTest } from "../../support/tools.ts";
import { all, call, createUpkeepStore, digestsOf, type UpkeepStore } from "../../support/upkeep-store.ts";

const REPO = { upstream: "docker.io", repository: "library/app" };
const OTHER = { upstream: "reg.example:5000", repository: "a/b/c" };
/** So fast that nobody waits. */
const UNBOUNDED = 2 ** 50;

let stack: AsyncDisposableStack;
let store: UpkeepStore;
let removed: Digest[];
let image: Image;
/** Later than everything that is written: nothing is young. */
const later = (): ManualClock => new ManualClock(Date.now() + 600_000);

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  store = await createUpkeepStore(stack);
  removed = [];
  image = smallImage("app");
  await store.keep(REPO, ["1"], image);
  await store.keep(OTHER, ["2"], multiArchImage("other"));
});

afterEach(async () => {
  await store.blobs.close();
  expect(await filesOpenBelow(store.root)).toEqual([]);
  await stack.disposeAsync();
});

interface Verified {
  readonly findings: readonly Omit<VerifyFinding, "event" | "detail">[];
  readonly details: string;
  readonly summary: VerifySummary;
}

async function verify(clock = later(), signal = call.signal): Promise<Verified> {
  const events: VerifyEvent[] = await all(
    verifyStore({ ...store, removed: (digest) => removed.push(digest), clock }, { signal, bytesPerS: UNBOUNDED }),
  );
  const summary = events.at(-1);
  if (summary === undefined || !("done" in summary)) throw new Error("no summary");
  const found = events.filter((event) => "event" in event && event.event === "finding");
  return {
    findings: found.map(({ problem, key, action }) => ({ problem, key, action })),
    details: found.map(({ detail }) => detail).join("\n"),
    summary,
  };
}

/** What was planted is found once, and is gone then. */
async function expectFound(...findings: readonly Verified["findings"][number][]): Promise<Verified> {
  const first = await verify();
  expect(first.findings).toEqual(findings);
  expect(first.summary.sound).toBe(findings.every(({ problem }) => problem === "incomplete"));
  const again = await verify();
  expect(again.findings).toEqual(findings.filter(({ action }) => action === "left"));
  return first;
}

const aBlob = (): Digest => parseDigest(image.blobs[0]?.digest ?? "");
const theManifest = (): Digest => parseDigest(image.root.digest);

test("what was kept is sound, and everything is counted", async () => {
  const { findings, summary } = await verify();
  expect(findings).toEqual([]);
  const digests = new Set([...digestsOf(image), ...digestsOf(multiArchImage("other"))]);
  expect(summary).toMatchObject({ done: true, blobs: digests.size, notHeld: 0, found: {}, sound: true });
  expect(summary.bytes).toBeGreaterThan(0);
});

describe("damaged content is put aside and never served", () => {
  async function expectPutAside(digest: Digest, damaged: Uint8Array): Promise<void> {
    const { summary } = await expectFound({ problem: "damaged", key: blobKey(digest), action: "quarantined" });
    expect(summary.notHeld).toBeGreaterThan(0);
    expect(removed).toEqual([digest]);
    expect(await store.blobs.stat(digest, call)).toBeUndefined();
    const [aside] = await all(store.inspector.quarantined(call));
    expect(aside).toMatchObject({ was: blobKey(digest), key: expect.stringContaining(QUARANTINE_PREFIX) });
    expect(await readFile(store.path(aside?.key ?? ""))).toEqual(Buffer.from(damaged));
    expect(await aside?.remove(call)).toBe(true);
    expect(await all(store.inspector.quarantined(call))).toEqual([]);
  }

  test("a flipped byte", async () => {
    const path = store.path(blobKey(aBlob()));
    const bytes = await readFile(path);
    bytes[3] = (bytes[3] ?? 0) ^ 1;
    await writeFile(path, bytes);
    await expectPutAside(aBlob(), bytes);
  });

  test("a file that was cut short", async () => {
    const path = store.path(blobKey(aBlob()));
    await truncate(path, 5);
    await expectPutAside(aBlob(), await readFile(path));
  });

  test("an empty file", async () => {
    await truncate(store.path(blobKey(aBlob())), 0);
    await expectPutAside(aBlob(), new Uint8Array());
  });

  test("a manifest", async () => {
    await writeFile(store.path(blobKey(theManifest())), "{}");
    await expectPutAside(theManifest(), Buffer.from("{}"));
  });
});

test("a missing file is told as not held, and nothing is wrong: it may have been evicted", async () => {
  await store.blobs.delete(aBlob(), call);
  const { summary } = await expectFound();
  expect(summary).toMatchObject({ notHeld: 1, sound: true });
});

test("a blob that is healed while it is read stays", async () => {
  const path = store.path(blobKey(aBlob()));
  const bytes = await readFile(path);
  await writeFile(path, "short");
  const blobs = {
    ...store.blobs,
    list: store.blobs.list.bind(store.blobs),
    stat: store.blobs.stat.bind(store.blobs),
    async open(digest: Digest, o: typeof call) {
      const held = await store.blobs.open(digest, o);
      // Somebody's pull finds the damage first.
      if (digest === aBlob()) await store.blobs.put(digest, bytes, o);
      return held;
    },
  };
  const events = await all(
    verifyStore(
      { ...store, blobs, removed: (digest) => removed.push(digest), clock: later() },
      { ...call, bytesPerS: UNBOUNDED },
    ),
  );
  expect(events.at(-1)).toMatchObject({ sound: true });
  expect(removed).toEqual([]);
  expect(await readFile(path)).toEqual(bytes);
});

describe("links", () => {
  test.each([
    ["an empty one", ""],
    ["one with a newline", "\n"],
    ["another digest", `sha256:${"0".repeat(64)}`],
    ["garbage", "\0\0\0\0"],
  ])("%s holds what its path says again, past any cache", async (_, content) => {
    const keys = [
      layerLinkKey(REPO, aBlob()),
      revisionLinkKey(REPO, theManifest()),
      tagIndexLinkKey(REPO, "1", theManifest()),
    ];
    for (const key of keys) {
      const right = await store.read(key);
      await store.objects.get(key, call);
      await writeFile(store.path(key), content === "\n" ? `${right}\n` : content);
      await expectFound({ problem: "wrong-link", key, action: "repaired" });
      expect(await store.read(key)).toBe(right);
    }
  });

  test("a damaged tag takes the digest of its record, and counts as never checked", async () => {
    await writeFile(store.path(tagLinkKey(REPO, "1")), "");
    await expectFound({ problem: "wrong-link", key: tagLinkKey(REPO, "1"), action: "repaired" });
    const repositories = (await createUpkeepStore(stack, store.root)).repositories;
    expect(await repositories.getTag(REPO, "1", call)).toEqual({ digest: theManifest(), checkedAtMs: 0 });
  });

  test("a damaged tag without a record is removed", async () => {
    await writeFile(store.path(tagLinkKey(REPO, "1")), "sha256:short");
    await rm(store.path(tagRecordKey(REPO, "1")));
    await expectFound({ problem: "wrong-link", key: tagLinkKey(REPO, "1"), action: "removed" });
    expect(await store.repositories.tags(REPO, call)).toEqual([]);
  });

  test("a tag of a manifest that its repository does not have is removed", async () => {
    await store.repositories.unlinkRevision(REPO, theManifest(), call);
    await expectFound({ problem: "dangling-tag", key: tagLinkKey(REPO, "1"), action: "removed" });
    expect(await store.repositories.getTag(REPO, "1", call)).toBeUndefined();
  });

  test("a tag's history without the tag, and the tag's record, are tidied away", async () => {
    await rm(store.path(tagLinkKey(REPO, "1")));
    await expectFound(
      { problem: "incomplete", key: tagIndexLinkKey(REPO, "1", theManifest()), action: "removed" },
      { problem: "incomplete", key: tagRecordKey(REPO, "1"), action: "removed" },
    );
  });

  test("a repository's mark is put back", async () => {
    await rm(store.path(layersMarkKey(REPO)));
    await expectFound({ problem: "incomplete", key: layersMarkKey(REPO), action: "repaired" });
    expect(await store.read(layersMarkKey(REPO))).toBe("");
  });
});

describe("records", () => {
  test("a manifest's record is made anew from the manifest", async () => {
    const key = manifestRecordKey(theManifest());
    const right = JSON.parse(await store.read(key));
    await store.objects.get(key, call);
    for (const [content, problem] of [
      ["{", "bad-record"],
      ['{"mediaType":"a/b","size":1}', "bad-record"],
      [undefined, "incomplete"],
    ] as const) {
      if (content === undefined) await rm(store.path(key));
      else await writeFile(store.path(key), content);
      await expectFound({ problem, key, action: "repaired" });
      expect(JSON.parse(await store.read(key))).toEqual(right);
    }
  });

  test("a tag's record that speaks of another manifest is dropped, the link stands", async () => {
    const digest = parseDigest(`sha256:${"1".repeat(64)}`);
    await writeFile(store.path(tagRecordKey(REPO, "1")), JSON.stringify({ digest, checkedAtMs: 5 }));
    await expectFound({ problem: "incomplete", key: tagRecordKey(REPO, "1"), action: "removed" });
    expect(await store.read(tagLinkKey(REPO, "1"))).toBe(theManifest());
  });

  test("what is no record is removed", async () => {
    await store.repositories.putRepoRecord(REPO, { visibility: "public", visibilityAtMs: 1, provedAtMs: 0 }, call);
    await writeFile(store.path(repoRecordKey(REPO)), "[]");
    await expectFound({ problem: "bad-record", key: repoRecordKey(REPO), action: "removed" });
  });
});

test("what may be half-written is left alone", async () => {
  await rm(store.path(tagRecordKey(REPO, "1")));
  await writeFile(store.path(tagRecordKey(REPO, "3")), JSON.stringify({ digest: theManifest(), checkedAtMs: 5 }));
  await store.repositories.unlinkRevision(REPO, theManifest(), call);
  const { findings } = await verify(new ManualClock(Date.now()));
  expect(findings).toEqual([]);
});

test("foreign files are told and stay", async () => {
  const keys = [
    "docker/registry/v2/blobs/sha256/ab/README",
    "docker/registry/v2/repositories/docker.io/library/app/_layers/notes.txt",
    "docker/registry/v2/repositories/docker.io/library/app/_uploads/7/data",
    "weir/v1/manifests/x",
  ];
  for (const key of keys) {
    await mkdir(dirname(store.path(key)), { recursive: true });
    await writeFile(store.path(key), "mine");
  }
  const { findings, summary } = await verify();
  expect(findings.map(({ key }) => key).sort()).toEqual([...keys].sort());
  expect(findings.every(({ problem, action }) => problem === "foreign" && action === "left")).toBe(true);
  expect(summary).toMatchObject({ found: { foreign: 4 }, sound: false });
  for (const key of keys) expect(await store.read(key)).toBe("mine");
});

test("the repositories of a stock registry in the root are told once each, with what adopts them", async () => {
  for (const name of ["nginx", "library/redis"]) {
    const key = `docker/registry/v2/repositories/${name}/_layers/sha256/${"2".repeat(64)}/link`;
    await mkdir(dirname(store.path(key)), { recursive: true });
    await writeFile(store.path(key), `sha256:${"2".repeat(64)}`);
    await writeFile(store.path(key.replace("/sha256", "/sha256")), `sha256:${"2".repeat(64)}`);
  }
  const { findings, details } = await verify();
  expect(findings.map(({ key }) => key).sort()).toEqual([
    "docker/registry/v2/repositories/library/",
    "docker/registry/v2/repositories/nginx/",
  ]);
  expect(details).toContain("weir import");
});

toolTest(["root"], "a wrong owner or mode is put right, also of folders", async () => {
  const key = blobKey(aBlob());
  const folder = `${dirname(key)}/`;
  await chown(store.path(key), 12_345, 12_345);
  await chown(store.path(folder), 12_345, 12_345);
  await chmod(store.path(tagLinkKey(REPO, "1")), 0o000);
  await expectFound(
    { problem: "access", key: folder, action: "repaired" },
    { problem: "access", key, action: "repaired" },
    { problem: "access", key: tagLinkKey(REPO, "1"), action: "repaired" },
  );
  expect(await lstat(store.path(key))).toMatchObject({ uid: process.getuid?.() });
  expect((await stat(store.path(tagLinkKey(REPO, "1")))).mode & 0o600).toBe(0o600);
});

test("the rate is kept, and progress tells rate and time left", async () => {
  const bytes = Buffer.alloc(256 * 1024, 7);
  const { createHash } = await import("node:crypto");
  const digest = parseDigest(`sha256:${createHash("sha256").update(bytes).digest("hex")}`);
  await store.blobs.put(digest, bytes, call);
  const clock = later();
  const startedMs = clock.now();
  const events: VerifyEvent[] = [];
  let over = false;
  const running = (async () => {
    for await (const event of verifyStore({ ...store, removed: () => {}, clock }, { ...call, bytesPerS: 32 * 1024 })) {
      events.push(event);
    }
    over = true;
  })();
  while (!over) {
    await Promise.race([clock.sleeping(), running]);
    clock.advance(100);
  }
  await running;
  const hashed = (events.at(-1) as VerifySummary).bytes;
  const tookMs = clock.now() - startedMs;
  expect((hashed * 1000) / tookMs).toBeLessThanOrEqual(33 * 1024);
  expect((hashed * 1000) / tookMs).toBeGreaterThan(16 * 1024);
  const progress = events.filter((event) => "event" in event && event.event === "progress");
  expect(progress.length).toBeGreaterThan(0);
  expect(progress.at(-1)).toMatchObject({
    phase: "content",
    bytesPerS: expect.any(Number),
    leftMs: expect.any(Number),
  });
});

test("it ends when it is told to", async () => {
  const controller = new AbortController();
  controller.abort(new Error("enough"));
  await expect(verify(later(), controller.signal)).rejects.toThrow("enough");
});
