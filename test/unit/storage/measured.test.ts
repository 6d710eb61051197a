import { expect, test } from "vitest";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { type BlobStore, StorageError } from "../../../src/storage/blob-store.ts";
import { measuredBlobs, measuredObjects, type StorageOperation } from "../../../src/storage/measured.ts";
import type { SmallObjects } from "../../../src/storage/small-objects.ts";
import { createMemoryBlobStore, createMemorySmallObjects } from "../../support/memory-store.ts";

const bytes = Buffer.from("content");
const digest: Digest = digestOf(bytes);
const o = { signal: new AbortController().signal };
const broken = new StorageError("unavailable", "the disk is gone");

/** What was reported: an operation with its time, or `!` and what failed. */
function measure() {
  const reported: string[] = [];
  let nowMs = 0;
  return {
    reported,
    deps: {
      observer: {
        storageOperation: (op: StorageOperation, durationMs: number) => void reported.push(`${op} ${durationMs}`),
        storageFailed: (op: StorageOperation) => void reported.push(`!${op}`),
      },
      // Every look at it takes half of an operation's time.
      monotonicMs: () => (nowMs += 5),
    },
  };
}

async function* failing(): AsyncGenerator<never> {
  yield* [];
  throw broken;
}

async function drained(source: AsyncIterable<unknown> | readonly unknown[]): Promise<void> {
  for await (const _ of source);
}

test("what is asked of the store is reported with its time, and answered as by the store", async () => {
  const { reported, deps } = measure();
  const blobs = measuredBlobs(createMemoryBlobStore(), deps);
  const objects = measuredObjects(createMemorySmallObjects(), deps);
  await blobs.put(digest, bytes, o);
  expect(await blobs.stat(digest, o)).toMatchObject({ digest, size: bytes.length });
  const blob = await blobs.open(digest, o);
  const chunks: Uint8Array[] = [];
  for await (const chunk of blob?.read(1, 4, o) ?? []) chunks.push(Buffer.from(chunk));
  expect(Buffer.concat(chunks).toString()).toBe("ont");
  await blob?.close();
  for await (const held of blobs.list(o)) expect(held.digest).toBe(digest);
  expect(await blobs.delete(digest, o)).toBe(true);
  expect(await blobs.open(digest, o)).toBeUndefined();
  await objects.put("a/b", bytes, o);
  expect(Buffer.from((await objects.get("a/b", o)) ?? []).toString()).toBe("content");
  expect(await objects.stat("a/b", o)).toBeDefined();
  for await (const name of objects.list("a/", o)) expect(name).toBe("b");
  expect(await objects.delete("a/b", o)).toBe(true);
  expect(reported).toEqual([
    "blob-put 5",
    "blob-stat 5",
    "blob-open 5",
    "blob-delete 5",
    "blob-open 5",
    "object-put 5",
    "object-get 5",
    "object-stat 5",
    "object-delete 5",
  ]);
});

test("failures are reported, those of bodies and lists too", async () => {
  const { reported, deps } = measure();
  const fail = () => Promise.reject(broken);
  const blobs = measuredBlobs(
    {
      stat: fail,
      list: failing,
      open: async () => ({ size: 1, version: "1", read: failing, close: async () => {} }),
      begin: () => ({ advance() {}, complete: fail, abort: async () => {} }),
    } as unknown as BlobStore,
    deps,
  );
  const objects = measuredObjects({ get: fail, list: failing } as unknown as SmallObjects, deps);
  await expect(blobs.stat(digest, o)).rejects.toBe(broken);
  await expect(drained(blobs.list(o))).rejects.toBe(broken);
  const blob = await blobs.open(digest, o);
  await expect(drained(blob?.read(0, 1, o) ?? [])).rejects.toBe(broken);
  await expect(blobs.begin?.(digest, "spooled").complete(o)).rejects.toBe(broken);
  await expect(objects.get("a", o)).rejects.toBe(broken);
  await expect(drained(objects.list("a/", o))).rejects.toBe(broken);
  expect(reported).toEqual([
    "!blob-stat",
    "blob-stat 5",
    "!blob-list",
    "blob-open 5",
    "!blob-read",
    "!blob-ingest",
    "blob-ingest 5",
    "!object-get",
    "object-get 5",
    "!object-list",
  ]);
});

test("who does not want to know any more is no failure of the store", async () => {
  const { reported, deps } = measure();
  const left = new AbortController();
  const stat = async () => {
    left.abort();
    return left.signal.throwIfAborted() as never;
  };
  const blobs = measuredBlobs({ stat } as unknown as BlobStore, deps);
  await expect(blobs.stat(digest, { signal: left.signal })).rejects.toThrow();
  expect(reported).toEqual(["blob-stat 5"]);
});

test("a store that takes files only when they are whole stays one", () => {
  expect(measuredBlobs(createMemoryBlobStore(), measure().deps).begin).toBeUndefined();
});
