import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { ByteStream } from "../../base/byte-stream.ts";
import type { CallOptions } from "../../base/call.ts";
import type { Log } from "../../base/log.ts";
import { SingleFlight } from "../../base/single-flight.ts";
import type { Digest } from "../../oci/digest.ts";
import { type BlobStat, type BlobStore, type OpenBlob, StorageError, type StoreLeftOver } from "../blob-store.ts";
import { blobKey } from "../layout.ts";
import type { BucketBlobStore } from "../s3/s3-blob-store.ts";
import { Carries, type DiskRoom } from "./carries.ts";
import type { Errand, Sent, UploadQueue } from "./upload-queue.ts";

export interface TieredBlobStoreDeps {
  readonly disk: BlobStore;
  readonly bucket: BlobStore;
  readonly queue: UploadQueue;
  /** The disk's root. */
  readonly root: string;
  readonly room: DiskRoom;
  readonly log: Log;
}

/**
 * A disk in front of a bucket. What is kept goes to the disk, and from there to the bucket behind everybody's back; what only
 * the bucket has comes to lie on the disk when it is read. Without the bucket there is what the disk has.
 */
export function createTieredBlobStore(deps: TieredBlobStoreDeps): BlobStore {
  return new TieredBlobStore(deps);
}

class TieredBlobStore implements BlobStore {
  readonly name = "tiered";
  readonly #deps: TieredBlobStoreDeps;
  readonly #carries: Carries;
  readonly #opening = new SingleFlight<OpenBlob | undefined>();

  constructor(deps: TieredBlobStoreDeps) {
    this.#deps = deps;
    this.#carries = new Carries({
      ...deps,
      isDeleted: async (digest, o) => (await deps.queue.errand(blobKey(digest), o)) === "delete",
      damaged: async (digest, o) => {
        deps.log.error({ digest }, "a blob in the bucket is damaged: deleting it, so that it is fetched again");
        await deps.bucket.delete(digest, o);
      },
    });
  }

  async stat(digest: Digest, o: CallOptions): Promise<BlobStat | undefined> {
    return (
      (await this.#deps.disk.stat(digest, o)) ?? (await this.#behind(digest, o, (bucket) => bucket.stat(digest, o)))
    );
  }

  async open(digest: Digest, o: CallOptions): Promise<OpenBlob | undefined> {
    const { disk } = this.#deps;
    const near = await disk.open(digest, o);
    if (near !== undefined) return near;
    const far = await this.#behind(digest, o, (bucket) => this.#openBehind(bucket, digest, o));
    if (far === undefined) return undefined;
    this.#deps.room.used(digest);
    return new CarriedBlob(digest, far, this.#carries);
  }

  async put(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<void> {
    const { disk } = this.#deps;
    const write = (): Promise<void> => disk.put(digest, bytes, o);
    await this.#keep(digest, bytes.length, write, o);
  }

  async ingest(digest: Digest, path: string, o: CallOptions): Promise<void> {
    const { disk } = this.#deps;
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    await this.#keep(digest, size, () => disk.ingest(digest, path, o), o);
  }

  async delete(digest: Digest, o: CallOptions): Promise<boolean> {
    const { disk, queue } = this.#deps;
    const wasBehind = (await this.#behind(digest, o, (bucket) => bucket.stat(digest, o))) !== undefined;
    const wasHere = await queue.through(blobKey(digest), { ...o, errand: "delete" }, async () => {
      await this.#carries.drop(digest);
      return await disk.delete(digest, o);
    });
    return wasHere || wasBehind;
  }

  async *list(o: CallOptions): AsyncIterable<BlobStat> {
    const { disk, bucket, queue } = this.#deps;
    const listed = new Set<Digest>();
    // Before the bucket is asked: what is not among them any more, it has lost.
    const deleted = queue.deletions();
    for await (const found of disk.list(o)) {
      listed.add(found.digest);
      yield found;
    }
    for await (const found of bucket.list(o)) {
      if (!listed.has(found.digest) && !deleted.has(blobKey(found.digest))) yield found;
    }
  }

  overhead(o: CallOptions): Promise<number> {
    return this.#deps.disk.overhead(o);
  }

  async *leftOvers(o: CallOptions): AsyncIterable<StoreLeftOver> {
    yield* this.#deps.disk.leftOvers(o);
    yield* this.#deps.bucket.leftOvers(o);
  }

  async close(): Promise<void> {
    await this.#carries.close();
  }

  /** What is on the disk already is in the bucket, or on its way there. */
  async #keep(digest: Digest, bytes: number, write: () => Promise<void>, o: CallOptions): Promise<void> {
    const { disk, queue } = this.#deps;
    const isHeld = (await disk.stat(digest, o)) !== undefined;
    if (isHeld && (await queue.errand(blobKey(digest), o)) !== "delete") return await write();
    await queue.through(blobKey(digest), { ...o, errand: "keep", bytes }, write);
  }

  /** One request for all who ask at once. What it gives holds nothing, and need not be closed. */
  async #openBehind(bucket: BlobStore, digest: Digest, o: CallOptions): Promise<OpenBlob | undefined> {
    const { value } = await this.#opening.run(digest, o, (signal) => bucket.open(digest, { signal }));
    return value;
  }

  /** Undefined, too, where the bucket cannot be asked. */
  async #behind<T>(
    digest: Digest,
    o: CallOptions,
    ask: (bucket: BlobStore) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const { bucket, queue, log } = this.#deps;
    if ((await queue.errand(blobKey(digest), o)) === "delete") return undefined;
    try {
      return await ask(bucket);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      log.debug({ err: error, digest }, "S3 cannot be asked for a blob: it counts as not held");
      return undefined;
    }
  }
}

/** Has the bucket do what waits for it. */
export async function sendBlob(
  digest: Digest,
  errand: Errand,
  { disk, bucket, root }: { readonly disk: BlobStore; readonly bucket: BucketBlobStore; readonly root: string },
  o: CallOptions,
): Promise<Sent> {
  if ((await disk.stat(digest, o)) !== undefined) {
    await bucket.upload(digest, join(root, blobKey(digest)), o);
    return "sent";
  }
  if (errand === "keep") return "absent";
  await bucket.delete(digest, o);
  return "sent";
}

/** A blob that was in the bucket only when it was opened. */
class CarriedBlob implements OpenBlob {
  readonly size: number;
  readonly version: string;
  readonly #digest: Digest;
  readonly #far: OpenBlob;
  readonly #carries: Carries;
  #closed = false;

  constructor(digest: Digest, far: OpenBlob, carries: Carries) {
    this.size = far.size;
    this.version = far.version;
    this.#digest = digest;
    this.#far = far;
    this.#carries = carries;
  }

  read(start: number, end: number, o: CallOptions): ByteStream {
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || start > end || end > this.size) {
      throw new RangeError(`bytes ${start} to ${end} of ${this.size}`);
    }
    if (this.#closed) return closed(this.#digest);
    return this.#carries.read(this.#digest, this.#far, start, end, o);
  }

  /** The object stays open while it is on its way: the bucket's holds nothing. */
  async close(): Promise<void> {
    this.#closed = true;
  }
}

// biome-ignore lint/correctness/useYield: a stream that has nothing to give
async function* closed(digest: Digest): AsyncGenerator<Uint8Array, void, undefined> {
  throw new StorageError("unavailable", `blob ${digest} was closed`);
}
