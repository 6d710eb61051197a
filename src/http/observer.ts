import type { CacheOutcome } from "../proxy/answers.ts";

/** The label of `weir_http_*{kind=...}`. */
export type RequestKind = "manifest" | "blob" | "tags" | "referrers" | "catalog" | "base" | "other";

/** One finished request at the front. */
export interface AnsweredRequest {
  /** The upstream it was about; undefined when none was found out. */
  readonly upstream: string | undefined;
  readonly kind: RequestKind;
  readonly method: string;
  /** As sent; 499 when the client left before there was an answer. */
  readonly status: number;
  readonly cache: CacheOutcome;
  /** Body bytes handed to the connection. */
  readonly bytesSent: number;
  /** From the request's headers to the first byte of the answer, milliseconds; undefined when there was none. */
  readonly firstByteMs: number | undefined;
  /** From the request's headers to the last byte, milliseconds. */
  readonly totalMs: number;
}

/** What the front server reports; telemetry/ implements it. Called once for each request, after its last byte. */
export interface HttpObserver {
  answered(request: AnsweredRequest): void;
}
