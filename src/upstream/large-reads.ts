import type { OnReadOpts, Socket } from "node:net";

/** What waits in a quiet connection, and most answers, fit into it. */
const FIRST_BYTES = 64 * 1024;
/** A blob's bytes come in such pieces where they come fast; two of them stay in a processor's cache. */
const LARGE_BYTES = 512 * 1024;

/** What `net.connect` takes of a connection that reads into buffers of its own. */
export interface LargeReads {
  readonly options: { readonly onread: OnReadOpts; readonly highWaterMark: number };
  /** To be called when the connection is there, before it is read from. */
  attach(socket: Socket): void;
}

/**
 * Lets one connection in the clear read as much as there is, into the same two buffers: by itself Node reads 64 KiB at a
 * time, into a new buffer each. Whoever reads from the socket copies what it wants to keep before it goes on.
 *
 * Two things are kept for longer. What lies in the socket unread keeps its buffer. And undici keeps headers until they are
 * complete: a read in which they may not be, since it is no longer than `maxHeaderBytes`, is handed on as a copy.
 */
export function largeReads(maxHeaderBytes: number): LargeReads {
  const copied = Math.max(FIRST_BYTES, maxHeaderBytes);
  let socket: Socket | undefined;
  let current = Buffer.allocUnsafeSlow(FIRST_BYTES);
  let other: typeof current | undefined;
  return {
    options: {
      highWaterMark: LARGE_BYTES,
      onread: {
        buffer: () => current,
        callback: (length) => {
          const read = current.subarray(0, length);
          if (length <= copied) {
            if (length === current.length) current = Buffer.allocUnsafeSlow(LARGE_BYTES);
            return socket?.push(Buffer.from(read)) ?? false;
          }
          const goOn = socket?.push(read) ?? false;
          const free = socket !== undefined && socket.readableLength <= length ? other : undefined;
          other = current;
          current = free ?? Buffer.allocUnsafeSlow(LARGE_BYTES);
          return goOn;
        },
      },
    },
    attach: (connected) => {
      socket = connected;
    },
  };
}
