import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import type { BlobStore, OpenBlob } from "../../../src/storage/blob-store.ts";
import { createFsBlobStore } from "../../../src/storage/fs/fs-blob-store.ts";
import { blobKey, TEMPORARY_FOLDER } from "../../../src/storage/layout.ts";
import { collect } from "../../contract/blob-store.contract.ts";
import { seededBytes } from "../../support/images.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { filesOpenBelow } from "../../support/open-files.ts";
import { until } from "../../support/processes.ts";

const call = { signal: new AbortController().signal };
const bytes = seededBytes("content", 3_000_000);
const digest = digestOf(bytes);
let root: string;
let store: BlobStore;
let clock: ManualClock;
let warnings: unknown[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "weir-fs-"));
  warnings = [];
  clock = new ManualClock();
  store = await createFsBlobStore({ root, log: { ...silentLog, warn: (fields) => warnings.push(fields) }, clock });
});

afterEach(async () => {
  await store.close();
  expect(await filesOpenBelow(root)).toEqual([]);
  expect(await readdir(join(root, TEMPORARY_FOLDER))).toEqual([]);
  await rm(root, { recursive: true });
});

function fileOf(of: Digest): string {
  return join(root, blobKey(of));
}

async function opened(): Promise<OpenBlob> {
  const blob = await store.open(digest, call);
  if (blob === undefined) throw new Error("not held");
  return blob;
}

async function content(): Promise<Buffer> {
  const blob = await opened();
  try {
    return await collect(blob.read(0, blob.size, call));
  } finally {
    await blob.close();
  }
}

describe("B15 a file that is not what its name says", () => {
  test("missing: absent", async () => {
    await mkdir(dirname(fileOf(digest)), { recursive: true });
    expect(await store.stat(digest, call)).toBeUndefined();
    expect(await store.open(digest, call)).toBeUndefined();
    expect(await store.list(call)[Symbol.asyncIterator]().next()).toMatchObject({ done: true });
  });

  test("empty: absent, never an empty blob, and healed by put and by ingest", async () => {
    await store.put(digest, bytes, call);
    await truncate(fileOf(digest), 0);
    expect(await store.stat(digest, call)).toBeUndefined();
    expect(await store.open(digest, call)).toBeUndefined();
    expect(await store.list(call)[Symbol.asyncIterator]().next()).toMatchObject({ done: true });
    await store.put(digest, bytes, call);
    expect((await content()).equals(bytes)).toBe(true);

    await truncate(fileOf(digest), 0);
    await writeFile(join(root, "spooled"), bytes);
    await store.ingest(digest, join(root, "spooled"), call);
    expect((await content()).equals(bytes)).toBe(true);
  });

  test("short: the size that is left, and healed by put and by ingest", async () => {
    await store.put(digest, bytes, call);
    await truncate(fileOf(digest), 1_000);
    expect(await store.stat(digest, call)).toMatchObject({ digest, size: 1_000 });
    await store.put(digest, bytes, call);
    expect((await content()).equals(bytes)).toBe(true);

    await truncate(fileOf(digest), 1_000);
    await writeFile(join(root, "spooled"), bytes);
    await store.ingest(digest, join(root, "spooled"), call);
    expect((await content()).equals(bytes)).toBe(true);
  });

  test("altered: healed by put, with a word in the log", async () => {
    await store.put(digest, bytes, call);
    const altered = Buffer.from(bytes);
    altered.writeUInt8(altered.readUInt8(2_999_999) ^ 1, 2_999_999);
    await writeFile(fileOf(digest), altered);
    await store.put(digest, bytes, call);
    expect((await content()).equals(bytes)).toBe(true);
    expect(warnings).toEqual([{ digest }]);
  });

  test.each([0, 1, 1 << 20, 2_999_999])(
    "cut to %d bytes while it is open: the read fails as corrupt",
    async (length) => {
      await store.put(digest, bytes, call);
      const blob = await store.open(digest, call);
      await truncate(fileOf(digest), length);
      let read = 0;
      const reading = async (): Promise<void> => {
        for await (const chunk of blob?.read(0, bytes.length, call) ?? []) read += chunk.length;
      };
      await expect(reading()).rejects.toMatchObject({ name: "StorageError", fault: "corrupt" });
      expect(read).toBe(length);
      await blob?.close();
    },
  );

  test("says in which file below the root it is", async () => {
    await store.put(digest, bytes, call);
    const blob = await store.open(digest, call);
    expect((await readFile(join(root, blob?.local ?? ""))).equals(bytes)).toBe(true);
    await blob?.close();
  });

  test("changed in whatever way, and the time of it hidden: another version", async () => {
    await store.put(digest, bytes, call);
    const version = async (): Promise<string | undefined> => {
      const blob = await store.open(digest, call);
      await blob?.close();
      return blob?.version;
    };
    const seen = [await version()];
    expect(await version()).toBe(seen[0]);
    const { atime, mtime } = await stat(fileOf(digest));
    await writeFile(fileOf(digest), Buffer.alloc(bytes.length));
    await utimes(fileOf(digest), atime, mtime);
    seen.push(await version());
    await truncate(fileOf(digest), 1_000);
    seen.push(await version());
    await store.delete(digest, call);
    await store.put(digest, bytes, call);
    seen.push(await version());
    expect(new Set(seen).size).toBe(4);
  });

  test("a folder: corrupt, not absent", async () => {
    await mkdir(fileOf(digest), { recursive: true });
    await expect(store.stat(digest, call)).rejects.toMatchObject({ fault: "corrupt" });
    await expect(store.open(digest, call)).rejects.toMatchObject({ fault: "corrupt" });
  });
});

