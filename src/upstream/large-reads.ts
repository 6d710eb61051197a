import type { OnReadOpts, Socket } from "node:net";
import type { ReceiveMemory } from "./receive-memory.ts";

/** What `net.connect` takes of a connection that reads into memory given to it. */
export interface ReadingConnection {
  readonly options: { readonly onread: OnReadOpts };
  /** To be called when the connection is there, before it is read from. */
  attach(socket: Socket): void;
}

/** A body that is on its way, as the connection needs to know it. */
export interface BodyOnItsWay {
  /** So many of its bytes were taken. */
  took(bytes: number): void;
  /** Nothing more of it comes. */
  ended(): void;
}

interface Connection {
  /** Bytes of the body that are still to come; 0 between bodies, and where nobody has told. */
  left: number;
  /** Whether the body is taken at all at the moment. */
  paused(): boolean;
}

const NO_BODY: Pick<Connection, "paused"> = { paused: () => false };

/**
 * Lets connections in the clear read bodies into large memory that all of them use again: by itself Node reads 64 KiB at a
 * time, into a new buffer each.
 *
 * That is right for as long as whoever reads has taken everything before the call is over in which it arrived. So readers are
 * called in it, and what may be kept for longer is handed on as a copy: headers, until they are complete, which are all that
 * is read outside of bodies of a known length, and whatever a paused reader leaves lying.
 */
export class LargeReads {
  readonly #memory: ReceiveMemory;
  /** The one that is being read from in this very call. */
  #current: Connection | undefined;

  constructor(memory: ReceiveMemory) {
    this.#memory = memory;
  }

  connection(): ReadingConnection {
    const memory = this.#memory;
    const connection: Connection = { left: 0, ...NO_BODY };
    let socket: Socket | undefined;
    const isBody = (length: number): boolean => length <= connection.left && !connection.paused();
    return {
      options: {
        onread: {
          buffer: () => (isBody(memory.small.length + 1) ? memory.large : memory.small),
          callback: (length, buffer) => {
            if (socket === undefined) return false;
            const inPassing = buffer === memory.large && isBody(length) && socket.readableLength === 0;
            socket.push(inPassing ? memory.large.subarray(0, length) : Buffer.from(buffer.subarray(0, length)));
            this.#current = connection;
            try {
              // By itself the stream tells a turn later.
              socket.emit("readable");
            } finally {
              this.#current = undefined;
            }
            const left = inPassing && !socket.destroyed ? socket.read() : null;
            if (left !== null) socket.unshift(Buffer.from(left));
            return !connection.paused() && socket.readableLength < socket.readableHighWaterMark;
          },
        },
      },
      attach: (connected) => {
        socket = connected;
      },
    };
  }

  /**
   * The headers of a body of `length` bytes have been read just now. Undefined where the connection is none of these, or the
   * length is not known: chunks have something between them, and headers at their end.
   */
  bodyBegins(length: number | undefined, paused: () => boolean): BodyOnItsWay | undefined {
    const connection = this.#current;
    if (connection === undefined || length === undefined) return undefined;
    Object.assign(connection, { left: length, paused });
    return {
      took: (bytes) => {
        connection.left -= bytes;
      },
      ended: () => {
        Object.assign(connection, { left: 0, ...NO_BODY });
      },
    };
  }
}
