import { OciError, type OciErrorCode } from "../oci/errors.ts";
import { formatReference, formatRepo } from "../oci/reference.ts";
import type { CacheInfo } from "../proxy/answers.ts";
import { FillStoppedError } from "../proxy/fill-errors.ts";
import { RememberedAbsenceError } from "../proxy/remembered.ts";
import { StorageError, type StorageFault } from "../storage/blob-store.ts";
import { UpstreamError } from "../upstream/upstream.ts";
import { type Answer, jsonAnswer, NO_CACHE_INFO } from "./answer.ts";
import type { RoutedCall } from "./route.ts";

export interface ErrorContext {
  /** What was asked; undefined when the request could not be understood so far. */
  readonly call: RoutedCall | undefined;
  /** The status that a request with `ns` gets when the upstream's quota is spent. */
  budgetStatusOf(upstream: string): 429 | 503;
}

/**
 * What a client is told of a failure (design, section 2, the table of errors). Everything that goes wrong below comes
 * through here; what is not known becomes a 500 that gives nothing of the inside away.
 */
export function toOciError(err: unknown, context: ErrorContext): OciError {
  if (err instanceof OciError) {
    return err;
  }
  if (err instanceof UpstreamError) {
    return ofUpstream(err, context);
  }
  if (err instanceof StorageError) {
    return ofStorage(err);
  }
  if (err instanceof FillStoppedError) {
    return new OciError("UNAVAILABLE", `Weir has ended this download: ${err.message}; try again`, { cause: err });
  }
  return new OciError("UNKNOWN", "Weir has failed to answer this request; its log says why", { cause: err });
}

/** The error envelope of the distribution spec ("Error Codes"). */
export function errorAnswer(err: OciError, cache: CacheInfo = NO_CACHE_INFO): Answer {
  const entry = { code: err.code, message: err.message, ...(err.detail === undefined ? {} : { detail: err.detail }) };
  return jsonAnswer(err.status, { errors: [entry] }, cache, err.headers);
}

/** How far a request got that ended in an error: a failure of the upstream means that it was asked, and what it said. */
export function cacheInfoOf(err: unknown): CacheInfo {
  if (err instanceof RememberedAbsenceError) {
    return { outcome: "negative" };
  }
  if (!(err instanceof UpstreamError)) {
    return NO_CACHE_INFO;
  }
  if (err.breakerOpen) {
    return { outcome: "miss", detail: "breaker-open" };
  }
  return err.status === undefined ? { outcome: "miss", detail: err.fault } : { outcome: "miss", fwdStatus: err.status };
}

function ofUpstream(err: UpstreamError, context: ErrorContext): OciError {
  switch (err.fault) {
    case "absent":
      return absent(err, context.call);
    case "denied":
      return new OciError(
        isReferrers(context.call) ? "UNSUPPORTED" : "NAME_UNKNOWN",
        `${subject(err, context.call)} is unknown to ${err.upstream}, or denied by it, which does not say which`,
        { status: 404, cause: err },
      );
    case "quota":
      return quotaSpent(err, context);
    case "timeout":
      return trouble(err, 504);
    case "credential":
    case "connect":
    case "tls":
    case "status":
    case "bad-answer":
    case "refused":
    case "withheld":
      return trouble(err, 502);
  }
}

function absent(err: UpstreamError, call: RoutedCall | undefined): OciError {
  if (isReferrers(call)) {
    // NAME_UNKNOWN would keep oras from falling back to the tag.
    const message = `${err.upstream} lists no referrers of ${subject(err, call)}; they may stand under the referrers tag`;
    return new OciError("UNSUPPORTED", message, { status: 404, cause: err });
  }
  const code = absentCode(err, call);
  const what = code === "NAME_UNKNOWN" ? (repositoryOf(call) ?? err.upstream) : subject(err, call);
  return new OciError(code, `${what} is unknown to ${err.upstream}`, { status: 404, cause: err });
}

function absentCode(err: UpstreamError, call: RoutedCall | undefined): OciErrorCode {
  if (err.absent === "repository") {
    return "NAME_UNKNOWN";
  }
  switch (call?.op) {
    case "manifest":
      return "MANIFEST_UNKNOWN";
    case "blob":
      return "BLOB_UNKNOWN";
    default:
      return "NAME_UNKNOWN";
  }
}

function quotaSpent(err: UpstreamError, { call, budgetStatusOf }: ErrorContext): OciError {
  let status: 429 | 503 = 429;
  if (call?.op === "blob") {
    // Clients give a blob's 429 up at once or repeat it without a pause, and cannot go elsewhere for the blob.
    status = 503;
  } else if (call?.ns !== undefined) {
    status = budgetStatusOf(err.upstream);
  }
  return new OciError("TOOMANYREQUESTS", `the pull quota at ${err.upstream} is spent`, {
    status,
    detail: detailOf(err),
    headers: retryAfter(err.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS),
    cause: err,
  });
}

/** For an upstream that does not say when it will have quota again: how often its free HEAD is tried. */
const DEFAULT_RETRY_AFTER_MS = 60_000;

function trouble(err: UpstreamError, status: 502 | 504): OciError {
  const message =
    err.fault === "credential"
      ? `${err.upstream} refuses the credential that Weir is configured with${err.credential === undefined ? "" : ` (${err.credential})`}`
      : `Weir could not get this from its upstream: ${err.message}`;
  return new OciError("UNAVAILABLE", message, {
    status,
    detail: detailOf(err),
    ...(err.retryAfterMs === undefined ? {} : { headers: retryAfter(err.retryAfterMs) }),
    cause: err,
  });
}

function detailOf(err: UpstreamError): Readonly<Record<string, unknown>> {
  return {
    upstream: err.upstream,
    reason: err.fault,
    ...(err.status === undefined ? {} : { status: err.status }),
    ...(err.credential === undefined ? {} : { credential: err.credential }),
  };
}

function retryAfter(ms: number): Readonly<Record<string, string>> {
  return { "retry-after": String(Math.max(1, Math.ceil(ms / 1000))) };
}

const STORAGE_ERRORS = {
  "no-space": { code: "UNAVAILABLE", message: "Weir's storage is full" },
  unavailable: { code: "UNAVAILABLE", message: "Weir's storage cannot be reached" },
  corrupt: { code: "UNKNOWN", message: "what Weir holds of this is damaged" },
} as const satisfies Record<StorageFault, { code: OciErrorCode; message: string }>;

/** The error's own message may name paths; it is for the log. */
function ofStorage(err: StorageError): OciError {
  const { code, message } = STORAGE_ERRORS[err.fault];
  return new OciError(code, message, { detail: { reason: err.fault }, cause: err });
}

function isReferrers(call: RoutedCall | undefined): boolean {
  return call?.op === "referrers";
}

function repositoryOf(call: RoutedCall | undefined): string | undefined {
  return call !== undefined && "repo" in call && call.repo !== undefined ? formatRepo(call.repo) : undefined;
}

/** The thing that was asked for, as its reference is written. */
function subject(err: UpstreamError, call: RoutedCall | undefined): string {
  const repository = repositoryOf(call) ?? err.upstream;
  switch (call?.op) {
    case "manifest":
      return `${repository}${call.reference.kind === "tag" ? ":" : "@"}${formatReference(call.reference)}`;
    case "blob":
    case "referrers":
      return `${repository}@${call.digest}`;
    default:
      return repository;
  }
}
