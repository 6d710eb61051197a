/** Clients that read one body as slowly as a test wants, and see how it ends. */
import { once } from "node:events";
import http from "node:http";
import { connect } from "node:net";
import type { BlobContent } from "./fill-sources.ts";

/** How a body ended: `complete`, or the connection broke before its end. */
export interface PullEnd {
  /** Bytes received, from the start of the body. */
  readonly bytes: number;
  readonly complete: boolean;
}

/** A GET whose headers have come, on a connection of its own. Nothing is read ahead but a few buffers. */
export class BlobPull {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly #response: http.IncomingMessage;
  readonly #chunks: AsyncIterator<Buffer, undefined>;
  #held: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(response: http.IncomingMessage) {
    this.#response = response;
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.#chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer, undefined>;
  }

  /** The next `length` bytes of the body. Rejects when it ends before. */
  async take(length: number): Promise<Buffer> {
    const parts = [this.#held];
    let have = this.#held.length;
    while (have < length) {
      const { done, value } = await this.#chunks.next();
      if (done === true) throw new Error(`the body ended after ${this.#at + have} bytes`);
      parts.push(value);
      have += value.length;
    }
    const all = Buffer.concat(parts);
    this.#held = all.subarray(length);
    this.#at += length;
    return all.subarray(0, length);
  }

  /** Reads to the end. The body should be that of `blob` from `offset` on: rejects at the first byte that is not. */
  async compare(blob: Pick<BlobContent, "read">, offset = 0): Promise<PullEnd> {
    try {
      for (;;) {
        const chunk = this.#held;
        this.#held = Buffer.alloc(0);
        const from = offset + this.#at;
        if (!blob.read(from, from + chunk.length).equals(chunk)) {
          this.leave();
          return await Promise.reject(new WrongByteError(`a wrong byte between ${from} and ${from + chunk.length}`));
        }
        this.#at += chunk.length;
        const { done, value } = await this.#chunks.next();
        if (done === true) return { bytes: this.#at, complete: true };
        this.#held = value;
      }
    } catch (error) {
      if (error instanceof WrongByteError) throw error;
      return { bytes: this.#at, complete: false };
    }
  }

  /** Reads to the end, whatever comes. */
  async drain(): Promise<PullEnd> {
    try {
      for (;;) {
        this.#at += this.#held.length;
        const { done, value } = await this.#chunks.next();
        if (done === true) return { bytes: this.#at, complete: true };
        this.#held = value;
      }
    } catch {
      return { bytes: this.#at, complete: false };
    }
  }

  /** The whole rest of a small body. Rejects when it breaks off. */
  async text(): Promise<string> {
    const parts = [this.#held];
    for (let next = await this.#chunks.next(); next.done !== true; next = await this.#chunks.next()) {
      parts.push(next.value);
    }
    return Buffer.concat(parts).toString();
  }

  leave(): void {
    this.#response.destroy();
  }
}

class WrongByteError extends Error {}

export async function getBlob(url: string, headers: http.OutgoingHttpHeaders = {}): Promise<BlobPull> {
  const request = http.get(url, { agent: false, headers });
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  // A reset is told to the request as well as to the body, where it is seen.
  request.on("error", () => {});
  return new BlobPull(response);
}

/** What came over one TCP connection. */
export interface RawReply {
  readonly head: string;
  /** As it stood on the wire: chunks are not taken apart. */
  readonly body: Buffer;
  /** How the peer ended the connection: in order, or by a reset. */
  readonly end: "fin" | "rst";
}

/** Sends `request` to a server over a connection of its own and reads until the peer ends it. */
export async function rawExchange(serverUrl: string, request: string | Uint8Array): Promise<RawReply> {
  const { hostname, port } = new URL(serverUrl);
  const socket = connect(Number(port), hostname);
  const parts: Buffer[] = [];
  socket.on("data", (part) => parts.push(part));
  socket.write(request);
  const end = await new Promise<"fin" | "rst">((resolve, reject) => {
    socket.once("end", () => resolve("fin"));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNRESET") resolve("rst");
      else reject(error);
    });
  });
  socket.destroy();
  const all = Buffer.concat(parts);
  const split = all.indexOf("\r\n\r\n");
  const headEnd = split < 0 ? all.length : split + 4;
  return { head: all.toString("latin1", 0, headEnd), body: all.subarray(headEnd), end };
}
