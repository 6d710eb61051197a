/** A blob's bytes come in such pieces where they come fast: fewer turns cost less, larger pieces leave a processor's cache. */
const LARGE_BYTES = 256 * 1024;
/** What waits in a quiet connection, and most answers, fit into it. */
const SMALL_BYTES = 64 * 1024;
/** What a body gathers in: the next large read fits in as well when it is half full. */
export const PIECE_BYTES = 2 * LARGE_BYTES;
/** Free pieces kept for the next body, three of which one needs; the rest is left to the garbage collector. */
const MAX_FREE_PIECES = 24;

/**
 * The memory through which everything passes that the upstreams of one process send, used again and again: allocated anew
 * for each read it would grow with the collector's delay, and stay grown with what the allocator keeps.
 */
export class ReceiveMemory {
  readonly #free: Buffer[] = [];
  #small: Buffer | undefined;
  #large: Buffer | undefined;

  /**
   * What every connection reads into that expects headers. Reading and what is done with it in the same turn is all that
   * happens in between, so one is enough for all of them: whoever has read from it copies what is kept beyond that turn.
   */
  get small(): Buffer {
    this.#small ??= Buffer.allocUnsafeSlow(SMALL_BYTES);
    return this.#small;
  }

  /** The same for connections in the midst of a body. */
  get large(): Buffer {
    this.#large ??= Buffer.allocUnsafeSlow(LARGE_BYTES);
    return this.#large;
  }

  /** How many pieces lie here, unused. */
  get freePieces(): number {
    return this.#free.length;
  }

  /** {@link PIECE_BYTES} for whoever asks, to be given back by {@link givePiece}. */
  takePiece(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
  }

  /** Nobody may use the buffer afterwards. One of another size is none of these, and let go. */
  givePiece(buffer: Buffer): void {
    if (buffer.length === PIECE_BYTES && this.#free.length < MAX_FREE_PIECES) this.#free.push(buffer);
  }
}
