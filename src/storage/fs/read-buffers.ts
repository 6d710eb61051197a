/**
 * Bytes of buffers that all running reads together should hold; each reads with two, one under way and one ahead, unless there are
 * several and what is read is at hand.
 */
const BUDGET = 32 << 20;
/**
 * Bytes of all buffers, those included that nobody uses just now: what lone readers and shared chunks use at most at once. Memory
 * that was given back has to be found and cleared again, which costs more than reading into it.
 */
const MAX_BYTES = 96 << 20;
/** With less the system calls cost more than the copying. */
const LEAST_SHARE = 64 << 10;
/** With more a chunk no longer fits the processor's cache on its way from the file to the socket. */
const LARGEST = 1 << 20;
/**
 * For a read that is alone, of which another thread fills the next buffer while one goes out: with less the two wait for each
 * other more often, with more they are out of the cache.
 */
const LARGEST_ALONE = 2 << 20;
/** Below this an own size class saves nothing. */
const SMALLEST = 16 << 10;

/**
 * Reused buffers for the bodies of blobs. Allocating (and collecting) one per chunk costs more than reading it. The more
 * reads run, the smaller the buffers that they get, so that their sum stays bounded.
 */
export class ReadBuffers {
  /**
   * By size, a power of two, the size given back longest ago first; of a size the one used last, still in the processor's
   * cache, is given out first.
   */
  readonly #free = new Map<number, Buffer[]>();
  /** Of what is free and of what was taken. */
  #bytes = 0;
  #reads = 0;

  /** Counts a read; call the result when it has ended. */
  begin(): () => void {
    this.#reads += 1;
    return () => {
      this.#reads -= 1;
    };
  }

  /** Whether there is one read, and no other. */
  get isAlone(): boolean {
    return this.#reads === 1;
  }

  /** A buffer for at most `wanted` bytes: never much larger, and smaller where the share of one read is. */
  take(wanted: number): Buffer {
    return this.#take(Math.min(sizeFor(wanted), this.#share()));
  }

  /** A buffer for all of `wanted` bytes, whatever the share of one read is: for what several read. */
  takeWhole(wanted: number): Buffer {
    return this.#take(sizeFor(wanted));
  }

  /** Gives back what was taken; nobody may use it afterwards. */
  give(buffer: Buffer): void {
    const size = buffer.length;
    const others = this.#free.get(size) ?? [];
    others.push(buffer);
    this.#free.delete(size);
    this.#free.set(size, others);
    this.#trim();
  }

  clear(): void {
    for (const [size, unused] of this.#free) this.#bytes -= size * unused.length;
    this.#free.clear();
  }

  #take(size: number): Buffer {
    const free = this.#free.get(size)?.pop();
    if (free !== undefined) return free;
    this.#bytes += size;
    this.#trim();
    return Buffer.allocUnsafeSlow(size);
  }

  /** Sizes that nobody takes any more must not keep those out that are taken. */
  #trim(): void {
    for (const [size, unused] of this.#free) {
      while (this.#bytes > MAX_BYTES && unused.shift() !== undefined) this.#bytes -= size;
      if (unused.length > 0) break;
      this.#free.delete(size);
    }
  }

  #share(): number {
    const share = BUDGET / (2 * Math.max(1, this.#reads));
    const largest = this.isAlone ? LARGEST_ALONE : LARGEST;
    return Math.min(largest, Math.max(LEAST_SHARE, 2 ** Math.floor(Math.log2(share))));
  }
}

/** Of the buffer in which so many bytes find room. */
function sizeFor(bytes: number): number {
  return Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(Math.max(1, bytes))));
}