test("a file where a folder should be is a fault with a sentence, not an absence", async () => {
  await mkdir(join(root, "docker/registry/v2"), { recursive: true });
  await writeFile(join(root, "docker/registry/v2/blobs"), "");
  for (const ask of [
    () => store.stat(digest, call),
    () => store.open(digest, call),
    () => store.put(digest, bytes, call),
  ]) {
    await expect(ask()).rejects.toMatchObject({ fault: "unavailable", message: /a file stands where a folder should/ });
  }
  await writeFile(join(root, "spooled"), bytes);
  await expect(store.ingest(digest, join(root, "spooled"), call)).rejects.toMatchObject({ fault: "unavailable" });
  expect((await stat(join(root, "spooled"))).size).toBe(bytes.length);
});

test("B8 the blob that is held stays: the second writer's file is dropped, not moved over it", async () => {
  await store.put(digest, bytes, call);
  const { ino } = await stat(fileOf(digest));
  await writeFile(join(root, "spooled"), bytes);
  await store.ingest(digest, join(root, "spooled"), call);
  await store.put(digest, bytes, call);
  expect((await stat(fileOf(digest))).ino).toBe(ino);
});

test("an ingested file on the same device is moved, not copied", async () => {
  await writeFile(join(root, "spooled"), bytes);
  const { ino } = await stat(join(root, "spooled"));
  await store.ingest(digest, join(root, "spooled"), call);
  expect((await stat(fileOf(digest))).ino).toBe(ino);
});

test("what does not belong there is not listed", async () => {
  await store.put(digest, bytes, call);
  const blobs = join(root, "docker/registry/v2/blobs");
  const misplaced = digestOf(Buffer.from("in another's folder")).slice("sha256:".length);
  await mkdir(join(blobs, "sha256", "zz", misplaced), { recursive: true });
  await writeFile(join(blobs, "sha256", "zz", misplaced, "data"), "x");
  await mkdir(join(blobs, "md5", "d4", "d41d8cd98f00b204e9800998ecf8427e"), { recursive: true });
  await writeFile(join(blobs, "sha256", "a-file"), "x");
  const held: unknown[] = [];
  for await (const blob of store.list(call)) held.push(blob);
  expect(held).toMatchObject([{ digest, size: bytes.length }]);
});

test("deleting the last blob leaves no folder behind", async () => {
  await store.put(digest, bytes, call);
  await store.delete(digest, call);
  expect(await readdir(root)).toEqual(["weir"]);
});

test("a hundred readers that leave early, and some that never began, share a descriptor, which is closed soon after", async () => {
  await store.put(digest, bytes, call);
  await Promise.all(
    Array.from({ length: 100 }, async (_, index) => {
      const blob = await opened();
      const stream = blob.read(0, blob.size, call);
      if (index % 3 !== 0) for await (const _chunk of stream) if (index % 3 === 1) break;
      await blob.close();
    }),
  );
  expect(await filesOpenBelow(root)).toEqual([fileOf(digest)]);
  for (let second = 0; second < 2; second += 1) {
    await clock.sleeping();
    clock.advance(1_000);
  }
  await until("the descriptor to be closed", async () => (await filesOpenBelow(root)).length === 0);
});

