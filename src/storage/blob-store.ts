import type { ByteStream } from "../base/byte-stream.ts";
import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";

/**
 * Content by digest. Nothing is visible before it is whole and verified; what is visible never changes.
 * Absence is `undefined`, failure to find out is a {@link StorageError}.
 */
export interface BlobStore {
  readonly name: string;
  /** The blob's size in bytes; undefined when it is not held (a missing or empty file under a link counts as not held, except for the empty blob). */
  stat(digest: Digest, o: CallOptions): Promise<BlobStat | undefined>;
  /**
   * The caller closes what it gets. Where the store can (a filesystem), the handle stays readable when the blob is deleted
   * meanwhile; elsewhere (S3) reads of it then throw `corrupt`.
   */
  open(digest: Digest, o: CallOptions): Promise<OpenBlob | undefined>;
  /** Keeps small content (manifests). Verifies the digest itself; durable when it resolves. A held blob is left as it is. */
  put(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<void>;
  /**
   * Takes over a finished file whose content the caller has verified against `digest`. Durable when it resolves (data
   * synced, renamed or copied, folder synced). The file at `path` is gone afterwards, also when the blob was held already.
   * On failure the file is left where it is.
   */
  ingest(digest: Digest, path: string, o: CallOptions): Promise<void>;
  /**
   * {@link ingest} of a file that is still growing, for stores to which the way is long. Undefined where ingesting is quick.
   * The caller ends it with `complete` or `abort`.
   */
  readonly begin?: ((digest: Digest, path: string) => PendingBlob) | undefined;
  /** True when there was something to delete. */
  delete(digest: Digest, o: CallOptions): Promise<boolean>;
  list(o: CallOptions): AsyncIterable<BlobStat>;
  /** Bytes that the store uses beyond its blobs' `occupied`: of the folders that several share. */
  overhead(o: CallOptions): Promise<number>;
  /** What lies in the store and never became a blob or a link, or holds none any more. */
  leftOvers(o: CallOptions): AsyncIterable<StoreLeftOver>;
  close(): Promise<void>;
}

/** A blob whose file is still growing. Nothing of it can be seen before it is complete. */
export interface PendingBlob {
  /** The first `bytes` bytes of the file are there and will not change; they may be sent ahead. Never throws. */
  advance(bytes: number): void;
  /** The file is whole, and its content verified: as {@link BlobStore.ingest}. When it rejects nothing is left in the store; it may be tried again. */
  complete(o: CallOptions): Promise<void>;
  /** When it resolves the file is not read any more, and nothing is left of what was sent. Never rejects. Repeatable. */
  abort(): Promise<void>;
}

export interface BlobStat {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** Bytes that the store uses for it: on a filesystem the blocks of its file and of the file's own folder, as `du` counts. */
  readonly occupied: number;
  /** When it came to lie where it is; milliseconds since the epoch. */
  readonly storedAtMs: number;
}

/** A temporary file, an unfinished upload or an empty folder. */
export interface StoreLeftOver {
  /** Relative to the root or bucket; a folder's ends in `/`. */
  readonly key: string;
  /** Bytes that the store uses for it. */
  readonly occupied: number;
  /** When it was last changed; milliseconds since the epoch. What is young may be somebody's work. */
  readonly changedAtMs: number;
  /** False when it was gone or had come into use. */
  remove(o: CallOptions): Promise<boolean>;
}

export interface OpenBlob {
  /** Bytes. */
  readonly size: number;
  /** Another one whenever the content may have been changed behind the store's back: what was found of it then holds no more. */
  readonly version: string;
  /**
   * Bytes `start` to `end` (exclusive). Several reads may run at once. Throws a {@link StorageError} (`corrupt`) when the
   * content turns out shorter than `size`.
   */
  read(start: number, end: number, o: CallOptions): ByteStream;
  /**
   * An address at which anybody can GET the content for some minutes, by range too. It holds a signature, for the client's
   * eyes only. Undefined where clients are not redirected; resolves with undefined where they must not be to this blob now.
   */
  readonly presign?: (() => Promise<string | undefined>) | undefined;
  /** The file that has the content, and nothing else, below the store's root; undefined where there is none on this machine. */
  readonly local?: string | undefined;
  /** Repeatable. */
  close(): Promise<void>;
}

/**
 * - `no-space`: the disk or quota is full
 * - `corrupt`: what is held is not what it should be
 * - `unavailable`: the store could not be asked
 */
export type StorageFault = "no-space" | "corrupt" | "unavailable";

export class StorageError extends Error {
  override readonly name = "StorageError";
  readonly fault: StorageFault;

  constructor(fault: StorageFault, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.fault = fault;
  }
}
