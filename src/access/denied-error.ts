import { OciError } from "../oci/errors.ts";

/**
 * Why somebody got nothing. The label of `weir_access_denied_total{reason=...}`.
 * - `address`: the client's address
 * - `rule`: `access.rules`
 * - `grant`: the token grants less than was asked for
 * - `content`: the upstream's `allow` and `deny`
 * - `platform`, `frozen`: the upstream's key of that name
 * - `private`: a repository that is not public
 * - `budget`: `access.fetchBudget`
 */
export type DenialReason = "address" | "rule" | "grant" | "content" | "platform" | "frozen" | "private" | "budget";

/** 403 DENIED, or 429 where it is a matter of time; the message and its detail name the configuration key that decided. */
export class AccessDeniedError extends OciError {
  readonly reason: DenialReason;

  /** @param retryAfterS seconds until it may be different */
  constructor(
    reason: DenialReason,
    key: string,
    message: string,
    detail: Readonly<Record<string, unknown>> = {},
    retryAfterS?: number,
  ) {
    const headers = retryAfterS === undefined ? {} : { "retry-after": String(retryAfterS) };
    super(retryAfterS === undefined ? "DENIED" : "TOOMANYREQUESTS", message, { detail: { ...detail, key }, headers });
    this.reason = reason;
  }
}
