import type { CallOptions } from "../base/call.ts";
import { saysDiskFull } from "../base/disk-full.ts";
import type { Log } from "../base/log.ts";
import type { Digest } from "../oci/digest.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { SpoolFile } from "../storage/spool.ts";
import type { FillContent } from "./fill-content.ts";
import type { FillsDeps } from "./fills.ts";
import type { Reservation } from "./room.ts";

/** Bytes for which room is made at a time while the blob's size is not known. */
const STEP_BYTES = 1024 * 1024;

export interface FillRoomOptions {
  readonly digest: Digest;
  readonly content: () => FillContent;
  readonly deps: Pick<FillsDeps, "room" | "spool">;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** The room that one fill takes up, from before its first byte is written until it is held, or over. */
export class FillRoom {
  readonly #o: FillRoomOptions;
  #reservation: Reservation | undefined;
  #released = false;
  /** So many bytes may come before room has to be made for more. */
  #bytes = 0;

  constructor(o: FillRoomOptions) {
    this.#o = o;
  }

  /** Whether room must be made before so many bytes more are taken. */
  isShort(coming: number): boolean {
    const { total, received } = this.#o.content();
    return this.#bytes < (total ?? received + coming);
  }

  /** Makes room for the blob, or for as much of it as is known to come. What is too large to be held is passed on only. */
  async make(coming: number): Promise<void> {
    const { signal } = this.#o;
    const content = this.#o.content();
    this.#bytes = content.total ?? Math.ceil((content.received + coming) / STEP_BYTES) * STEP_BYTES;
    const keep = await this.#reserve(this.#bytes, { signal });
    if (this.#released || !content.keeps) {
      // What was given after the fill had ended, too.
      this.release();
      return;
    }
    if (keep) return;
    const message = `a blob of ${this.#bytes} bytes is more than storage.maxSize and its marks let be held`;
    content.stream(new StorageError("no-space", message));
    this.release();
  }

  /** False where so many bytes are not to be kept. */
  async #reserve(bytes: number, o: CallOptions): Promise<boolean> {
    if (this.#reservation !== undefined) return await this.#reservation.grow(bytes, o);
    this.#reservation = await this.#o.deps.room.reserve(bytes, o);
    return this.#reservation.keep;
  }

  /** A new spool file; where the disk is full, after making room. */
  async createSpool(): Promise<SpoolFile> {
    const { spool } = this.#o.deps;
    try {
      return await spool.create();
    } catch (error) {
      if (!(await this.rescue(error))) throw error;
      return await spool.create();
    }
  }

  /** After a failed write: true when the disk was full and something was evicted. */
  async rescue(error: unknown): Promise<boolean> {
    if (!saysDiskFull(error)) return false;
    const { deps, log, digest, signal } = this.#o;
    const { total = 0, received, written } = this.#o.content();
    const o: CallOptions = { signal };
    try {
      return await deps.room.emergency(Math.max(total, received) - written, o);
    } catch (cause) {
      log.debug({ digest, err: cause }, "no room could be made for a blob");
      return false;
    }
  }

  /** The blob is held, or is not going to be. Nothing more is reserved. */
  release(): void {
    this.#released = true;
    this.#reservation?.release();
    this.#bytes = Number.POSITIVE_INFINITY;
  }
}