test("S4 a blob that is deleted gives its room back at once, or with its last reader", async () => {
  await store.put(digest, bytes, call);
  await content();
  expect(await filesOpenBelow(root)).toEqual([fileOf(digest)]);
  await store.delete(digest, call);
  expect(await filesOpenBelow(root)).toEqual([]);

  await store.put(digest, bytes, call);
  const blob = await opened();
  await store.delete(digest, call);
  expect(await store.open(digest, call)).toBeUndefined();
  expect((await collect(blob.read(0, blob.size, call))).equals(bytes)).toBe(true);
  await blob.close();
  expect(await filesOpenBelow(root)).toEqual([]);
});

test("S4 a blob that another process deletes is not held any more, whoever still reads it", async () => {
  await store.put(digest, bytes, call);
  const blob = await opened();
  await rm(fileOf(digest));
  expect(await store.open(digest, call)).toBeUndefined();
  expect((await collect(blob.read(0, blob.size, call))).equals(bytes)).toBe(true);
  await blob.close();
  expect(await filesOpenBelow(root)).toEqual([]);
});

test("B15 who opens a blob that was altered or replaced reads what is there now, though others read what was", async () => {
  const [alteration, replacement] = [seededBytes("altered", bytes.length), seededBytes("replaced", bytes.length)];
  await store.put(digest, bytes, call);
  const readers = await Promise.all([opened(), opened()]);
  const read = (): Promise<Buffer[]> => Promise.all(readers.map((blob) => collect(blob.read(0, bytes.length, call))));
  for (const whole of await read()) expect(whole.equals(bytes)).toBe(true);

  await writeFile(fileOf(digest), alteration);
  expect((await content()).equals(alteration)).toBe(true);
  await writeFile(join(root, "replacement"), replacement);
  await rename(join(root, "replacement"), fileOf(digest));
  expect((await content()).equals(replacement)).toBe(true);
  await Promise.all(readers.map((blob) => blob.close()));
  expect(await filesOpenBelow(root)).toEqual([fileOf(digest)]);
});

test("close waits for a read that is under way", async () => {
  await store.put(digest, bytes, call);
  const blob = await opened();
  const reading = collect(blob.read(0, blob.size, call));
  await blob.close();
  expect((await reading).equals(bytes)).toBe(true);
});

test("a lone reader gets large chunks, or a tiny one for a tiny range; several get the same memory", async () => {
  await store.put(digest, bytes, call);
  const blob = await opened();
  const first = async (start: number, end: number): Promise<Uint8Array> => {
    for await (const chunk of blob.read(start, end, call)) return chunk;
    throw new Error("no chunk");
  };
  expect((await first(0, bytes.length)).length).toBe(2 << 20);
  expect((await first(5, 15)).buffer.byteLength).toBe(16 << 10);

  const others = await Promise.all([opened(), opened(), opened()]);
  const streams = others.map((other) => other.read(100, bytes.length, call)[Symbol.asyncIterator]());
  const firsts: (Uint8Array | undefined)[] = [];
  for (const stream of streams) firsts.push((await stream.next()).value);
  const [alone, second, third] = firsts;
  expect(alone?.length).toBe(2 << 20);
  expect(second?.length).toBe((1 << 20) - 100);
  expect(third?.buffer).toBe(second?.buffer);
  expect(third?.buffer).not.toBe(alone?.buffer);
  await Promise.all(streams.map((stream) => stream.return?.()));
  await Promise.all([blob, ...others].map((one) => one.close()));
});

test("content is the same while it becomes known to be at hand, and when it does not any more", async () => {
  await store.put(digest, bytes, call);
  const blob = await opened();
  const parts = Array.from({ length: 40 }, (_, part) => part * 50_000);
  for (const start of parts) {
    if (start === 1_000_000) clock.now = () => performance.now() * 1000;
    const part = await collect(blob.read(start, start + 100_000, call));
    expect(part.equals(bytes.subarray(start, start + 100_000))).toBe(true);
  }
  await blob.close();
});

test("a store may be made over a folder that is not there yet", async () => {
  const fresh = join(root, "not/there/yet");
  const other = await createFsBlobStore({ root: fresh, log: silentLog, clock });
  await other.put(digest, bytes, call);
  expect(await other.stat(digest, call)).toMatchObject({ digest, size: bytes.length });
});
