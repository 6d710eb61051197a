import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ByteStream } from "../../src/base/byte-stream.ts";
import { type Digest, digestOf, parseDigest } from "../../src/oci/digest.ts";
import type { BlobStore, OpenBlob } from "../../src/storage/blob-store.ts";
import { seededBytes } from "../support/images.ts";
import { until } from "../support/processes.ts";

/** A store under test with what only its own test can know. */
export interface StoreUnderTest {
  readonly store: BlobStore;
  /** Whatever lies about that is no blob: temporary files, open handles. Asked after every case, must be empty. */
  leftovers(): Promise<readonly string[]>;
  dispose(): Promise<void>;
}

const EMPTY = parseDigest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
const OPERATIONS = 1000;

/** What every {@link BlobStore} promises. `create` makes an empty one. */
export function blobStoreContract(o: {
  name: string;
  /** Reads of a blob that is deleted meanwhile may fail. */
  losesDeleted?: boolean;
  create(): Promise<StoreUnderTest>;
}): void {
  describe(`BlobStore contract: ${o.name}`, () => {
    const call = { signal: new AbortController().signal };
    let under: StoreUnderTest;
    let store: BlobStore;
    let spool: string;

    beforeEach(async () => {
      under = await o.create();
      store = under.store;
      spool = await mkdtemp(join(tmpdir(), "weir-contract-"));
    });

    afterEach(async () => {
      await store.close();
      const leftovers = await under.leftovers();
      await under.dispose();
      await rm(spool, { recursive: true });
      expect(leftovers).toEqual([]);
    });

    /** A finished file, as a fill leaves it. */
    async function spooled(bytes: Uint8Array, name = "finished"): Promise<string> {
      const path = join(spool, name);
      await writeFile(path, bytes);
      return path;
    }

    async function opened(digest: Digest): Promise<OpenBlob> {
      const blob = await store.open(digest, call);
      if (blob === undefined) throw new Error(`${digest} is not held`);
      return blob;
    }

    async function content(digest: Digest): Promise<Buffer | undefined> {
      const blob = await store.open(digest, call);
      if (blob === undefined) return undefined;
      try {
        return await collect(blob.read(0, blob.size, call));
      } finally {
        await blob.close();
      }
    }

    async function listed(): Promise<Record<string, number>> {
      const sizes: Record<string, number> = {};
      for await (const { digest, size } of store.list(call)) sizes[digest] = size;
      return sizes;
    }

    test("what a blob takes up, and since when it is there, is told alike by stat and list", async () => {
      const bytes = seededBytes("occupied", 10_000);
      const digest = digestOf(bytes);
      await store.ingest(digest, await spooled(bytes), call);
      const stat = await store.stat(digest, call);
      expect(stat).toMatchObject({ digest, size: 10_000 });
      expect(stat?.occupied).toBeGreaterThanOrEqual(10_000);
      expect(Number.isSafeInteger(stat?.storedAtMs)).toBe(true);
      for await (const listed of store.list(call)) expect(listed).toEqual(stat);
      expect(await store.overhead(call)).toBeGreaterThanOrEqual(0);
    });

    test("what came to be a blob is not left over, nor is what was deleted", async () => {
      const bytes = seededBytes("left over", 100);
      const digest = digestOf(bytes);
      const leftOver = async (): Promise<string[]> => {
        const keys: string[] = [];
        for await (const { key } of store.leftOvers(call)) keys.push(key);
        return keys;
      };
      // A store that writes behind its answers has something unfinished for a moment.
      const nothingLeft = (): Promise<void> =>
        until("nothing to be left over", async () => (await leftOver()).length === 0);
      await store.put(digest, bytes, call);
      await nothingLeft();
      await store.delete(digest, call);
      await nothingLeft();
    });

    test("what is not held is absent everywhere, and no error", async () => {
      const digest = digestOf(Buffer.from("never kept"));
      expect(await store.stat(digest, call)).toBeUndefined();
      expect(await store.open(digest, call)).toBeUndefined();
      expect(await store.delete(digest, call)).toBe(false);
      expect(await listed()).toEqual({});
    });

    test.each([
      ["one byte", 1],
      ["a manifest", 2_000],
      ["several chunks", 3_000_001],
    ])("B13 put, stat, open, list and delete agree: %s", async (name, length) => {
      const bytes = seededBytes(name, length);
      const digest = digestOf(bytes);
      await store.put(digest, bytes, call);
      expect(await store.stat(digest, call)).toMatchObject({ digest, size: length });
      expect((await content(digest))?.equals(bytes)).toBe(true);
      expect(await listed()).toEqual({ [digest]: length });
      expect(await store.delete(digest, call)).toBe(true);
      expect(await store.delete(digest, call)).toBe(false);
      expect(await store.stat(digest, call)).toBeUndefined();
      expect(await listed()).toEqual({});
    });

    test("B13 the empty blob is held, put or ingested", async () => {
      await store.put(EMPTY, new Uint8Array(), call);
      expect(await store.stat(EMPTY, call)).toMatchObject({ digest: EMPTY, size: 0 });
      expect(await content(EMPTY)).toEqual(Buffer.alloc(0));
      expect(await listed()).toEqual({ [EMPTY]: 0 });
      await store.delete(EMPTY, call);
      await store.ingest(EMPTY, await spooled(new Uint8Array()), call);
      expect(await content(EMPTY)).toEqual(Buffer.alloc(0));
    });

    test("B13 sha512 blobs are kept beside sha256 blobs of the same content", async () => {
      const bytes = seededBytes("sha512", 1_000);
      const long = digestOf(bytes, "sha512");
      const short = digestOf(bytes);
      await store.put(long, bytes, call);
      expect(await store.stat(short, call)).toBeUndefined();
      await store.put(short, bytes, call);
      expect(await listed()).toEqual({ [long]: 1_000, [short]: 1_000 });
      await store.delete(short, call);
      expect((await content(long))?.equals(bytes)).toBe(true);
    });

    test("put refuses bytes of another digest and keeps nothing", async () => {
      const digest = digestOf(Buffer.from("right"));
      await expect(store.put(digest, Buffer.from("wrong"), call)).rejects.toMatchObject({ fault: "corrupt" });
      expect(await store.stat(digest, call)).toBeUndefined();
    });

    test("ingest takes the file over, also when the blob is held already", async () => {
      const bytes = seededBytes("ingest", 700_000);
      const digest = digestOf(bytes);
      for (const name of ["first", "second"]) {
        await store.ingest(digest, await spooled(bytes, name), call);
        expect(await readdir(spool)).toEqual([]);
        expect((await content(digest))?.equals(bytes)).toBe(true);
      }
    });

    test("ingest refuses an empty file for a digest that is not that of nothing, and leaves it", async () => {
      const digest = digestOf(Buffer.from("something"));
      const path = await spooled(new Uint8Array());
      await expect(store.ingest(digest, path, call)).rejects.toMatchObject({ fault: "corrupt" });
      expect(await readFile(path)).toEqual(Buffer.alloc(0));
      expect(await store.stat(digest, call)).toBeUndefined();
    });

    test("ingest of a file that is not there fails", async () => {
      const digest = digestOf(Buffer.from("gone"));
      await expect(store.ingest(digest, join(spool, "gone"), call)).rejects.toMatchObject({ fault: "unavailable" });
      expect(await store.stat(digest, call)).toBeUndefined();
    });

    test("B8 of several ingests of one digest at once each ends well, and one blob is held", async () => {
      const bytes = seededBytes("raced", 500_000);
      const digest = digestOf(bytes);
      const paths = await Promise.all([1, 2, 3, 4].map((writer) => spooled(bytes, `writer-${writer}`)));
      await Promise.all(paths.map((path) => store.ingest(digest, path, call)));
      expect(await readdir(spool)).toEqual([]);
      expect(await listed()).toEqual({ [digest]: bytes.length });
      expect((await content(digest))?.equals(bytes)).toBe(true);
    });

    test("puts of one digest while others open it: it is absent or whole", async () => {
      const bytes = seededBytes("put and open", 300_000);
      const digest = digestOf(bytes);
      const results = await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          if (index % 2 === 0) await store.put(digest, bytes, call);
          return content(digest);
        }),
      );
      for (const [index, read] of results.entries()) {
        if (index % 2 === 0 || read !== undefined) expect(read?.equals(bytes)).toBe(true);
      }
      expect(await listed()).toEqual({ [digest]: bytes.length });
    });

    test("puts and deletes of one digest at once end without an error", async () => {
      const bytes = seededBytes("put and delete", 1_000);
      const digest = digestOf(bytes);
      await Promise.all(
        Array.from({ length: 60 }, (_, index) =>
          index % 3 === 0 ? store.delete(digest, call) : store.put(digest, bytes, call),
        ),
      );
      await store.put(digest, bytes, call);
      expect((await content(digest))?.equals(bytes)).toBe(true);
    });

    /** What a read gives; undefined where the blob was deleted meanwhile, and the store has lost it for its readers too. */
    async function unlessLost(stream: ByteStream): Promise<Buffer | undefined> {
      try {
        return await collect(stream);
      } catch (error) {
        if (o.losesDeleted !== true) throw error;
        expect(error).toMatchObject({ fault: "corrupt" });
        return undefined;
      }
    }

    test("S4 a blob that is deleted stays readable for those who have it open, or they are told", async () => {
      const bytes = seededBytes("deleted", 3_000_000);
      const digest = digestOf(bytes);
      await store.put(digest, bytes, call);
      const blob = await opened(digest);
      async function* deletedOnTheWay(): ByteStream {
        let deleted = false;
        for await (const chunk of blob.read(0, blob.size, call)) {
          yield chunk;
          if (!deleted) expect(await store.delete(digest, call)).toBe(true);
          deleted = true;
        }
      }
      const whole = await unlessLost(deletedOnTheWay());
      const part = await unlessLost(blob.read(10, 20, call));
      if (o.losesDeleted === true) expect(part).toBeUndefined();
      else expect(part?.equals(bytes.subarray(10, 20))).toBe(true);
      if (o.losesDeleted !== true || whole !== undefined) expect(whole?.equals(bytes)).toBe(true);
      await blob.close();
      expect(await store.open(digest, call)).toBeUndefined();
    });

    test("ranges are exact, several reads of one blob run at once", async () => {
      const bytes = seededBytes("ranges", 2_500_000);
      const digest = digestOf(bytes);
      await store.put(digest, bytes, call);
      const blob = await opened(digest);
      const ranges = [
        [0, 0],
        [0, 1],
        [bytes.length, bytes.length],
        [bytes.length - 1, bytes.length],
        [65_535, 65_537],
        [1 << 20, 2 << 20],
        [0, bytes.length],
        [17, bytes.length - 17],
      ] as const;
      const reads = await Promise.all(ranges.map(([start, end]) => collect(blob.read(start, end, call))));
      for (const [index, [start, end]] of ranges.entries()) {
        expect(reads[index]?.equals(bytes.subarray(start, end))).toBe(true);
      }
      await blob.close();
    });

    test.each([
      [-1, 2],
      [2, 1],
      [0, 11],
      [0.5, 2],
      [0, Number.NaN],
    ])("bytes %d to %d of 10 are refused", async (start, end) => {
      const digest = digestOf(Buffer.from("0123456789"));
      await store.put(digest, Buffer.from("0123456789"), call);
      const blob = await opened(digest);
      expect(() => blob.read(start, end, call)).toThrow(RangeError);
      await blob.close();
    });

    test("a chunk holds still until the next one is asked for", async () => {
      const bytes = seededBytes("still", 3_000_000);
      const digest = digestOf(bytes);
      await store.put(digest, bytes, call);
      const blob = await opened(digest);
      let position = 0;
      for await (const chunk of blob.read(0, blob.size, call)) {
        // Other reads of the store meanwhile get buffers of their own.
        await collect(blob.read(0, 200_000, call));
        expect(Buffer.compare(chunk, bytes.subarray(position, position + chunk.length))).toBe(0);
        position += chunk.length;
      }
      expect(position).toBe(bytes.length);
      await blob.close();
    });

    test("readers of one blob at once, wherever they begin and whenever they leave, each get what they asked for", async () => {
      const bytes = seededBytes("together", 6_500_000);
      const digest = digestOf(bytes);
      await store.put(digest, bytes, call);
      const spans = Array.from(
        { length: 12 },
        (_, index) => [index * 400_001, bytes.length - index * 100_003] as const,
      );
      await Promise.all(
        spans.map(async ([start, end], index) => {
          const blob = await opened(digest);
          let position = start;
          for await (const chunk of blob.read(start, end, call)) {
            expect(Buffer.compare(chunk, bytes.subarray(position, position + chunk.length))).toBe(0);
            position += chunk.length;
            if (index % 3 === 2) break;
          }
          if (index % 3 !== 2) expect(position).toBe(end);
          await blob.close();
        }),
      );
    });

    test("a reader that leaves early frees the handle; close is repeatable; a closed blob cannot be read", async () => {
      const bytes = seededBytes("early", 3_000_000);
      const digest = digestOf(bytes);
      await store.put(digest, bytes, call);
      const blob = await opened(digest);
      for await (const _ of blob.read(0, blob.size, call)) break;
      blob.read(0, blob.size, call);
      await Promise.all([blob.close(), blob.close()]);
      await blob.close();
      await expect(collect(blob.read(0, 1, call))).rejects.toMatchObject({ fault: "unavailable" });
    });

    test("an aborted signal ends every call with its reason, a running read at its next chunk", async () => {
      // More than a chunk of any store.
      const bytes = seededBytes("abort", 9_000_000);
      const digest = digestOf(bytes);
      await store.put(digest, bytes, call);
      const path = await spooled(bytes);
      const reason = new Error("the client left");
      const aborted = { signal: AbortSignal.abort(reason) };
      await expect(store.stat(digest, aborted)).rejects.toBe(reason);
      await expect(store.open(digest, aborted)).rejects.toBe(reason);
      await expect(store.put(digest, bytes, aborted)).rejects.toBe(reason);
      await expect(store.ingest(digest, path, aborted)).rejects.toBe(reason);
      await expect(store.delete(digest, aborted)).rejects.toBe(reason);
      await expect(collectNames(store.list(aborted))).rejects.toBe(reason);
      expect(await readdir(spool)).toHaveLength(1);

      const leaving = new AbortController();
      const blob = await opened(digest);
      let chunks = 0;
      const read = async (): Promise<void> => {
        for await (const _ of blob.read(0, blob.size, { signal: leaving.signal })) {
          chunks += 1;
          leaving.abort(reason);
        }
      };
      await expect(read()).rejects.toBe(reason);
      expect(chunks).toBe(1);
      await blob.close();
    });

    test(`B16 ${OPERATIONS} random operations agree with a map`, async () => {
      const contents = Array.from({ length: 6 }, (_, index) => seededBytes(`random ${index}`, 1 + index * 40_000));
      const model = new Map<Digest, Buffer>();
      const handles: { blob: OpenBlob; bytes: Buffer }[] = [];
      const operation = fc.record({
        kind: fc.constantFrom("put", "ingest", "delete", "read", "open", "read open", "close", "list" as const),
        which: fc.nat({ max: contents.length - 1 }),
        from: fc.nat({ max: 250_000 }),
        length: fc.nat({ max: 250_000 }),
      });
      const rounds = 20;
      await fc.assert(
        fc.asyncProperty(
          fc.array(operation, { minLength: OPERATIONS / rounds, maxLength: OPERATIONS / rounds, size: "max" }),
          async (operations) => {
            for (const { kind, which, from, length } of operations) {
              const bytes = contents[which] ?? Buffer.alloc(0);
              const digest = digestOf(bytes);
              if (kind === "put") {
                await store.put(digest, bytes, call);
                model.set(digest, bytes);
              } else if (kind === "ingest") {
                await store.ingest(digest, await spooled(bytes), call);
                model.set(digest, bytes);
              } else if (kind === "delete") {
                expect(await store.delete(digest, call)).toBe(model.delete(digest));
              } else if (kind === "read") {
                const read = await content(digest);
                expect(read === undefined).toBe(!model.has(digest));
                if (read !== undefined) expect(read.equals(bytes)).toBe(true);
              } else if (kind === "open") {
                const blob = await store.open(digest, call);
                expect(blob === undefined).toBe(!model.has(digest));
                if (blob !== undefined) handles.push({ blob, bytes });
              } else if (kind === "read open") {
                const handle = handles[which];
                if (handle === undefined) continue;
                const start = Math.min(from, handle.bytes.length);
                const end = Math.min(start + length, handle.bytes.length);
                const part = await unlessLost(handle.blob.read(start, end, call));
                if (part === undefined) continue;
                expect(part.equals(handle.bytes.subarray(start, end))).toBe(true);
              } else if (kind === "close") {
                await handles.shift()?.blob.close();
              } else {
                expect(await listed()).toEqual(
                  Object.fromEntries([...model].map(([key, value]) => [key, value.length])),
                );
              }
            }
          },
        ),
        { numRuns: rounds, endOnFailure: true },
      );
      for (const { blob } of handles) await blob.close();
    });
  });
}

/** All bytes of a stream, copied. */
export async function collect(stream: ByteStream): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of stream) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

async function collectNames(list: AsyncIterable<{ readonly digest: Digest }>): Promise<Digest[]> {
  const names: Digest[] = [];
  for await (const { digest } of list) names.push(digest);
  return names;
}
