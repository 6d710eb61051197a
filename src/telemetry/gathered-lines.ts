import type { DestinationStream } from "pino";

/** For how long a line may wait for others: no reader of a log notices, and a busy process writes a hundred times less often. */
const GATHER_MS = 10;

/** What is written earlier than that, bytes. */
const MAX_GATHERED = 256 * 1024;

/** No character of a string takes more bytes than this in UTF-8. */
const MAX_BYTES_PER_CHARACTER = 3;

/** Takes bytes, which nobody changes then, and can be emptied without waiting; as pino's destination with `contentMode: "buffer"`. */
export interface FlushableStream {
  write(lines: Buffer): unknown;
  flushSync(): void;
}

/** Writes lines together, since a write costs more than the lines in it. Loses none when the process exits. */
export class GatheredLines implements DestinationStream {
  readonly #stream: FlushableStream;
  /** As bytes: lines that wait as text keep all the pieces alive that they were put together of. */
  readonly #gathered = Buffer.allocUnsafeSlow(MAX_GATHERED);
  #length = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: FlushableStream) {
    this.#stream = stream;
  }

  write(line: string): void {
    const most = line.length * MAX_BYTES_PER_CHARACTER;
    if (this.#length + most > MAX_GATHERED) this.#flush();
    if (most > MAX_GATHERED) {
      this.#stream.write(Buffer.from(line));
      return;
    }
    if (this.#timer === undefined) {
      this.#timer = setTimeout(this.#flush, GATHER_MS).unref();
      // Only while there is something to lose, so that nothing is left behind of a log that is not used any more.
      process.once("exit", this.#flushAtExit);
    }
    this.#length += this.#gathered.write(line, this.#length);
  }

  readonly #flush = (): void => {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    process.off("exit", this.#flushAtExit);
    const lines = Buffer.from(this.#gathered.subarray(0, this.#length));
    this.#length = 0;
    this.#stream.write(lines);
  };

  readonly #flushAtExit = (): void => {
    this.#flush();
    this.#stream.flushSync();
  };
}
