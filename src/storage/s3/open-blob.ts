import type { ByteStream } from "../../base/byte-stream.ts";
import type { CallOptions } from "../../base/call.ts";
import type { Digest } from "../../oci/digest.ts";
import { type OpenBlob, StorageError } from "../blob-store.ts";
import { blobKey } from "../layout.ts";
import type { Bucket, ObjectInfo } from "./bucket.ts";
import { pauseMs, type RetryDeps, SOMEBODY_WAITS } from "./retrying.ts";

export interface S3OpenBlobOptions extends RetryDeps {
  readonly bucket: Bucket;
  readonly digest: Digest;
  readonly found: ObjectInfo;
  /** Seconds for which a presigned address is good; undefined where clients are not redirected. */
  readonly presignS: number | undefined;
}

/** A blob in the bucket. Holds nothing there: a read of an object that has gone meanwhile throws `corrupt`. */
export class S3OpenBlob implements OpenBlob {
  readonly size: number;
  readonly version: string;
  readonly presign: (() => Promise<string>) | undefined;
  readonly #o: S3OpenBlobOptions;
  #closed = false;

  constructor(o: S3OpenBlobOptions) {
    const { bucket, digest, found, presignS } = o;
    this.#o = o;
    this.size = found.size;
    this.version = `${found.etag} ${found.changedAtMs}`;
    this.presign = presignS === undefined ? undefined : () => bucket.presign(blobKey(digest), presignS);
  }

  read(start: number, end: number, o: CallOptions): ByteStream {
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || start > end || end > this.size) {
      throw new RangeError(`bytes ${start} to ${end} of ${this.size}`);
    }
    return this.#read(start, end, o);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** Goes on from the byte where a body breaks. Attempts without progress are counted, not attempts. */
  async *#read(start: number, end: number, o: CallOptions): ByteStream {
    const { bucket, digest, found, clock, random } = this.#o;
    if (this.#closed) throw new StorageError("unavailable", `blob ${digest} was closed`);
    let position = start;
    let failures = 0;
    while (position < end) {
      o.signal.throwIfAborted();
      const body = await bucket.body(blobKey(digest), { ...o, start: position, end, etag: found.etag });
      if (body === undefined) throw new StorageError("corrupt", `blob ${digest} has gone from the bucket`);
      const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>;
      const before = position;
      try {
        for (;;) {
          // One that breaks has ended early: what is missing is asked for again.
          const chunk = (await chunks.next().catch(() => undefined))?.value;
          o.signal.throwIfAborted();
          if (chunk === undefined) break;
          position += chunk.length;
          if (position > end) throw new StorageError("corrupt", `blob ${digest} has more bytes than ${this.size}`);
          yield chunk;
        }
      } finally {
        body.destroy();
      }
      failures = position > before ? 0 : failures + 1;
      if (failures === SOMEBODY_WAITS.attempts) {
        throw new StorageError("unavailable", `reading blob ${digest}: ${bucket.address} sends nothing of it`);
      }
      if (failures > 0) await clock.sleep(pauseMs(SOMEBODY_WAITS, failures, random), o.signal);
    }
  }
}
