import type { ByteStream } from "../base/byte-stream.ts";
import type { CacheInfo } from "../proxy/answers.ts";

/** What a client is to be told, before the headers that stand on every answer. A HEAD gets the same without the body. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly cache: CacheInfo;
  readonly body: Uint8Array | StreamBody | undefined;
  /** Bytes that the web server in front sends in the place of a body. */
  readonly handedOver?: number;
  /** Frees what the answer holds; called once, when it has been sent or given up. */
  readonly release?: () => Promise<void>;
}

export interface StreamBody {
  readonly stream: ByteStream;
  /** What the stream must come to, bytes; undefined when it is not known. */
  readonly length: number | undefined;
}

export const NO_CACHE_INFO: CacheInfo = { outcome: "none" };

/** A JSON document with its length; `application/json` is what clients look for before they read an error. */
export function jsonAnswer(
  status: number,
  value: unknown,
  cache: CacheInfo,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const body = Buffer.from(JSON.stringify(value));
  return {
    status,
    headers: { ...headers, "Content-Type": "application/json", "Content-Length": String(body.length) },
    cache,
    body,
  };
}
