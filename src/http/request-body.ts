import type { IncomingMessage } from "node:http";
import { http2Request } from "./http2.ts";

/** A refused manifest push fits; what is larger is not worth reading only to keep a connection. */
const MAX_DISCARDED_BYTES = 1024 * 1024;

/**
 * Reads past a request's body, which nothing here has a use for, so that the connection can serve the next request.
 * False where the body is too large for that, or has not been sent: then the connection has to end with the answer. A request of
 * HTTP/2 holds nothing up: what is left of it goes with its stream.
 */
export async function discardBody(req: IncomingMessage): Promise<boolean> {
  if (http2Request(req) !== undefined) {
    return true;
  }
  const declared = Number(req.headers["content-length"] ?? 0);
  if (declared === 0 && req.headers["transfer-encoding"] === undefined) {
    return true;
  }
  if (declared > MAX_DISCARDED_BYTES || req.headers.expect !== undefined) {
    return false;
  }
  return await new Promise((resolve) => {
    let received = 0;
    req.on("data", (chunk: Buffer) => {
      received += chunk.length;
      if (received > MAX_DISCARDED_BYTES) {
        req.pause();
        resolve(false);
      }
    });
    req.once("end", () => resolve(true));
    req.once("close", () => resolve(false));
  });
}
