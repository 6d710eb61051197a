import type { SpoolFile, SpoolNote } from "../storage/spool.ts";
import type { FillTuning } from "./fill-tuning.ts";
import type { FillWindow, WindowSlice } from "./fill-window.ts";

/** One system call writes at most so much: what comes meanwhile makes the next write larger. */
const MAX_WRITE_BYTES = 1024 * 1024;

/** Making room that helps nobody, since what was deleted is still in use somewhere, must not go on until nothing is left. */
const MAX_RESCUES = 3;

export interface FillWriterOptions {
  readonly file: SpoolFile;
  /** Holds every byte that is not written yet. */
  readonly window: FillWindow;
  readonly tuning: FillTuning;
  /** So many bytes are in the file already. */
  readonly from: number;
  /** What to note when so many bytes are on disk. */
  readonly note: (mark: number) => SpoolNote;
  /** After a failed write: whether it is worth trying again. */
  readonly rescue: (error: unknown) => Promise<boolean>;
  /** More bytes are in the file. */
  readonly onWritten: () => void;
  /** The file cannot be written to, or its bytes cannot be trusted to stay. Called once; nothing more is written. */
  readonly onLost: (error: unknown) => void;
}

/** Writes a fill's bytes to its spool file behind the download, and notes from time to time how many are on disk. */
export class FillWriter {
  readonly #o: FillWriterOptions;
  #written: number;
  #until: number;
  #mark: number;
  #lost = false;
  #writing: Promise<void> | undefined;
  #marking: Promise<void> | undefined;

  constructor(o: FillWriterOptions) {
    this.#o = o;
    this.#written = o.from;
    this.#until = o.from;
    this.#mark = o.from;
  }

  /** So many bytes from the start can be read from the file. */
  get written(): number {
    return this.#written;
  }

  /** Lets the file grow to `until` bytes, which are in the window. */
  write(until: number): void {
    this.#until = until;
    if (this.#writing === undefined && this.#written < until && !this.#lost) this.#writing = this.#writeOut();
  }

  /** Resolves when nothing is being written any more. */
  async drained(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** Resolves when, in addition, nothing is being put on disk. */
  async settled(): Promise<void> {
    await this.drained();
    await this.#marking;
  }

  /** Writes nothing more; what is being written is finished. */
  stop(): void {
    this.#lost = true;
  }

  async #writeOut(): Promise<void> {
    let rescues = 0;
    while (this.#written < this.#until && !this.#lost) {
      const slices = this.#gather();
      try {
        const parts = slices.map((slice) => slice.bytes);
        await this.#o.file.write(parts, this.#written);
        // Once the file is given up its end stays where it was then.
        if (!this.#lost) this.#written += parts.reduce((sum, part) => sum + part.length, 0);
        rescues = 0;
      } catch (error) {
        rescues += 1;
        if (this.#lost || rescues > MAX_RESCUES || !(await this.#o.rescue(error))) this.#lose(error);
      } finally {
        for (const slice of slices) slice.release();
      }
      this.#markIfDue();
      this.#o.onWritten();
    }
    // In one go with the last look at `#until`: a write asked for after it begins anew.
    this.#writing = undefined;
  }

  #gather(): WindowSlice[] {
    const slices: WindowSlice[] = [];
    const until = Math.min(this.#until, this.#written + MAX_WRITE_BYTES);
    for (let at = this.#written; at < until; ) {
      const slice = this.#o.window.slice(at, until);
      if (slice === undefined) throw new Error(`byte ${at} is neither in the spool file nor in memory`);
      slices.push(slice);
      at += slice.bytes.length;
    }
    return slices;
  }

  /** Goes on beside the writing: putting 64 MiB on a disk may take a second. */
  #markIfDue(): void {
    if (this.#lost || this.#marking !== undefined || this.#written - this.#mark < this.#o.tuning.markBytes) return;
    const mark = this.#written;
    this.#marking = this.#putOnDisk(mark)
      .catch(async (error: unknown) => {
        // With room again it comes at the next bytes.
        if (!(await this.#o.rescue(error))) this.#lose(error);
      })
      .finally(() => {
        this.#marking = undefined;
      });
  }

  async #putOnDisk(mark: number): Promise<void> {
    await this.#o.file.sync();
    await this.#o.file.annotate(this.#o.note(mark));
    this.#mark = mark;
  }

  #lose(error: unknown): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#o.onLost(error);
  }
}
