/** Free blocks kept for the next download; the rest is left to the garbage collector. */
const MAX_FREE_BYTES = 8 * 1024 * 1024;
/** What all windows together should hold: the more fills run, the less each gets. */
const WINDOW_BUDGET = 64 * 1024 * 1024;
/** What the buffers of all readers of spool files together should hold. */
const READER_BUDGET = 16 * 1024 * 1024;
/** With less the system calls cost more than the copying. */
const LEAST_READ_BYTES = 64 * 1024;
const LARGEST_READ_BYTES = 1024 * 1024;

/** The memory that the fills of one process share, so that it stays bounded whatever their number and their readers'. */
export class FillMemory {
  readonly #blockBytes: number;
  readonly #onReaders: (count: number) => void;
  readonly #free: Buffer[] = [];
  #fills = 0;
  #readers = 0;

  constructor(blockBytes: number, onReaders: (count: number) => void) {
    this.#blockBytes = blockBytes;
    this.#onReaders = onReaders;
  }

  fillStarted(): void {
    this.#fills += 1;
  }

  fillEnded(): void {
    this.#fills -= 1;
  }

  readerEntered(): void {
    this.#readers += 1;
    this.#onReaders(this.#readers);
  }

  readerLeft(): void {
    this.#readers -= 1;
    this.#onReaders(this.#readers);
  }

  /** Bytes of a window that may have `wanted` when it is alone; never less than two blocks. */
  windowBytes(wanted: number): number {
    return Math.max(2 * this.#blockBytes, Math.min(wanted, WINDOW_BUDGET / Math.max(1, this.#fills)));
  }

  /** Bytes of one reader's buffer. */
  readBytes(): number {
    const share = Math.floor(READER_BUDGET / Math.max(1, this.#readers));
    return Math.min(LARGEST_READ_BYTES, Math.max(LEAST_READ_BYTES, share));
  }

  takeBlock(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#blockBytes);
  }

  /** Nobody may use the block afterwards. */
  giveBlock(block: Buffer): void {
    if ((this.#free.length + 1) * this.#blockBytes <= MAX_FREE_BYTES) this.#free.push(block);
  }
}
