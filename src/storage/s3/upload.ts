import type { CallOptions } from "../../base/call.ts";
import type { Log } from "../../base/log.ts";
import type { Bucket } from "./bucket.ts";

/** S3 takes no parts below 5 MiB but the last one, and 10,000 of them. */
export const FIRST_PART_BYTES = 8 << 20;
/** After so many parts they grow by the first one's size: 10,000 hold 429 GiB, and a layer of 50 GB takes some 3,000. */
const GROW_EVERY = 1_000;
/** Parts of one upload on their way at once. */
const PARTS_AT_ONCE = 4;

/** Bytes of a part; they are numbered from 1. */
export function partBytes(number: number): number {
  return FIRST_PART_BYTES * (1 + Math.floor((number - 1) / GROW_EVERY));
}

export interface UploadOptions {
  readonly bucket: Bucket;
  readonly key: string;
  /** A local file; what is there of it does not change. */
  readonly path: string;
  readonly log: Log;
}

/**
 * One multipart upload of a local file, part by part as the file grows. Nothing of it can be seen before {@link finish}, and
 * nothing is left of it after {@link abort}.
 */
export class MultipartUpload {
  readonly #o: UploadOptions;
  readonly #stop = new AbortController();
  readonly #etags: string[] = [];
  readonly #sending = new Set<Promise<void>>();
  #id: Promise<string> | undefined;
  /** So many bytes of the file are there. */
  #there = 0;
  /** Where the next part begins, and its number. */
  #next = 0;
  #number = 1;
  /** The file will not grow any more. */
  #whole = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(o: UploadOptions) {
    this.#o = o;
  }

  get failed(): boolean {
    return this.#failure !== undefined;
  }

  /** The first `bytes` bytes of the file are there. */
  advance(bytes: number): void {
    this.#there = Math.max(this.#there, bytes);
    this.#sendMore();
  }

  /** The file has `bytes` bytes, at least one, and is what it should be: sends the rest, and makes the object. */
  async finish(bytes: number, o: CallOptions): Promise<void> {
    const onAbort = (): void => this.#stop.abort(o.signal.reason);
    o.signal.addEventListener("abort", onAbort, { once: true });
    try {
      o.signal.throwIfAborted();
      this.#whole = true;
      this.advance(bytes);
      await this.#sent();
      o.signal.throwIfAborted();
      if (this.#failure !== undefined) throw this.#failure.error;
      await this.#complete(bytes, o);
    } finally {
      o.signal.removeEventListener("abort", onAbort);
    }
  }

  /** Repeatable; never rejects: what the server keeps all the same is swept later. */
  async abort(): Promise<void> {
    const { bucket, key, log } = this.#o;
    this.#stop.abort(new Error("the upload is given up"));
    // A part that arrives after the end would stay.
    await this.#sent();
    const id = await this.#id?.catch(() => undefined);
    this.#id = undefined;
    if (id === undefined) return;
    try {
      await bucket.abortUpload(key, id, { signal: new AbortController().signal });
    } catch (error) {
      log.warn({ err: error, key }, "an upload could not be given up in order: it will be swept");
    }
  }

  #sendMore(): void {
    while (!this.failed && !this.#stop.signal.aborted && this.#sending.size < PARTS_AT_ONCE) {
      const left = this.#there - this.#next;
      const bytes = Math.min(left, partBytes(this.#number));
      if (bytes === 0 || (bytes < partBytes(this.#number) && !this.#whole)) return;
      const part = this.#send(this.#number, this.#next, this.#next + bytes);
      this.#number += 1;
      this.#next += bytes;
      const done = part
        .catch((error: unknown) => {
          this.#failure ??= { error };
        })
        .finally(() => {
          this.#sending.delete(done);
          this.#sendMore();
        });
      this.#sending.add(done);
    }
  }

  async #send(number: number, start: number, end: number): Promise<void> {
    const { bucket, key, path } = this.#o;
    const o = { signal: this.#stop.signal };
    this.#id ??= bucket.startUpload(key, o);
    const id = await this.#id;
    this.#etags[number - 1] = await bucket.uploadPart(key, id, number, { path, start, end }, o);
  }

  async #sent(): Promise<void> {
    while (this.#sending.size > 0) await Promise.all(this.#sending);
  }

  async #complete(bytes: number, o: CallOptions): Promise<void> {
    const { bucket, key } = this.#o;
    const id = await this.#id;
    if (id === undefined) throw new Error(`nothing of ${key} was uploaded`);
    try {
      await bucket.completeUpload(key, id, this.#etags, o);
    } catch (error) {
      // The answer may have been lost on its way: then the object is there, and the upload is not.
      const made = await bucket.head(key, o).catch(() => undefined);
      if (made?.size !== bytes) throw error;
    }
    this.#id = undefined;
  }
}
