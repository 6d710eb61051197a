import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { NO_MORE } from "../base/no-more.ts";
import { waitFor } from "../base/wait-for.ts";
import { createHasher, type Digest, digestAlgorithm, type Hasher } from "../oci/digest.ts";
import type { FileHash, FileHashes } from "../storage/file-hashes.ts";
import type { SpoolFile, SpoolNote } from "../storage/spool.ts";
import { LATE, waitAtMost } from "./background.ts";
import { Bell } from "./fill-bell.ts";
import { FillStoppedError } from "./fill-errors.ts";
import { hashFile } from "./fill-hash.ts";
import type { FillMemory } from "./fill-memory.ts";
import type { FillTuning } from "./fill-tuning.ts";
import { FillWindow } from "./fill-window.ts";
import { FillWriter } from "./fill-writer.ts";

/** A reader as the content sees it: somebody with a place in it. */
export interface ContentReader {
  /** The next byte to be handed out. */
  readonly at: number;
  readonly movedAtMs: number;
  /** The window does not wait for it any more. */
  readonly behind: boolean;
  /** `hash` has seen what lies before `at`, unless that is in the file, where the reader can still go on. */
  leaveBehind(hash: Hasher | undefined): void;
}

export interface FillContentOptions {
  readonly digest: Digest;
  readonly memory: FillMemory;
  readonly tuning: FillTuning;
  readonly hashes: Pick<FileHashes, "begin"> | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly note: (mark: number) => SpoolNote;
  /** After a failed write to the file: whether it is worth trying again. */
  readonly rescue: (error: unknown) => Promise<boolean>;
  /** So many bytes from the start are in the file. */
  readonly onSpooled: (bytes: number) => void;
}

/**
 * The bytes that a fill has received, wherever they are. Usually all are in the spool file, and the last few also in the
 * window in memory. Where the disk is full the file ends early ("streaming"): then the window is all there is of the rest,
 * and the download waits for the readers in it. What lies between the file's end and the window is gone.
 *
 *     0 ........ file ........ written
 *                     start ....... window ....... end      spooling: start <= written <= end
 *                                                           streaming: start may pass written
 */
export class FillContent {
  /** Rings when there is more to read, or the content is verified, or the fill is over. */
  readonly changed = new Bell();
  /** Rings when the download may have room to go on: bytes were written, a reader moved, came or left. */
  readonly room = new Bell();
  readonly readers = new Set<ContentReader>();
  /** The blob's size, as soon as it is known. Bytes. */
  total: number | undefined;

