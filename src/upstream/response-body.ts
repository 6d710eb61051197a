import { Readable } from "node:stream";

/**
 * What is gathered at most before the reader takes it. Large enough that taking it costs little beside copying it, small
 * enough that three of it stay in a processor's cache.
 */
const GATHERED_BYTES = 512 * 1024;

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
 * the reader is busy: it takes everything that has arrived in one piece. **A piece is valid until the next is asked for.**
 */
export class ResponseBody extends Readable {
  /** What the response's headers say, bytes; undefined where they do not. */
  readonly length: number | undefined;
  readonly #flow: BodyFlow;
  /** Gathered so many bytes, the flow is paused. */
  readonly #enough: number;
  readonly #bufferBytes: number;
  /** What is gathered in. */
  #buffer: Buffer | undefined;
  /** What the latest piece is in: the reader has it, or it waits to be read, since streams may ask for a piece ahead. */
  #latest: Buffer | undefined;
  /** What the piece before it is in, which the reader may still have while the latest waits. */
  #before: Buffer | undefined;
  #gathered = 0;
  #wanted = false;
  #complete = false;

  constructor(flow: BodyFlow, length: number | undefined) {
    // In object mode, with nothing kept ahead, a read is what asks for the next piece. One may be asked for before all the same:
    // when somebody begins to listen.
    super({ objectMode: true, highWaterMark: 0 });
    this.#flow = flow;
    this.length = length;
    const whole = length !== undefined && length <= GATHERED_BYTES;
    this.#bufferBytes = whole ? length : GATHERED_BYTES;
    this.#enough = whole ? Number.POSITIVE_INFINITY : GATHERED_BYTES / 2;
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
    this.#buffer = undefined;
    this.#latest = undefined;
    this.#before = undefined;
    callback(error);
  }

  #handOut(): void {
    if (this.#gathered === 0 && !this.#complete) return;
    const piece = this.#gathered === 0 ? null : this.#buffer?.subarray(0, this.#gathered);
    [this.#buffer, this.#before, this.#latest] = [this.#before, this.#latest, this.#buffer];
    this.#gathered = 0;
    this.#wanted = false;
    this.push(piece);
  }

  /** A buffer for `length` bytes, with what is gathered. */
  #room(length: number): Buffer {
    this.#buffer ??= Buffer.allocUnsafeSlow(this.#bufferBytes);
    if (length > this.#buffer.length) {
      // A connection that the other side has closed gives out what it has, paused or not.
      const larger = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#buffer.length));
      this.#buffer.copy(larger, 0, 0, this.#gathered);
      this.#buffer = larger;
    }
    return this.#buffer;
  }
}
