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
  /** The caller closes what it gets. The handle stays readable when the blob is deleted meanwhile. */
  open(digest: Digest, o: CallOptions): Promise<OpenBlob | undefined>;
  /** Keeps small content (manifests). Verifies the digest itself; durable when it resolves. A held blob is left as it is. */
  put(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<void>;
  /**
   * Takes over a finished file whose content the caller has verified against `digest`. Durable when it resolves (data
   * synced, renamed or copied, folder synced). The file at `path` is gone afterwards, also when the blob was held already.
   * On failure the file is left where it is.
   */
  ingest(digest: Digest, path: string, o: CallOptions): Promise<void>;
  /** True when there was something to delete. */
  delete(digest: Digest, o: CallOptions): Promise<boolean>;
  list(o: CallOptions): AsyncIterable<BlobStat>;
  close(): Promise<void>;
}

export interface BlobStat {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
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
