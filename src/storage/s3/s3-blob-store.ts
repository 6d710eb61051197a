import type { CallOptions } from "../../base/call.ts";
import type { Log } from "../../base/log.ts";
import { type Digest, digestAlgorithm, digestOf } from "../../oci/digest.ts";
import {
  type BlobStat,
  type BlobStore,
  type OpenBlob,
  type PendingBlob,
  StorageError,
  type StoreLeftOver,
} from "../blob-store.ts";
import { BLOBS_PREFIX, blobKey, parseKey, REPOSITORIES_PREFIX, repoOfPlace } from "../layout.ts";
import type { LinkedName } from "../repositories.ts";
import type { Bucket, ObjectInfo } from "./bucket.ts";
import { S3OpenBlob } from "./open-blob.ts";
import { S3PendingBlob } from "./pending-blob.ts";
import type { RetryDeps } from "./retrying.ts";

/** Seconds for which a presigned address is good: long enough for a client to begin, whatever it does first. */
export const PRESIGNED_S = 600;

export interface S3BlobStoreDeps extends RetryDeps {
  /** Stays open when the store is closed. */
  readonly bucket: Bucket;
  /** Held blobs can be had by a presigned address. */
  readonly redirect: boolean;
  readonly log: Log;
}

export interface BucketBlobStore extends BlobStore {
  /** As {@link BlobStore.ingest}, but leaves the file where it is. */
  upload(digest: Digest, path: string, o: CallOptions): Promise<void>;
  /** Deletes the blob, unless it was put there after `untilMs`, by the server's clock: then somebody wants it anew. */
  deleteOlder(digest: Digest, untilMs: number, o: CallOptions): Promise<Deletion>;
  /** Every link of a repository, by as few requests as it takes to list their keys. */
  links(o: CallOptions): AsyncIterable<LinkedName>;
}

export type Deletion = "deleted" | "absent" | "newer";

/** Blobs as objects of a bucket, under the keys that they have as files below a root. */
export function createS3BlobStore(deps: S3BlobStoreDeps): BucketBlobStore {
  return new S3BlobStore(deps);
}

class S3BlobStore implements BucketBlobStore {
  readonly name = "s3";
  readonly #deps: S3BlobStoreDeps;

  constructor(deps: S3BlobStoreDeps) {
    this.#deps = deps;
  }

  async stat(digest: Digest, o: CallOptions): Promise<BlobStat | undefined> {
    const found = await this.#find(digest, o);
    return found === undefined ? undefined : statOf(digest, found);
  }

  async open(digest: Digest, o: CallOptions): Promise<OpenBlob | undefined> {
    const found = await this.#find(digest, o);
    if (found === undefined) return undefined;
    const { bucket, clock, random, redirect } = this.#deps;
    return new S3OpenBlob({ bucket, clock, random, digest, found, presignS: redirect ? PRESIGNED_S : undefined });
  }

  async put(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<void> {
    o.signal.throwIfAborted();
    if (digestOf(bytes, digestAlgorithm(digest)) !== digest) {
      throw new StorageError("corrupt", `the content to be kept as ${digest} has another digest`);
    }
    if (!(await this.#holdsExactly(digest, bytes, o))) await this.#deps.bucket.put(blobKey(digest), bytes, o);
  }

  async ingest(digest: Digest, path: string, o: CallOptions): Promise<void> {
    o.signal.throwIfAborted();
    await this.begin(digest, path).complete(o);
  }

  begin(digest: Digest, path: string): PendingBlob {
    const { bucket, log } = this.#deps;
    return new S3PendingBlob({ bucket, digest, path, log });
  }

  async upload(digest: Digest, path: string, o: CallOptions): Promise<void> {
    o.signal.throwIfAborted();
    const { bucket, log } = this.#deps;
    await new S3PendingBlob({ bucket, digest, path, leavesFile: true, log }).complete(o);
  }

  async delete(digest: Digest, o: CallOptions): Promise<boolean> {
    const { bucket } = this.#deps;
    // The answer to a DELETE does not tell whether there was something.
    const found = await bucket.head(blobKey(digest), o);
    if (found !== undefined) await bucket.delete(blobKey(digest), o);
    return found !== undefined;
  }

  async deleteOlder(digest: Digest, untilMs: number, o: CallOptions): Promise<Deletion> {
    const { bucket } = this.#deps;
    const found = await bucket.head(blobKey(digest), o);
    if (found === undefined) return "absent";
    if (found.changedAtMs > untilMs) return "newer";
    await bucket.delete(blobKey(digest), o);
    return "deleted";
  }

  async *links(o: CallOptions): AsyncIterable<LinkedName> {
    for await (const { key } of this.#deps.bucket.list(REPOSITORIES_PREFIX, o)) {
      const parsed = parseKey(key);
      if (parsed?.kind !== "layer" && parsed?.kind !== "revision") continue;
      const repo = repoOfPlace(parsed.place);
      if (repo !== undefined) yield { repo, link: { kind: parsed.kind, digest: parsed.digest } };
    }
  }

  async *list(o: CallOptions): AsyncIterable<BlobStat> {
    for await (const { key, ...found } of this.#deps.bucket.list(BLOBS_PREFIX, o)) {
      const digest = digestOfKey(key);
      if (digest !== undefined && isWhole(digest, found)) yield statOf(digest, found);
    }
  }

  async overhead(o: CallOptions): Promise<number> {
    o.signal.throwIfAborted();
    return 0;
  }

  /** Uploads that nobody has finished. Those to other keys are not ours: a stock registry uploads elsewhere. */
  async *leftOvers(o: CallOptions): AsyncIterable<StoreLeftOver> {
    const { bucket } = this.#deps;
    for await (const { key, id, startedAtMs } of bucket.uploads(BLOBS_PREFIX, o)) {
      if (digestOfKey(key) === undefined) continue;
      yield {
        key,
        // Listing its parts would take a request for each upload.
        occupied: 0,
        changedAtMs: startedAtMs,
        async remove(call: CallOptions): Promise<boolean> {
          await bucket.abortUpload(key, id, call);
          return true;
        },
      };
    }
  }

  async close(): Promise<void> {}

  async #find(digest: Digest, o: CallOptions): Promise<ObjectInfo | undefined> {
    const found = await this.#deps.bucket.head(blobKey(digest), o);
    return found !== undefined && isWhole(digest, found) ? found : undefined;
  }

  /** Compares the bytes, so that an object which was damaged is written anew. */
  async #holdsExactly(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<boolean> {
    const { bucket, log } = this.#deps;
    const found = await this.#find(digest, o);
    if (found === undefined) return false;
    if (found.size === bytes.length) {
      const held = await bucket.read(blobKey(digest), bytes.length, o);
      if (held !== undefined && Buffer.compare(held, bytes) === 0) return true;
    }
    log.warn({ digest }, "a held blob was damaged and is written anew");
    return false;
  }
}

/** An empty object is a blob only where nothing is the content. */
function isWhole(digest: Digest, { size }: ObjectInfo): boolean {
  return size > 0 || digest === digestOf(new Uint8Array(), digestAlgorithm(digest));
}

function statOf(digest: Digest, { size, changedAtMs }: ObjectInfo): BlobStat {
  return { digest, size, occupied: size, storedAtMs: changedAtMs };
}

function digestOfKey(key: string): Digest | undefined {
  const parsed = parseKey(key);
  return parsed?.kind === "blob" ? parsed.digest : undefined;
}
