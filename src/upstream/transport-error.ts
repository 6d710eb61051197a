import { UpstreamError, type UpstreamFault } from "./upstream.ts";

/** A connection that the rule about addresses forbids; the message says which key allows it. */
export class AddressRefusedError extends Error {
  override readonly name = "AddressRefusedError";
}

/** The proxy on the way could not be used; the message names it, and nothing that is for it only. */
export class ProxyError extends Error {
  override readonly name = "ProxyError";
}

export class HeadersLateError extends Error {
  override readonly name = "HeadersLateError";

  constructor() {
    super("the response's headers did not arrive in time");
  }
}

export class TooManyHeadersError extends Error {
  override readonly name = "TooManyHeadersError";

  constructor(limit: number) {
    super(`more than ${limit} response headers`);
  }
}

const TIMEOUT_CODES: ReadonlySet<string> = new Set(["UND_ERR_CONNECT_TIMEOUT", "UND_ERR_BODY_TIMEOUT", "ETIMEDOUT"]);

/** A connection that was there and broke: what a server does to an idle one just as a request goes out on it. */
const RESET_CODES: ReadonlySet<string> = new Set([
  "ECONNRESET",
  "EPIPE",
  "UND_ERR_SOCKET",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
]);

/** Codes of OpenSSL's verification results and of Node's TLS errors. */
const TLS_CODE =
  /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA|EPROTO)/;

/** What a failed exchange with `url` means. The message has the host only: paths and queries of redirects can be secrets. */
export function transportError(upstream: string, url: URL, error: unknown): UpstreamError {
  if (error instanceof UpstreamError) {
    return error;
  }
  const { fault, reason } = explain(error);
  return new UpstreamError(upstream, fault, `${upstream}: ${url.host}: ${reason}`, { cause: error });
}

/** True where the connection was reset in mid-exchange, so that the same request deserves another one. */
export function isReset(error: UpstreamError): boolean {
  return error.fault === "connect" && RESET_CODES.has(codeOf(error.cause));
}

function explain(error: unknown): { fault: UpstreamFault; reason: string } {
  if (error instanceof AddressRefusedError) {
    return { fault: "refused", reason: error.message };
  }
  if (error instanceof ProxyError) {
    return { fault: "connect", reason: error.message };
  }
  if (error instanceof HeadersLateError) {
    return { fault: "timeout", reason: error.message };
  }
  if (error instanceof TooManyHeadersError) {
    return { fault: "bad-answer", reason: error.message };
  }
  const code = codeOf(error);
  if (code === "UND_ERR_HEADERS_OVERFLOW") {
    return { fault: "bad-answer", reason: "the response's headers are larger than limits.responseHeaders" };
  }
  if (TIMEOUT_CODES.has(code)) {
    return {
      fault: "timeout",
      reason: code === "UND_ERR_BODY_TIMEOUT" ? "the body stalled" : "the connection timed out",
    };
  }
  // Some of undici's parser errors have no code of their own.
  if (error instanceof Error && error.name === "HTTPParserError") {
    return { fault: "bad-answer", reason: "the answer is not HTTP" };
  }
  if (TLS_CODE.test(code)) {
    return { fault: "tls", reason: `TLS failed (${code})` };
  }
  return { fault: "connect", reason: RESET_CODES.has(code) ? "the connection broke" : `no connection (${code})` };
}

/** The error's own code, or for an attempt at several addresses that of the attempt that says most. */
function codeOf(error: unknown): string {
  if (error instanceof AggregateError) {
    const codes = error.errors.map(codeOf);
    return codes.find((code) => TIMEOUT_CODES.has(code)) ?? codes[0] ?? "unknown";
  }
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "unknown";
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
