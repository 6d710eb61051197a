import { Readable } from "node:stream";
import { PIECE_BYTES, type ReceiveMemory } from "./receive-memory.ts";

/** A body of this size, as small documents have it, gets a buffer of its own. */
const OWN_BYTES = 64 * 1024;

/** The other end of a body, as undici's controller has it. */
export interface BodyFlow {
  /** Nothing more should come for now; what is on its way already may come. */
  pause(): void;
  resume(): void;
  /** Ends the connection. */
  abort(reason: Error): void;
}

/**
 * A response's body. What arrives is copied at once, so that the connection's buffers can be used again, and gathered while
 * the reader is busy: it takes everything that has arrived in one piece. **A piece is valid until the next is asked for**, or
 * until the loop over the body is left: then its memory is used for other bodies.
 */
export class ResponseBody extends Readable {
  /** What the response's headers say, bytes; undefined where they do not. */
  readonly length: number | undefined;
  readonly #flow: BodyFlow;
  readonly #memory: ReceiveMemory;
  /** Gathered so many bytes, the flow is paused. */
  readonly #enough: number;
  /** What is gathered in. */
  #buffer: Buffer | undefined;
  /** What the latest piece is in: the reader has it, or it waits to be read, since streams may ask for a piece ahead. */
  #latest: Buffer | undefined;
  /** What the piece before it is in, which the reader may still have while the latest waits. */
  #before: Buffer | undefined;
  #gathered = 0;
  #wanted = false;
  #complete = false;

  constructor(flow: BodyFlow, length: number | undefined, memory: ReceiveMemory) {
    // In object mode, with nothing kept ahead, a read is what asks for the next piece. One may be asked for before all the same:
    // when somebody begins to listen.
    super({ objectMode: true, highWaterMark: 0 });
    this.#flow = flow;
    this.length = length;
    this.#memory = memory;
    this.#enough = length !== undefined && length <= PIECE_BYTES ? Number.POSITIVE_INFINITY : PIECE_BYTES / 2;
    // It may break before whoever waits for the headers has had a chance to look at it.
    this.on("error", () => {});
  }

  /** Bytes have arrived; `chunk` is not used after the call. */
  gather(chunk: Uint8Array): void {
    if (this.destroyed) return;
    const length = this.#gathered + chunk.length;
    this.#room(length).set(chunk, this.#gathered);
    this.#gathered = length;
    if (this.#wanted) this.#handOut();
    else if (length >= this.#enough) this.#flow.pause();
  }

  /** Everything has arrived. */
  complete(): void {
    this.#complete = true;
    if (this.#wanted) this.#handOut();
  }

  override _read(): void {
    this.#wanted = true;
    this.#handOut();
    if (!this.#complete) this.#flow.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!this.#complete) this.#flow.abort(error ?? new Error("nobody wants the rest of the body"));
    // The reader may be busy with the others.
    this.#giveBack(this.#buffer);
    this.#buffer = undefined;
    callback(error);
  }

  override async *[Symbol.asyncIterator](): NodeJS.AsyncIterator<Buffer> {
    try {
      yield* super[Symbol.asyncIterator]();
    } finally {
      this.release();
    }
  }

  /** Ends the body, of which no piece is in use any more. Without it what the last pieces are in is left to the collector. */
  release(): void {
    this.destroy();
    this.#giveBack(this.#latest);
    this.#giveBack(this.#before);
    this.#latest = undefined;
    this.#before = undefined;
  }

  #handOut(): void {
    if (this.#gathered === 0 && !this.#complete) return;
    const piece = this.#gathered === 0 ? null : this.#buffer?.subarray(0, this.#gathered);
    this.#giveBack(this.#before);
    [this.#before, this.#latest, this.#buffer] = [this.#latest, this.#buffer, undefined];
    this.#gathered = 0;
    this.#wanted = false;
    this.push(piece);
  }

  /** A buffer for `length` bytes, with what is gathered. */
  #room(length: number): Buffer {
    const own = this.length !== undefined && this.length <= OWN_BYTES;
    this.#buffer ??= own ? Buffer.allocUnsafeSlow(this.length) : this.#memory.takePiece();
    if (length > this.#buffer.length) {
      // A connection that the other side has closed gives out what it has, paused or not.
      const larger = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, 0, this.#gathered);
      this.#giveBack(this.#buffer);
      this.#buffer = larger;
    }
    return this.#buffer;
  }

  #giveBack(buffer: Buffer | undefined): void {
    if (buffer !== undefined) this.#memory.givePiece(buffer);
  }
}
