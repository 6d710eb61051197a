import { open, opendir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { type Digest, digestAlgorithm, digestOf, isDigest } from "../../oci/digest.ts";
import { type BlobStat, type BlobStore, type OpenBlob, StorageError, type StoreLeftOver } from "../blob-store.ts";
import { BLOBS_PREFIX, blobKey } from "../layout.ts";
import {
  copyToTemporary,
  discard,
  makeTemporaryFolder,
  occupiedBy,
  pathInRoot,
  publish,
  removeFile,
  writeTemporary,
} from "./durable.ts";
import { asStorageError, errnoOf, isMissing } from "./errno.ts";
import { FsOpenBlob } from "./fs-open-blob.ts";
import { KeptFiles } from "./kept-files.ts";
import { fsLeftOvers } from "./left-overs.ts";
import { ReadBuffers } from "./read-buffers.ts";
import { SharedChunks } from "./shared-chunks.ts";

/** Each blob's. */
const OWN_FOLDER = { own: true };

export interface FsBlobStoreOptions {
  readonly root: string;
  readonly log: Log;
  readonly clock: Clock;
  /** As {@link KeptFilesDeps.remote}. */
  readonly remote?: boolean;
}

/** Blobs in files below `root`. Whoever runs a server on them holds the root (`openRoot`). */
export async function createFsBlobStore(o: FsBlobStoreOptions): Promise<BlobStore> {
  const root = resolve(o.root);
  await makeTemporaryFolder(root);
  return new FsBlobStore({ ...o, root });
}

class FsBlobStore implements BlobStore {
  readonly name = "filesystem";
  readonly #root: string;
  readonly #log: Log;
  readonly #buffers = new ReadBuffers();
  readonly #chunks = new SharedChunks(this.#buffers);
  readonly #files: KeptFiles;

  constructor({ root, log, clock, remote }: FsBlobStoreOptions) {
    this.#root = root;
    this.#log = log;
    this.#files = new KeptFiles({ clock, remote, closing: (file) => this.#chunks.forget(file) });
  }

  async stat(digest: Digest, o: CallOptions): Promise<BlobStat | undefined> {
    o.signal.throwIfAborted();
    return this.#stat(digest);
  }

  async open(digest: Digest, o: CallOptions): Promise<OpenBlob | undefined> {
    o.signal.throwIfAborted();
    try {
      const file = await this.#files.open(this.#path(digest), (stats) => heldSize(digest, stats) !== undefined);
      return file && new FsOpenBlob(digest, file, { buffers: this.#buffers, chunks: this.#chunks });
    } catch (error) {
      throw asStorageError(error, `opening blob ${digest}`);
    }
  }

  async put(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<void> {
    o.signal.throwIfAborted();
    if (digestOf(bytes, digestAlgorithm(digest)) !== digest) {
      throw new StorageError("corrupt", `the content to be kept as ${digest} has another digest`);
    }
    try {
      if (await this.#holdsExactly(digest, bytes, o)) return;
      const temporary = await writeTemporary(this.#root, bytes);
      await this.#publishOrDiscard(temporary, digest);
    } catch (error) {
      throw asStorageError(error, `writing blob ${digest}`);
    }
  }

  async ingest(digest: Digest, path: string, o: CallOptions): Promise<void> {
    o.signal.throwIfAborted();
    try {
      await this.#ingest(digest, path, o);
    } catch (error) {
      throw asStorageError(error, `taking over blob ${digest} from ${path}`);
    }
  }

  async delete(digest: Digest, o: CallOptions): Promise<boolean> {
    o.signal.throwIfAborted();
    try {
      // A blob that a power cut brings back is still the right one.
      const path = this.#path(digest);
      const removed = await removeFile(this.#root, path, { durable: false });
      await this.#files.drop(path);
      return removed;
    } catch (error) {
      throw asStorageError(error, `deleting blob ${digest}`);
    }
  }

  async *list(o: CallOptions): AsyncIterable<BlobStat> {
    const blobs = join(this.#root, BLOBS_PREFIX);
    for await (const algorithm of folderNames(blobs)) {
      for await (const shard of folderNames(join(blobs, algorithm))) {
        for await (const hex of folderNames(join(blobs, algorithm, shard))) {
          o.signal.throwIfAborted();
          const digest = `${algorithm}:${hex}`;
          if (!isDigest(digest) || !hex.startsWith(shard)) continue;
          const found = await this.#stat(digest);
          if (found !== undefined) yield found;
        }
      }
    }
  }

  async overhead(o: CallOptions): Promise<number> {
    const blobs = join(this.#root, BLOBS_PREFIX);
    let bytes = await folderBytes(blobs);
    for await (const algorithm of folderNames(blobs)) {
      bytes += await folderBytes(join(blobs, algorithm));
      for await (const shard of folderNames(join(blobs, algorithm))) {
        o.signal.throwIfAborted();
        bytes += await folderBytes(join(blobs, algorithm, shard));
      }
    }
    return bytes;
  }

  leftOvers(o: CallOptions): AsyncIterable<StoreLeftOver> {
    return fsLeftOvers(this.#root, o);
  }

  async close(): Promise<void> {
    await this.#files.close();
    this.#buffers.clear();
  }

  #path(digest: Digest): string {
    return pathInRoot(this.#root, blobKey(digest));
  }

  async #stat(digest: Digest): Promise<BlobStat | undefined> {
    const path = this.#path(digest);
    try {
      const [file, folder] = await Promise.all([stat(path), stat(dirname(path))]);
      const size = heldSize(digest, file);
      if (size === undefined) return undefined;
      // Not the time of the last write, which a file keeps when it is copied or linked here: what is young must look young.
      return { digest, size, occupied: occupiedBy(file) + occupiedBy(folder), storedAtMs: Math.floor(file.ctimeMs) };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw asStorageError(error, `looking for blob ${digest}`);
    }
  }

  async #sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      return heldSize(digest, await stat(this.#path(digest)));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw asStorageError(error, `looking for blob ${digest}`);
    }
  }

  async #ingest(digest: Digest, path: string, o: CallOptions): Promise<void> {
    const source = await open(path, "r");
    try {
      const size = heldSize(digest, await source.stat());
      if (size === undefined) throw new StorageError("corrupt", `${path} is empty, which ${digest} is not`);
      // A held file of another size was cut short by an accident: this is the chance to put it right.
      if ((await this.#sizeOf(digest)) !== size) {
        await source.datasync();
        if (await this.#moveIn(digest, path)) return;
        const temporary = await copyToTemporary(this.#root, source, o.signal);
        await this.#publishOrDiscard(temporary, digest);
      }
    } finally {
      await source.close();
    }
    await removeFile(dirname(path), path, { durable: false });
  }

  /** Publishes the file itself; false when it lies on another device. */
  async #moveIn(digest: Digest, path: string): Promise<boolean> {
    try {
      await publish(path, this.#path(digest), OWN_FOLDER);
      return true;
    } catch (error) {
      if (errnoOf(error) === "EXDEV") return false;
      throw error;
    }
  }

  async #publishOrDiscard(temporary: string, digest: Digest): Promise<void> {
    try {
      await publish(temporary, this.#path(digest), OWN_FOLDER);
    } catch (error) {
      await discard(temporary);
      throw error;
    }
  }

  /** Compares the bytes, so that a file which was damaged is written anew. */
  async #holdsExactly(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<boolean> {
    const held = await this.open(digest, o);
    if (held === undefined) return false;
    try {
      if (held.size !== bytes.length) return false;
      let position = 0;
      for await (const chunk of held.read(0, held.size, o)) {
        if (Buffer.compare(chunk, bytes.subarray(position, position + chunk.length)) !== 0) {
          this.#log.warn({ digest }, "a held blob was damaged and is written anew");
          return false;
        }
        position += chunk.length;
      }
      return true;
    } finally {
      await held.close();
    }
  }
}

/** An empty file is what a crash before the data were synced leaves behind: it is a blob only where nothing is the content. */
function heldSize(digest: Digest, file: { isFile(): boolean; size: number | bigint }): number | undefined {
  if (!file.isFile()) throw new StorageError("corrupt", `blob ${digest} is not a file`);
  const size = Number(file.size);
  if (size === 0 && digest !== digestOf(new Uint8Array(), digestAlgorithm(digest))) return undefined;
  return size;
}

/** What a folder itself takes up. */
async function folderBytes(path: string): Promise<number> {
  try {
    return occupiedBy(await stat(path));
  } catch (error) {
    if (isMissing(error)) return 0;
    throw asStorageError(error, `measuring ${path}`);
  }
}

async function* folderNames(path: string): AsyncIterable<string> {
  try {
    for await (const entry of await opendir(path)) if (entry.isDirectory()) yield entry.name;
  } catch (error) {
    if (!isMissing(error)) throw asStorageError(error, `listing ${path}`);
  }
}
