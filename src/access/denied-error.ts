import { OciError } from "../oci/errors.ts";

/**
 * Why somebody got nothing: the upstream's `allow` and `deny` (`content`), the client's address (`address`), or a repository
 * that is not public (`private`). The label of `weir_access_denied_total{reason=...}`.
 */
export type DenialReason = "content" | "address" | "private";

/** 403 DENIED; the message and its detail name the configuration key that decided. */
export class AccessDeniedError extends OciError {
  readonly reason: DenialReason;

  constructor(reason: DenialReason, key: string, message: string, detail: Readonly<Record<string, unknown>> = {}) {
    super("DENIED", message, { detail: { ...detail, key } });
    this.reason = reason;
  }
}
