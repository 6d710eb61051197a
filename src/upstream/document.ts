import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import type { Answer } from "./exchange.ts";
import { UpstreamError } from "./upstream.ts";

/** The whole body of anything but a blob: what trickles in more slowly than this is not worth a connection. */
const DOCUMENT_MS = 60_000;

const FIRST_BUFFER_BYTES = 16 * 1024;

export interface DocumentBound {
  readonly bytes: number;
  /** What the bound is called, for the message: a configuration key, or a phrase. */
  readonly name: string;
}

/**
 * Reads an answer's whole body. Rejects with {@link UpstreamError}: `bad-answer` when it is larger than the bound or is
 * content-encoded, `timeout` when it does not end in time; or with the signal's reason.
 */
export async function readDocument(
  upstream: string,
  answer: Pick<Answer, "url" | "headers" | "body">,
  bound: DocumentBound,
  clock: Clock,
  o: CallOptions,
): Promise<Uint8Array> {
  const where = `${upstream}: ${answer.url.host}`;
  const encoding = answer.headers.get("content-encoding")?.toLowerCase() ?? "identity";
  if (encoding !== "identity") {
    throw new UpstreamError(upstream, "bad-answer", `${where} sends an encoded body, though identity was asked for`);
  }
  const tooLarge = (): UpstreamError =>
    new UpstreamError(upstream, "bad-answer", `${where} sends a body larger than ${bound.name} (${bound.bytes} bytes)`);
  if (Number(answer.headers.get("content-length")) > bound.bytes) {
    throw tooLarge();
  }
  const deadline = withDeadline(o.signal, DOCUMENT_MS, clock);
  const end = (): void => {
    const late = new UpstreamError(upstream, "timeout", `${where} did not finish its answer in ${DOCUMENT_MS} ms`);
    answer.body.destroy(o.signal.aborted && o.signal.reason instanceof Error ? o.signal.reason : late);
  };
  deadline.signal.addEventListener("abort", end, { once: true });
  // One growing buffer: kept one by one, a body of one-byte chunks would cost a hundred times its size.
  let buffer = Buffer.allocUnsafe(Math.min(FIRST_BUFFER_BYTES, bound.bytes));
  let size = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      if (size + chunk.byteLength > bound.bytes) {
        throw tooLarge();
      }
      if (size + chunk.byteLength > buffer.byteLength) {
        const grown = Buffer.allocUnsafe(
          Math.min(Math.max(buffer.byteLength * 2, size + chunk.byteLength), bound.bytes),
        );
        buffer.copy(grown, 0, 0, size);
        buffer = grown;
      }
      buffer.set(chunk, size);
      size += chunk.byteLength;
    }
    return buffer.subarray(0, size);
  } finally {
    deadline.signal.removeEventListener("abort", end);
    deadline.clear();
  }
}

/** The JSON of a document, a byte order mark allowed; undefined when it is none. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}
