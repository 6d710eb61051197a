/**
 * The error codes of the distribution spec (v1.1, "Error Codes") and the few that registries add to them, each with the
 * HTTP status it has unless the thrower knows better.
 */
export const OCI_ERRORS = {
  BLOB_UNKNOWN: { status: 404 },
  DENIED: { status: 403 },
  DIGEST_INVALID: { status: 400 },
  MANIFEST_INVALID: { status: 400 },
  MANIFEST_UNKNOWN: { status: 404 },
  NAME_INVALID: { status: 400 },
  NAME_UNKNOWN: { status: 404 },
  PAGINATION_NUMBER_INVALID: { status: 400 },
  RANGE_INVALID: { status: 416 },
  TAG_INVALID: { status: 400 },
  TOOMANYREQUESTS: { status: 429 },
  UNAUTHORIZED: { status: 401 },
  UNAVAILABLE: { status: 503 },
  UNKNOWN: { status: 500 },
  UNSUPPORTED: { status: 405 },
} as const satisfies Record<string, { readonly status: number }>;

export type OciErrorCode = keyof typeof OCI_ERRORS;

export interface OciErrorOptions {
  /** Overrides the code's own status, such as 502 for UNAVAILABLE. */
  readonly status?: number;
  /** Machine-readable facts for the envelope's `detail`; never a credential. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** Extra response headers, such as `retry-after`. Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** What a client is told: one entry of the OCI error envelope, and the status it travels with. */
export class OciError extends Error {
  override readonly name = "OciError";
  readonly code: OciErrorCode;
  readonly status: number;
  readonly detail: Readonly<Record<string, unknown>> | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: OciErrorCode, message: string, options: OciErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = options.status ?? OCI_ERRORS[code].status;
    this.detail = options.detail;
    this.headers = options.headers ?? {};
  }
}
