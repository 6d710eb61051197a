/** Storage in memory. It passes the same contracts as the real ones, so that tests above storage need no disk. */
import { readFile, unlink } from "node:fs/promises";
import type { ByteStream } from "../../src/base/byte-stream.ts";
import type { CallOptions } from "../../src/base/call.ts";
import { type Digest, digestAlgorithm, digestOf } from "../../src/oci/digest.ts";
import { type BlobStat, type BlobStore, type OpenBlob, StorageError } from "../../src/storage/blob-store.ts";
import { checkKey } from "../../src/storage/layout.ts";
import type { ObjectStat, SmallObjects } from "../../src/storage/small-objects.ts";

/** Bytes per chunk: small, so that tests see bodies in several chunks. */
const CHUNK = 16 << 10;

/** @param nowMs the time at which blobs count as stored; 0 unless it is told */
export function createMemoryBlobStore(nowMs: () => number = () => 0): BlobStore {
  const blobs = new Map<Digest, Uint8Array>();
  const storedAtMs = new Map<Digest, number>();
  const keep = (digest: Digest, bytes: Uint8Array): void => {
    if (!blobs.has(digest)) storedAtMs.set(digest, nowMs());
    blobs.set(digest, bytes);
  };
  const describe = (digest: Digest, { length }: Uint8Array): BlobStat => ({
    digest,
    size: length,
    occupied: length,
    storedAtMs: storedAtMs.get(digest) ?? 0,
  });
  return {
    name: "memory",

    async stat(digest, o): Promise<BlobStat | undefined> {
      o.signal.throwIfAborted();
      const bytes = blobs.get(digest);
      return bytes === undefined ? undefined : describe(digest, bytes);
    },

    async open(digest, o): Promise<OpenBlob | undefined> {
      o.signal.throwIfAborted();
      const bytes = blobs.get(digest);
      return bytes === undefined ? undefined : openBytes(bytes);
    },

    async put(digest, bytes, o): Promise<void> {
      o.signal.throwIfAborted();
      if (digestOf(bytes, digestAlgorithm(digest)) !== digest) {
        throw new StorageError("corrupt", `the content to be kept as ${digest} has another digest`);
      }
      keep(digest, Uint8Array.from(bytes));
    },

    async ingest(digest, path, o): Promise<void> {
      o.signal.throwIfAborted();
      let bytes: Uint8Array;
      try {
        bytes = await readFile(path);
      } catch (error) {
        throw new StorageError("unavailable", `taking over blob ${digest} from ${path}`, error);
      }
      if (bytes.length === 0 && digest !== digestOf(bytes, digestAlgorithm(digest))) {
        throw new StorageError("corrupt", `${path} is empty, which ${digest} is not`);
      }
      keep(digest, bytes);
      await unlink(path);
    },

    async delete(digest, o): Promise<boolean> {
      o.signal.throwIfAborted();
      return blobs.delete(digest);
    },

    async *list(o): AsyncIterable<BlobStat> {
      for (const [digest, bytes] of [...blobs]) {
        o.signal.throwIfAborted();
        yield describe(digest, bytes);
      }
    },

    async overhead(o): Promise<number> {
      o.signal.throwIfAborted();
      return 0;
    },

    async *leftOvers(): AsyncIterable<never> {},

    async close(): Promise<void> {},
  };
}

function openBytes(bytes: Uint8Array): OpenBlob {
  let closed = false;
  async function* read(start: number, end: number, signal: AbortSignal): ByteStream {
    if (closed) throw new StorageError("unavailable", "the blob was closed");
    // One buffer for all chunks, as a real store has it: a consumer that keeps a chunk is found out.
    const buffer = Buffer.alloc(Math.min(CHUNK, end - start));
    for (let position = start; position < end; position += CHUNK) {
      signal.throwIfAborted();
      const part = bytes.subarray(position, Math.min(position + CHUNK, end));
      buffer.set(part);
      yield buffer.subarray(0, part.length);
    }
  }
  return {
    size: bytes.length,
    // What is held is never changed in place.
    version: "",
    read(start: number, end: number, o: CallOptions): ByteStream {
      if (
        !Number.isSafeInteger(start) ||
        !Number.isSafeInteger(end) ||
        start < 0 ||
        start > end ||
        end > bytes.length
      ) {
        throw new RangeError(`bytes ${start} to ${end} of ${bytes.length}`);
      }
      return read(start, end, o.signal);
    },
    async close(): Promise<void> {
      closed = true;
    },
  };
}

/** @param nowMs the time at which objects count as written; 0 unless it is told */
export function createMemorySmallObjects(nowMs: () => number = () => 0): SmallObjects {
  const objects = new Map<string, Uint8Array>();
  const changedAtMs = new Map<string, number>();
  return {
    async get(key, o): Promise<Uint8Array | undefined> {
      o.signal.throwIfAborted();
      const bytes = objects.get(checked(key));
      return bytes === undefined ? undefined : Uint8Array.from(bytes);
    },

    async put(key, bytes, o): Promise<void> {
      o.signal.throwIfAborted();
      objects.set(checked(key), Uint8Array.from(bytes));
      changedAtMs.set(key, nowMs());
    },

    async stat(key, o): Promise<ObjectStat | undefined> {
      o.signal.throwIfAborted();
      const bytes = objects.get(checked(key));
      return bytes === undefined ? undefined : { occupied: bytes.length, changedAtMs: changedAtMs.get(key) ?? 0 };
    },

    async delete(key, o): Promise<boolean> {
      o.signal.throwIfAborted();
      return objects.delete(checked(key));
    },

    async *list(prefix, o): AsyncIterable<string> {
      if (!prefix.endsWith("/")) throw new RangeError(`a prefix ends in "/": ${JSON.stringify(prefix)}`);
      checked(prefix.slice(0, -1));
      const names = new Set<string>();
      for (const key of objects.keys()) {
        if (key.startsWith(prefix)) names.add(key.slice(prefix.length).replace(/\/.*/, "/"));
      }
      for (const name of names) {
        o.signal.throwIfAborted();
        yield name;
      }
    },
  };
}

function checked(key: string): string {
  checkKey(key);
  return key;
}
