import { stat, unlink } from "node:fs/promises";
import type { CallOptions } from "../../base/call.ts";
import type { Log } from "../../base/log.ts";
import { type Digest, digestAlgorithm, digestOf } from "../../oci/digest.ts";
import { type PendingBlob, StorageError } from "../blob-store.ts";
import { blobKey } from "../layout.ts";
import type { Bucket } from "./bucket.ts";
import { FIRST_PART_BYTES, MultipartUpload } from "./upload.ts";

/** A blob on its way from a local file to the bucket. What fits into one part is sent in one request, when it is complete. */
export class S3PendingBlob implements PendingBlob {
  readonly #leavesFile: boolean;
  readonly #bucket: Bucket;
  readonly #digest: Digest;
  readonly #key: string;
  readonly #path: string;
  readonly #log: Log;
  #upload: MultipartUpload;

  constructor(o: {
    readonly bucket: Bucket;
    readonly digest: Digest;
    readonly path: string;
    /** The file stays where it is. */
    readonly leavesFile?: boolean;
    readonly log: Log;
  }) {
    this.#leavesFile = o.leavesFile ?? false;
    this.#bucket = o.bucket;
    this.#digest = o.digest;
    this.#key = blobKey(o.digest);
    this.#path = o.path;
    this.#log = o.log;
    this.#upload = this.#newUpload();
  }

  advance(bytes: number): void {
    this.#upload.advance(bytes);
  }

  async complete(o: CallOptions): Promise<void> {
    try {
      await this.#keep(await this.#fileSize(), o);
    } catch (error) {
      await this.#beginAnew();
      throw error;
    }
    if (this.#leavesFile) return;
    // Removed by whoever made it, where that fails.
    await unlink(this.#path).catch(() => undefined);
  }

  async abort(): Promise<void> {
    await this.#upload.abort();
  }

  async #keep(size: number, o: CallOptions): Promise<void> {
    // A held object of another size is put right.
    if ((await this.#bucket.head(this.#key, o))?.size === size) {
      await this.abort();
      return;
    }
    if (size < FIRST_PART_BYTES) {
      await this.#bucket.putFile(this.#key, { path: this.#path, start: 0, end: size }, o);
      return;
    }
    if (this.#upload.failed) {
      this.#log.warn({ digest: this.#digest }, "a blob could not be uploaded while it arrived: it is uploaded anew");
      await this.#beginAnew();
    }
    await this.#upload.finish(size, o);
  }

  async #fileSize(): Promise<number> {
    let size: number;
    try {
      ({ size } = await stat(this.#path));
    } catch (error) {
      throw new StorageError("unavailable", `reading ${this.#path}: ${(error as Error).message}`, error);
    }
    if (size === 0 && this.#digest !== digestOf(new Uint8Array(), digestAlgorithm(this.#digest))) {
      throw new StorageError("corrupt", `${this.#path} is empty, which ${this.#digest} is not`);
    }
    return size;
  }

  async #beginAnew(): Promise<void> {
    await this.#upload.abort();
    this.#upload = this.#newUpload();
  }

  #newUpload(): MultipartUpload {
    return new MultipartUpload({ bucket: this.#bucket, key: this.#key, path: this.#path, log: this.#log });
  }
}
