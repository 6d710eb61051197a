import type { ByteStream } from "../../base/byte-stream.ts";
import type { CallOptions } from "../../base/call.ts";
import type { Digest } from "../../oci/digest.ts";
import { type OpenBlob, StorageError } from "../blob-store.ts";
import { blobKey } from "../layout.ts";
import { asStorageError } from "./errno.ts";
import type { KeptFile } from "./kept-files.ts";
import type { ReadBuffers } from "./read-buffers.ts";
import type { SharedChunks } from "./shared-chunks.ts";

export interface FsOpenBlobDeps {
  readonly buffers: ReadBuffers;
  readonly chunks: SharedChunks;
}

/** A use of a blob's file, which it releases when it is closed. */
export class FsOpenBlob implements OpenBlob {
  readonly size: number;
  readonly version: string;
  readonly #digest: Digest;
  readonly #file: KeptFile;
  readonly #deps: FsOpenBlobDeps;
  /** One for each read that has begun and not ended. */
  readonly #reads = new Set<Promise<void>>();
  #closing: Promise<void> | undefined;

  constructor(digest: Digest, file: KeptFile, deps: FsOpenBlobDeps) {
    this.#digest = digest;
    this.size = file.size;
    this.version = file.version;
    this.#file = file;
    this.#deps = deps;
  }

  get local(): string {
    return blobKey(this.#digest);
  }

  read(start: number, end: number, o: CallOptions): ByteStream {
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || start > end || end > this.size) {
      throw new RangeError(`bytes ${start} to ${end} of ${this.size}`);
    }
    return this.#read(start, end, o.signal);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all(this.#reads);
    await this.#file.release();
  }

  async *#read(start: number, end: number, signal: AbortSignal): ByteStream {
    if (this.#closing !== undefined) throw new StorageError("unavailable", `blob ${this.#digest} was closed`);
    const ended = Promise.withResolvers<void>();
    this.#reads.add(ended.promise);
    const { buffers, chunks } = this.#deps;
    const leave = [buffers.begin(), chunks.join(this.#file)];
    let position = start;
    let ahead: Promise<Piece> | undefined;
    try {
      while (position < end) {
        const { bytes, done } = await (ahead ?? this.#piece(position, end, false));
        position += bytes.length;
        // With several readers, reading what is at hand beside sending wins nothing: the processors have enough to do.
        ahead = buffers.isAlone || !this.#file.isAtHand ? this.#pieceAhead(position, end) : undefined;
        try {
          signal.throwIfAborted();
          yield bytes;
        } finally {
          done();
        }
      }
    } finally {
      // The kernel may still be writing into it.
      const unused = await ahead?.catch(() => undefined);
      unused?.done();
      for (const left of leave) left();
      this.#reads.delete(ended.promise);
      ended.resolve();
    }
  }

  /** Undefined at the end. */
  #pieceAhead(position: number, end: number): Promise<Piece> | undefined {
    if (position === end) return undefined;
    const piece = this.#piece(position, end, true);
    // Nobody waits for it before the one in front of it has been consumed.
    piece.catch(() => undefined);
    return piece;
  }

  async #piece(position: number, end: number, ahead: boolean): Promise<Piece> {
    const { buffers, chunks } = this.#deps;
    const shared = chunks.acquire(this.#file, position);
    const buffer = shared?.chunk.buffer ?? buffers.take(end - position);
    const done = shared?.release ?? ((): void => buffers.give(buffer));
    try {
      const start = shared?.chunk.start ?? position;
      const filled = await (shared?.chunk.filled ??
        this.#file.read(buffer, Math.min(end - position, buffer.length), position, ahead));
      if (start + filled <= position) {
        throw new StorageError("corrupt", `blob ${this.#digest} ends at byte ${start + filled} of ${this.size}`);
      }
      return { bytes: buffer.subarray(position - start, Math.min(filled, end - start)), done };
    } catch (error) {
      done();
      throw asStorageError(error, `reading blob ${this.#digest}`);
    }
  }
}

interface Piece {
  readonly bytes: Buffer;
  /** To be called once, when nobody uses the bytes any more. */
  readonly done: () => void;
}