  readonly #o: FillContentOptions;
  #window: FillWindow;
  #file: SpoolFile | undefined;
  #writer: FillWriter | undefined;
  /** Whether what is received still goes to the file. */
  #spooling = false;
  /** What hashes the file, where the window does not. */
  #apart: FileHash | undefined;
  /** While the window takes up hashing, nothing of it may go. */
  #catchingUp: { readonly done: Promise<void>; readonly stop: AbortController } | undefined;
  /** At the end of a file that ends early. */
  #hashAtWritten: Hasher | undefined;
  #removing: Promise<void> | undefined;
  /** So many bytes have been shown to readers and writer. */
  #published = 0;
  #publishedAtMs = Number.NEGATIVE_INFINITY;
  #flush: AbortController | undefined;
  #verified = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(o: FillContentOptions) {
    this.#o = o;
    this.#window = new FillWindow(o.memory, 0, this.#newHash());
  }

  /** So many bytes from the start may be handed out. */
  get readable(): number {
    if (this.#verified) return this.#window.end;
    return Math.max(0, Math.min(this.#published, (this.total ?? this.#published) - this.#o.tuning.tailBytes));
  }

  /** So many bytes have been received. */
  get received(): number {
    return this.#window.end;
  }

  get verified(): boolean {
    return this.#verified;
  }

  /** Whether everything received is in the file. */
  get spooled(): boolean {
    return this.#spooling && this.written === this.received;
  }

  /** Whether what is received still goes to a file. */
  get keeps(): boolean {
    return this.#spooling;
  }

  get file(): SpoolFile | undefined {
    return this.#file;
  }

  /** So many bytes from the start can be read from the file. */
  get written(): number {
    return this.#writer?.written ?? 0;
  }

  /** Keeps what comes in `file`, of which this takes over the hold. Its first `from` bytes have been received before. */
  spool(file: SpoolFile, from: number): Hasher {
    const hash = this.#newHash();
    this.#published = from;
    this.#window = new FillWindow(this.#o.memory, from, hash);
    this.expectFile();
    this.attach(file);
    return hash;
  }

  /** A file is being made for what comes, all of which is in memory until {@link attach}, or {@link stream} where there is none. */
  expectFile(): void {
    this.#spooling = true;
  }

  /** The file that was expected, of which this takes over the hold. */
  attach(file: SpoolFile): void {
    this.#file = file;
    this.#writer = new FillWriter({
      file,
      window: this.#window,
      tuning: this.#o.tuning,
      from: this.#window.start,
      note: this.#o.note,
      rescue: this.#o.rescue,
      onWritten: () => {
        this.#apart?.advance(this.written);
        this.#o.onSpooled(this.written);
        this.trim();
        this.room.ring();
      },
      onLost: (error) => this.#stream(error),
    });
    this.hashApart();
  }

  /** There is no file, or it is not to be kept. */
  stream(error: unknown): void {
    this.#writer?.stop();
    this.#stream(error);
  }

  /** Lets a large blob be hashed beside everything else, where that can be had. For when its size or its file comes to be known. */
  hashApart(): void {
    const { digest, tuning, hashes } = this.#o;
    const large = this.total !== undefined && this.total >= tuning.hashApartBytes;
    // What was hashed before the window is not thrown away.
    if (!large || this.#window.start > 0 || this.#apart !== undefined || this.#catchingUp !== undefined) return;
    if (!this.#spooling || this.#file === undefined) return;
    this.#apart = hashes?.begin(this.#file.path, digestAlgorithm(digest));
    if (this.#apart !== undefined) this.#window.leaveHashing();
  }

  /** Copies the chunk, and tells the readers of it soon. */
  append(chunk: Uint8Array): void {
    const { tuning, clock } = this.#o;
    this.#window.append(chunk);
    const news = this.#window.end - this.#published;
    if (news >= tuning.flushBytes || clock.now() - this.#publishedAtMs >= tuning.flushMs) this.#publish();
    else if (this.#flush === undefined) this.#publishSoon();
  }

  /** Tells the readers of everything that has been received. */
  #publish(): void {
    this.#published = this.#window.end;
    this.#publishedAtMs = this.#o.clock.now();
    if (this.#published - this.written >= this.#o.tuning.writeBytes) this.#write();
    this.changed.ring();
  }

  /** Lets the file have everything. */
  finish(): void {
    this.#write();
  }

  #write(): void {
    if (this.#spooling) this.#writer?.write(this.#window.end);
  }

  /** Whether what has been received is the blob. Nothing may come meanwhile. */
  async isWhole(): Promise<boolean> {
    const { digest, log } = this.#o;
    if (this.#apart !== undefined) {
      this.#write();
      await this.#writer?.drained();
    }
    // The file may have been lost at its last bytes.
    if (this.#apart !== undefined) {
      try {
        const hashed = await this.#apart.digest(this.received);
        this.#stopHashing();
        return hashed === digest;
      } catch (error) {
        log.debug({ digest, err: error }, "a blob is hashed again, since its file could not be hashed meanwhile");
        this.#hashHere();
      }
    }
    await this.#catchingUp?.done;
    return this.#window.hashAt(this.#window.end)?.digest() === digest;
  }

  /** Lets the readers have everything: {@link isWhole} said yes. */
  verify(): void {
    this.#verified = true;
    this.total = this.#window.end;
    this.#flush?.abort(NO_MORE);
    this.#publish();
  }

  /** Every reader that has not finished throws `error`. */
  fail(error: unknown): void {
    this.#flush?.abort(NO_MORE);
    this.#failure ??= { error };
    this.changed.ring();
    this.room.ring();
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Resolves when everything published is in the file, or the file is given up. */
  async settled(): Promise<void> {
    await this.#writer?.settled();
    await this.#removing;
  }

  /** Forgets everything; for when no reader has seen any of it. */
  async reset(): Promise<void> {
    this.#writer?.stop();
    await this.#writer?.settled();
    this.#stopHashing();
    this.#window.trim(this.#window.end);
    if (this.#file !== undefined && this.#spooling) {
      this.spool(this.#file, 0);
      try {
        await this.#file.truncate(0);
      } catch (error) {
        this.#stream(error);
      }
      return;
    }
    await this.close({ forget: true });
    this.#writer = undefined;
    this.#window = new FillWindow(this.#o.memory, 0, this.#newHash());
    this.#hashAtWritten = this.#newHash();
    this.#published = 0;
  }

  /** The bytes from `from` up to `to` or less, where they are in memory. */
  slice(from: number, to: number): ReturnType<FillWindow["slice"]> {
    return this.#window.slice(from, to);
  }

  /** A hasher that has seen the first `at` bytes, where that is, or will be, known. */
  async hashAt(at: number): Promise<Hasher | undefined> {
    if (at === 0) return this.#newHash();
    await this.#catchingUp?.done;
    if (at === this.written && this.#hashAtWritten !== undefined) return this.#hashAtWritten.copy();
    return at >= this.#window.start && at <= this.#window.end ? this.#window.hashAt(at) : undefined;
  }

  /** Forgets what nobody needs from memory any more. */
  trim(): void {
    if (this.#catchingUp !== undefined) return;
    const { start, end } = this.#window;
    if (this.#spooling) {
      const oldest = end - this.#windowLimit();
      this.#window.trim(Math.min(this.written, Math.max(oldest, Math.min(end, this.#slowest(start)))));
      return;
    }
    const slowest = this.#slowest(this.#reach());
    if (slowest !== Number.POSITIVE_INFINITY) this.#window.trim(slowest);
  }

  /** Resolves when the download may go on. Rejects when there is nobody to go on for. */
  async waitForRoom(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      this.trim();
      if (this.#spooling) {
        if (this.#window.end - this.written <= this.#o.tuning.unwrittenBytes) return;
        this.#write();
        await this.room.next();
      } else {
        if (this.#window.end - this.#window.start < this.#windowLimit()) return;
        if (this.#catchingUp !== undefined) await waitFor(this.#catchingUp.done, signal);
        else await this.#waitForReaders(signal);
      }
    }
  }

  /** Gives up the file: those who read it hold it themselves. What is in memory stays where there is nothing else. */
  async close(o: { readonly forget: boolean }): Promise<void> {
    this.#stopHashing();
    if (o.forget) this.#window.trim(this.#window.end);
    const file = this.#file;
    this.#file = undefined;
    await file?.release();
  }

  /**
   * Takes the file away from the content, for somebody else to keep or remove; with `whole`, when everything received is in
   * it.
   */
  async takeFile(o: { readonly whole: boolean }): Promise<SpoolFile | undefined> {
    if (o.whole) this.#write();
    else this.#writer?.stop();
    await this.settled();
    const file = this.#file;
    this.#file = undefined;
    return file;
  }

  #newHash(): Hasher {
    return createHasher(digestAlgorithm(this.#o.digest));
  }

  #stream(error: unknown): void {
    const { digest, log } = this.#o;
    log.warn({ digest, err: error }, "the spool cannot take the blob: it is passed on without being kept");
    this.#spooling = false;
    if (this.#apart !== undefined) this.#hashHere();
    else if (this.#catchingUp === undefined) this.#hashAtWritten = this.#window.hashAt(this.written);
    this.#removing = this.#file?.remove();
    this.room.ring();
  }

  /** The thread cannot have what is not in the file: what is, is hashed again. */
  #hashHere(): void {
    this.#apart?.end();
    this.#apart = undefined;
    const stop = new AbortController();
    const done = this.#catchUp(stop.signal);
    this.#catchingUp = { done, stop };
    done.then(
      () => {
        this.#catchingUp = undefined;
        this.room.ring();
      },
      // Told to whoever waits for it.
      () => {},
    );
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const hash = this.#newHash();
    const file = this.#file;
    if (file === undefined) throw new FillStoppedError("there is no file to hash");
    file.hold();
    try {
      await hashFile(file, hash, this.#window.start, signal);
    } finally {
      await file.release();
    }
    signal.throwIfAborted();
    this.#window.takeUpHashing(hash);
    if (!this.#spooling) this.#hashAtWritten = this.#window.hashAt(this.written);
  }

  #stopHashing(): void {
    this.#apart?.end();
    this.#apart = undefined;
    this.#catchingUp?.stop.abort(new FillStoppedError("nobody wants the hash any more"));
    this.#catchingUp = undefined;
  }

  #publishSoon(): void {
    const flush = new AbortController();
    this.#flush = flush;
    this.#o.clock.sleep(this.#o.tuning.flushMs, flush.signal).then(
      () => {
        this.#flush = undefined;
        if (this.#published < this.#window.end) this.#publish();
      },
      () => {},
    );
  }

  #windowLimit(): number {
    const { memory, tuning } = this.#o;
    return memory.windowBytes(this.#spooling ? tuning.windowBytes : tuning.streamWindowBytes);
  }

  /** From where on a reader counts as being in the window, or about to come into it out of the file. */
  #reach(): number {
    const { start } = this.#window;
    return start <= this.written ? start - this.#windowLimit() : start;
  }

  #slowest(from: number): number {
    let slowest = Number.POSITIVE_INFINITY;
    for (const reader of this.readers) {
      if (reader.at >= from && !reader.behind) slowest = Math.min(slowest, reader.at);
    }
    return slowest;
  }

  /** Waits for the readers that hold up the window, for each no longer than it may stand still. */
  async #waitForReaders(signal: AbortSignal): Promise<void> {
    const { clock, tuning } = this.#o;
    const holdingUp = this.#holdingUp();
    const sinceMs = Math.min(clock.now(), ...holdingUp.map((reader) => reader.movedAtMs));
    const leftMs = sinceMs + tuning.stuckReaderMs - clock.now();
    const late = leftMs <= 0 || (await waitAtMost(this.room.next(), leftMs, { clock, signal })) === LATE;
    if (!late) return;
    if (holdingUp.length === 0 && this.#holdingUp().length === 0) {
      throw new FillStoppedError("there is no room to keep the blob, and nobody is reading it");
    }
    for (const reader of holdingUp) {
      if (reader.movedAtMs + tuning.stuckReaderMs > clock.now()) continue;
      reader.leaveBehind(reader.at < this.#window.start ? undefined : this.#window.hashAt(reader.at));
    }
  }

  /** Those in the window that are furthest back; where nobody is in it, of those that will come into it. */
  #holdingUp(): ContentReader[] {
    const reach = this.#reach();
    const from = this.#slowest(reach) === Number.POSITIVE_INFINITY ? 0 : reach;
    const slowest = this.#slowest(from);
    return [...this.readers].filter((reader) => reader.at === slowest && !reader.behind);
  }
}
