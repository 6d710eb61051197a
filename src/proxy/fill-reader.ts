import type { ByteStream } from "../base/byte-stream.ts";
import type { Clock } from "../base/clock.ts";
import type { Hasher } from "../oci/digest.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { ContentReader, FillContent } from "./fill-content.ts";
import type { FillMemory } from "./fill-memory.ts";

export interface FillReaderOptions {
  readonly start: number;
  /** Exclusive; undefined means the blob's end. */
  readonly end: number | undefined;
  readonly client: string | undefined;
  readonly signal: AbortSignal;
  readonly content: FillContent;
  readonly memory: FillMemory;
  readonly clock: Clock;
  /**
   * The bytes from `start` to `end` from somewhere else, for a reader whose place in the content is gone. `hash`, where it
   * is known, has seen everything before `start`.
   */
  readonly elsewhere: (start: number, end: number | undefined, hash: Hasher | undefined) => ByteStream;
}

/**
 * One client's way through a fill's content: out of memory where it keeps up with the download, else out of the spool
 * file, else from elsewhere.
 */
export class FillReader implements ContentReader {
  readonly #o: FillReaderOptions;
  #at: number;
  #movedAtMs: number;
  #behind = false;
  /** Set when the window went on without this reader. */
  #hash: Hasher | undefined;

  constructor(o: FillReaderOptions) {
    this.#o = o;
    this.#at = o.start;
    this.#movedAtMs = o.clock.now();
  }

  get at(): number {
    return this.#at;
  }

  get movedAtMs(): number {
    return this.#movedAtMs;
  }

  get behind(): boolean {
    return this.#behind;
  }

  get start(): number {
    return this.#o.start;
  }

  get client(): string | undefined {
    return this.#o.client;
  }

  leaveBehind(hash: Hasher | undefined): void {
    this.#behind = true;
    this.#hash = hash;
  }

  async *bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    const { content, signal, clock } = this.#o;
    const file = new FileReads(content, this.#o.memory);
    const quiet = content.changed.ringOnAbort(signal);
    try {
      for (;;) {
        signal.throwIfAborted();
        content.throwIfFailed();
        const end = this.#end();
        if (this.#at >= end) return;
        if (this.#hash !== undefined) break;
        file.hold();
        const to = Math.min(end, content.readable);
        if (this.#at >= to) {
          await content.changed.next();
          continue;
        }
        const slice = content.slice(this.#at, to) ?? (await file.read(this.#at, to));
        if (slice === undefined) break;
        try {
          this.#at += slice.bytes.length;
          // It has a place again, which the window must not pass by unseen.
          this.#behind = false;
          this.#movedAtMs = clock.now();
          yield slice.bytes;
        } finally {
          slice.release();
        }
        this.#movedAtMs = clock.now();
        content.room.ring();
      }
      this.#behind = true;
      content.room.ring();
      const hash = this.#hash ?? (await content.hashAt(this.#at));
      yield* this.#o.elsewhere(this.#at, this.#o.end, hash);
    } finally {
      quiet();
      await file.close();
    }
  }

  /** Where to stop, as far as it is known: the blob may end before the end that was asked for. */
  #end(): number {
    const { end, content } = this.#o;
    const last = content.verified ? content.received : Number.POSITIVE_INFINITY;
    return Math.min(end ?? Number.POSITIVE_INFINITY, last);
  }
}

/** One reader's reads of the spool file, into one buffer. */
class FileReads {
  readonly #content: FillContent;
  readonly #memory: FillMemory;
  #file: FillContent["file"];
  #buffer: Buffer | undefined;

  constructor(content: FillContent, memory: FillMemory) {
    this.#content = content;
    this.#memory = memory;
  }

  /** From now on the fill's end takes nothing away. To be called before the first read. */
  hold(): void {
    if (this.#file !== undefined) return;
    this.#file = this.#content.file;
    this.#file?.hold();
  }

  /** The bytes from `from` up to `to` or less; undefined when the file does not have them. */
  async read(from: number, to: number): Promise<{ bytes: Uint8Array; release(): void } | undefined> {
    const length = Math.min(to, this.#content.written) - from;
    if (length <= 0) return undefined;
    const file = this.#file;
    if (file === undefined) return undefined;
    const bytes = this.#room(length);
    const got = await file.read(bytes, from);
    if (got < bytes.length) throw new StorageError("corrupt", `${file.path} ends before byte ${from + bytes.length}`);
    return { bytes, release() {} };
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.release();
  }

  /** A buffer for `length` bytes or less: the more readers there are, the smaller it is. */
  #room(length: number): Buffer {
    const share = this.#memory.readBytes();
    const wanted = Math.min(length, share);
    const have = this.#buffer?.length ?? 0;
    if (this.#buffer === undefined || have < wanted || have > 2 * share) {
      this.#buffer = Buffer.allocUnsafeSlow(Math.min(share, Math.max(wanted, 2 * have)));
    }
    return this.#buffer.subarray(0, length);
  }
}
