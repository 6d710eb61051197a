import type { ServerResponse } from "node:http";
import type { StreamBody } from "./answer.ts";

/** A body that came to more or fewer bytes than its headers promise. */
export class BodyLengthError extends Error {
  override readonly name = "BodyLengthError";
}

/** The client has not taken a byte for as long as the server waits (`timeout` of the server). */
export class ClientStalledError extends Error {
  override readonly name = "ClientStalledError";

  constructor() {
    super("the client has stopped reading");
  }
}

/**
 * Writes a body after its headers, one chunk at a time: the next is asked for when the operating system has taken the last,
 * so that the producer may use its memory again and a slow client costs one chunk.
 *
 * Resolves when everything is out, or the client has left; in either case the stream is finished with. Rejects when the
 * stream fails, has another length than promised, or the client stalls; the response is then unfinished, and the caller must
 * reset its connection: a clean end would pass for the whole body wherever the length is not known.
 */
export async function sendBytes(
  res: ServerResponse,
  { stream, length }: StreamBody,
  onSent: (bytes: number) => void,
): Promise<void> {
  const writer = new ChunkWriter(res);
  let sent = 0;
  try {
    for await (const chunk of stream) {
      if (length !== undefined && sent + chunk.length > length) {
        throw new BodyLengthError(`the body is longer than the ${length} bytes that were promised`);
      }
      if (!(await writer.write(chunk))) {
        return;
      }
      sent += chunk.length;
      onSent(chunk.length);
    }
    if (length !== undefined && sent < length) {
      throw new BodyLengthError(`the body ended after ${sent} of ${length} bytes`);
    }
    await writer.end(undefined);
  } finally {
    writer.detach();
  }
}

/** Ends the response with a small body, or none; resolves with whether the client was still there to get it. */
export async function endWith(res: ServerResponse, bytes: Uint8Array | undefined): Promise<boolean> {
  const writer = new ChunkWriter(res);
  try {
    return await writer.end(bytes);
  } finally {
    writer.detach();
  }
}

/** Turns write callbacks and the end of the connection into one promise at a time. */
class ChunkWriter {
  readonly #res: ServerResponse;
  #settle: ((outcome: boolean | Error) => void) | undefined;

  constructor(res: ServerResponse) {
    this.#res = res;
    // Node forgets the callback of a write to a connection that is gone: the close is the only sign.
    res.on("close", this.#onClose);
    res.on("timeout", this.#onTimeout);
  }

  detach(): void {
    this.#res.off("close", this.#onClose);
    this.#res.off("timeout", this.#onTimeout);
  }

  /** False when the client has left. */
  write(chunk: Uint8Array): Promise<boolean> {
    return this.#pending((settle) => {
      this.#res.write(chunk, (err) => settle(err === null || err === undefined));
    });
  }

  end(bytes: Uint8Array | undefined): Promise<boolean> {
    return this.#pending(() => {
      this.#res.end(bytes);
    });
  }

  #pending(start: (settle: (outcome: boolean | Error) => void) => void): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const settle = (outcome: boolean | Error): void => {
        this.#settle = undefined;
        if (typeof outcome === "boolean") {
          resolve(outcome);
        } else {
          reject(outcome);
        }
      };
      if (isClosed(this.#res)) {
        settle(false);
        return;
      }
      this.#settle = settle;
      start(settle);
    });
  }

  readonly #onClose = (): void => this.#settle?.(this.#res.writableFinished);

  // Only while a write is waiting: a quiet connection whose bytes have yet to come from upstream is not the client's fault.
  readonly #onTimeout = (): void => this.#settle?.(new ClientStalledError());
}

/** A response of HTTP/2 does not say it by itself. */
function isClosed(res: ServerResponse & { readonly stream?: { readonly closed: boolean } }): boolean {
  return res.closed || res.stream?.closed === true;
}
