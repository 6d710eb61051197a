import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, Http2ServerRequest, type SecureServerOptions, type ServerHttp2Session } from "node:http2";

/** Requests at once on a connection; RFC 9113 asks servers to take no fewer. */
const MAX_STREAMS = 100;

/**
 * What is offered beside HTTP/1.1. Who can do both gets HTTP/1.1: blobs come twice as fast by it, and manifests are not held up by blobs
 * (Go's client over loopback, TLS: one blob 880 against 370 MiB/s; eight at once 880 against 400, and a manifest beside them 4 against
 * 25 ms; manifests alone come equally fast).
 */
export const HTTP2_OPTIONS: SecureServerOptions = {
  allowHTTP1: true,
  ALPNCallback: ({ protocols }) => ["http/1.1", "h2"].find((protocol) => protocols.includes(protocol)),
  settings: { maxConcurrentStreams: MAX_STREAMS, enablePush: false },
};

export interface Http2Timeouts {
  /** To the first request, milliseconds. */
  readonly headersMs: number;
  /** To the end of a request's body. */
  readonly requestMs: number;
  /** Without a request. */
  readonly keepAliveMs: number;
  /** Without a byte taken of an answer that waits to be. */
  readonly stalledMs: number;
}

/**
 * The request of HTTP/2 behind what has the form of an HTTP/1.1 request; undefined where it is one. What it says of its version
 * is the client's word: Node takes `GET / HTTP/2.0` for HTTP/1.1.
 */
export function http2Request(req: IncomingMessage): Http2ServerRequest | undefined {
  return req instanceof Http2ServerRequest ? req : undefined;
}

/** Of a request's headers, the request line's parts among them. */
export function headerBytes({ rawHeaders }: Http2ServerRequest): number {
  return rawHeaders.reduce((sum, text) => sum + text.length, 0);
}

/** Ends the session when no request comes. */
export function limitSession(session: ServerHttp2Session, timeouts: Http2Timeouts, isIdle: () => boolean): void {
  // Node's own would end it while an upstream is slow.
  session.removeAllListeners("timeout");
  session.on("timeout", () => {
    if (isIdle()) {
      session.destroy();
    } else {
      session.setTimeout(timeouts.keepAliveMs);
    }
  });
  session.setTimeout(timeouts.headersMs);
  session.once("stream", () => session.setTimeout(timeouts.keepAliveMs));
}

/**
 * Lets a request of HTTP/2 be handled as one of HTTP/1.1, where Node's own compatibility falls short of it, and holds it to the
 * time that it may take.
 *
 * @param slow called before the request is ended because its body does not come
 */
export function limitStream(
  req: Http2ServerRequest,
  res: ServerResponse,
  timeouts: Http2Timeouts,
  slow: () => void,
): void {
  const { stream, headers } = req;
  const authority = headers[":authority"];
  if (typeof authority === "string") {
    headers.host = authority;
  }
  // Told of as the response's "timeout"; whose answer is only waiting for its upstream may go on.
  stream.setTimeout(timeouts.stalledMs);
  if (!stream.endAfterHeaders) {
    const timer = setTimeout(() => {
      if (!req.complete) {
        slow();
        stream.close(constants.NGHTTP2_CANCEL);
      }
    }, timeouts.requestMs);
    timer.unref();
    stream.once("close", () => clearTimeout(timer));
  }
  // What is left of a body that nobody wants: without an end on both sides the answer would never count as sent.
  stream.once("finish", () => {
    if (!stream.readableEnded && !stream.endAfterHeaders) {
      setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR));
    }
  });
  // Node counts as written what a reset has ended, and the answer to a HEAD from the start.
  Object.defineProperty(res, "writableFinished", {
    get: () => stream.writableFinished && stream.headersSent && stream.rstCode === constants.NGHTTP2_NO_ERROR,
  });
  let closed = false;
  res.once("close", () => {
    closed = true;
  });
  // Node keeps it from the response where a HEAD is abandoned before it is answered.
  stream.once("close", () => {
    if (!closed) res.emit("close");
  });
}

/** Ends a request so that its answer cannot pass for whole; the others of the connection go on. */
export function resetStream(req: Http2ServerRequest): void {
  req.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
}
