import { describe, expect, test } from "vitest";
import { type Log, silentLog } from "../../../src/base/log.ts";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { BlobIndex, PARTS } from "../../../src/proxy/room-index.ts";
import { encodeRecency, MAX_PART_ENTRIES, parseRecency, Recency } from "../../../src/proxy/room-recency.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { createRoomRecords } from "../../../src/storage/room-records.ts";
import type { SmallObjects } from "../../../src/storage/small-objects.ts";
import { createMemoryBlobStore, createMemorySmallObjects } from "../../support/memory-store.ts";

const call = { signal: new AbortController().signal };

function indexOf(count: number): { index: BlobIndex; digests: Digest[] } {
  const index = new BlobIndex();
  const digests = Array.from({ length: count }, (_, n) => digestOf(Buffer.from(String(n))));
  for (const [n, digest] of digests.entries()) {
    const entry = index.ensure(digest);
    index.setHeld(entry, n);
    index.use(entry, 1_700_000_000_000 + n);
  }
  return { index, digests };
}

function recencyOver(objects: SmallObjects, log: Log = silentLog): Recency {
  return new Recency(createRoomRecords(objects, createMemoryBlobStore()), log);
}

describe("what was used when", () => {
  test("comes back as it was written", () => {
    const { index, digests } = indexOf(2000);
    const parts = Array.from({ length: PARTS }, (_, part) => parseRecency(encodeRecency(index, part)));
    for (const digest of digests) {
      const entry = index.find(digest) ?? -1;
      expect(parts[index.part(entry)]?.usedAtMs(index.prefix(entry))).toBe(index.usedAtMs(entry));
    }
    expect(parts.reduce((sum, part) => sum + (part?.bytes ?? 0), 0)).toBe(index.bytes);
    expect(parts[0]?.usedAtMs(0n)).toBeUndefined();
  });

  test("is not believed where a byte is wrong or the file is cut short", () => {
    const { index } = indexOf(100);
    const whole = encodeRecency(index, 3);
    expect(parseRecency(whole)).toBeDefined();
    for (let length = 0; length < whole.length; length += 1)
      expect(parseRecency(whole.subarray(0, length))).toBeUndefined();
    for (let at = 0; at < whole.length; at += 1) {
      const damaged = Uint8Array.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 0x40;
      expect(parseRecency(damaged)).toBeUndefined();
    }
  });

  test("keeps what was used last where there is too much to note", () => {
    const index = new BlobIndex();
    const count = MAX_PART_ENTRIES + 1000;
    const inPart0 = (n: number) => `sha256:0${digestOf(Buffer.from(String(n))).slice(8)}` as Digest;
    for (let n = 0; n < count; n += 1) {
      const entry = index.ensure(inPart0(n));
      index.setHeld(entry, 1);
      index.use(entry, n);
    }
    const bytes = encodeRecency(index, 0);
    expect(bytes.length).toBeLessThan(1 << 20);
    const part = parseRecency(bytes);
    const usedAtMs = (n: number) => part?.usedAtMs(index.prefix(index.find(inPart0(n)) ?? -1));
    expect([0, 999, 1000, count - 1].map(usedAtMs)).toEqual([undefined, undefined, 1000, count - 1]);
  });
});

describe("the record in storage", () => {
  test("only parts with changes are written", async () => {
    const written: string[] = [];
    const objects = createMemorySmallObjects();
    const { index, digests } = indexOf(300);
    const recency = recencyOver({ ...objects, put: async (key) => void written.push(key) });
    await recency.save(index, call);
    expect(written).toEqual([]);
    const parts = new Set(digests.slice(0, 2).map((digest) => index.part(index.find(digest) ?? -1)));
    for (const part of parts) recency.changed(part);
    await recency.save(index, call);
    await recency.save(index, call);
    expect(written).toHaveLength(parts.size);
  });

  test("a damaged part is left out, and the others count", async () => {
    const objects = createMemorySmallObjects();
    const { index } = indexOf(300);
    const warnings: unknown[] = [];
    const recency = recencyOver(objects, { ...silentLog, warn: (fields) => warnings.push(fields) });
    for (let part = 0; part < PARTS; part += 1) recency.changed(part);
    await recency.save(index, call);
    await objects.put("weir/v1/recency/3", Buffer.from("WEIRREC1 torn"), call);
    await objects.delete("weir/v1/recency/4", call);
    const loaded = await recency.load(call);
    expect([...loaded.keys()]).toEqual([0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    expect(warnings).toEqual([{ part: 3 }]);
  });

  test("what could not be written is written with the next", async () => {
    const { index } = indexOf(300);
    const objects = createMemorySmallObjects();
    let full = true;
    const put: typeof objects.put = async (...args) => {
      if (full) throw new StorageError("no-space", "the disk is full");
      await objects.put(...args);
    };
    const recency = recencyOver({ ...objects, put });
    for (let part = 0; part < PARTS; part += 1) recency.changed(part);
    await recency.save(index, call);
    expect((await recency.load(call)).size).toBe(0);
    full = false;
    await recency.save(index, call);
    expect((await recency.load(call)).size).toBe(PARTS);
  });
});
