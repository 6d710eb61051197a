import type { ReadBuffers } from "./read-buffers.ts";

/** Bytes of a chunk: with more, readers who are a little apart would need more memory; with less, more calls. */
const CHUNK = 1 << 20;

/** Of all chunks together, those in use included: when slow readers hold all of it, the others read for themselves. */
const MAX_BYTES = 64 << 20;

/** What is read in chunks. */
export interface ChunkSource {
  /** Bytes. */
  readonly size: number;
  /** Fills a buffer from `position` on; gives the bytes read, fewer only at the end. */
  read(buffer: Buffer, length: number, position: number): Promise<number>;
}

/** A part of a source that several readers use at once. */
export interface Chunk {
  readonly buffer: Buffer;
  /** Position of its first byte in the source. */
  readonly start: number;
  /** The bytes in it, once they are read; fewer than belong to it where the source has become shorter. */
  readonly filled: Promise<number>;
}

interface Readers {
  count: number;
  /** By {@link Chunk.start}. */
  readonly chunks: Map<number, CountedChunk>;
}

interface CountedChunk extends Chunk {
  /** Where it can be found until it is dropped. */
  readonly among: Map<number, CountedChunk>;
  /** The reading of it counts as one. */
  users: number;
}

/**
 * Chunks of sources that have several readers, and sources that are one chunk: each is read once for all who want it, and stays
 * while there is room.
 */
export class SharedChunks {
  readonly #buffers: ReadBuffers;
  readonly #sources = new Map<ChunkSource, Readers>();
  /** What nobody uses, the longest unused first. */
  readonly #unused = new Set<CountedChunk>();
  #bytes = 0;

  constructor(buffers: ReadBuffers) {
    this.#buffers = buffers;
  }

  /** Counts a reader; call the result when it has left. */
  join(source: ChunkSource): () => void {
    const readers: Readers = this.#sources.get(source) ?? { count: 0, chunks: new Map() };
    this.#sources.set(source, readers);
    readers.count += 1;
    return () => {
      readers.count -= 1;
    };
  }

  /**
   * The chunk in which a position lies, with a function to be called once when it is done with. Undefined where it is not there
   * and the reader is alone with a source of several chunks, or there is no room: then the reader reads for itself.
   */
  acquire(source: ChunkSource, position: number): { readonly chunk: Chunk; release(): void } | undefined {
    const readers = this.#sources.get(source);
    if (readers === undefined) return undefined;
    const start = position - (position % CHUNK);
    const chunk = readers.chunks.get(start) ?? this.#load(source, readers, start);
    if (chunk === undefined) return undefined;
    chunk.users += 1;
    this.#unused.delete(chunk);
    return { chunk, release: () => this.#release(chunk) };
  }

  /** Nobody will read the source any more. */
  forget(source: ChunkSource): void {
    const chunks = this.#sources.get(source)?.chunks ?? [];
    this.#sources.delete(source);
    for (const [, chunk] of chunks) this.#drop(chunk);
  }

  #load(source: ChunkSource, { count, chunks }: Readers, start: number): CountedChunk | undefined {
    if ((count < 2 && source.size > CHUNK) || !this.#makeRoom()) return undefined;
    const length = Math.min(CHUNK, source.size - start);
    const buffer = this.#buffers.takeWhole(length);
    this.#bytes += buffer.length;
    const filled = source.read(buffer, length, start);
    const chunk: CountedChunk = { buffer, start, filled, among: chunks, users: 1 };
    chunks.set(start, chunk);
    // What was not read in full is read again by whoever comes next.
    const over = (isWhole: boolean): void => {
      if (!isWhole) this.#drop(chunk);
      this.#release(chunk);
    };
    filled.then(
      (bytes) => over(bytes === length),
      () => over(false),
    );
    return chunk;
  }

  /** For one more chunk; false where all that there are are in use. */
  #makeRoom(): boolean {
    for (const chunk of this.#unused) {
      if (this.#bytes + CHUNK <= MAX_BYTES) break;
      this.#drop(chunk);
    }
    return this.#bytes + CHUNK <= MAX_BYTES;
  }

  #release(chunk: CountedChunk): void {
    chunk.users -= 1;
    if (chunk.users > 0) return;
    if (chunk.among.get(chunk.start) === chunk) this.#unused.add(chunk);
    else this.#free(chunk);
  }

  /** Nobody else gets it. */
  #drop(chunk: CountedChunk): void {
    chunk.among.delete(chunk.start);
    if (this.#unused.delete(chunk)) this.#free(chunk);
  }

  #free({ buffer }: CountedChunk): void {
    this.#bytes -= buffer.length;
    this.#buffers.give(buffer);
  }
}
