/**
 * Bytes on their way to one consumer.
 *
 * A chunk's memory belongs to the producer and may be overwritten as soon as the next chunk is asked for, so that
 * large buffers can be reused: a consumer finishes with a chunk (for a socket: waits for the write callback) before
 * it goes on, or copies. Leaving the loop early (`return`) frees everything that the stream holds. A stream that
 * cannot deliver the right bytes throws; it never ends early and never ends on wrong bytes.
 */
export type ByteStream = AsyncIterable<Uint8Array>;
