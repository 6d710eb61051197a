/** What a failed call to an S3 server means, and what the operator is told of it. Knows error codes, not the SDK. */
import { DeadlineError } from "../../base/deadline.ts";
import type { S3Config } from "../../config/types.ts";
import { StorageError } from "../blob-store.ts";

/** A failed call by what is to be done about it. */
export interface S3Failure {
  /** The server's error code, or the name or code of the error that came instead of an answer. */
  readonly code: string;
  /** Undefined where there was no answer. */
  readonly status: number | undefined;
  /**
   * - `absent`: there is no such object
   * - `changed`: the object is another one than before
   * - `passing`: may well succeed when tried again
   * - `full`: a quota or the disk
   * - `refused`: everything else; trying again is of no use
   */
  readonly kind: "absent" | "changed" | "passing" | "full" | "refused";
}

const ABSENT: ReadonlySet<string> = new Set(["NoSuchKey", "NotFound"]);
const FULL: ReadonlySet<string> = new Set(["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"]);
/** RequestTimeTooSkewed: the SDK has learnt the server's time from that answer, and the next request carries it. */
const PASSING: ReadonlySet<string> = new Set([
  "SlowDown",
  "RequestTimeout",
  "RequestTimeTooSkewed",
  "OperationAborted",
  "ConditionalRequestConflict",
  "InternalError",
  "ServiceUnavailable",
  "Throttling",
  "ThrottlingException",
]);
/** No answer came, and asking again would not change that. */
const HOPELESS: ReadonlySet<string> = new Set(["ENOTFOUND", "CredentialsProviderError", "ERR_INVALID_URL"]);

const WRONG_REGION: ReadonlySet<string> = new Set([
  "PermanentRedirect",
  "AuthorizationHeaderMalformed",
  "IllegalLocationConstraintException",
  "TemporaryRedirect",
]);
const EXPIRED: ReadonlySet<string> = new Set(["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"]);

/** Reads whatever a call to the SDK was rejected with. */
export function failureOf(error: unknown): S3Failure {
  const { name, code, Code, $metadata } = fieldsOf(error);
  const status = $metadata?.httpStatusCode;
  // The SDK calls a reset connection a TimeoutError; its code says what it was.
  const said = Code ?? (status === undefined ? (code ?? name) : name) ?? "unknown";
  return { code: said, status, kind: kindOf(said, status) };
}

function kindOf(code: string, status: number | undefined): S3Failure["kind"] {
  if (ABSENT.has(code) || (status === 404 && !code.startsWith("NoSuch"))) return "absent";
  if (FULL.has(code) || status === 507) return "full";
  if (status === 412 || status === 416) return "changed";
  if (PASSING.has(code)) return "passing";
  if (status === undefined) return HOPELESS.has(code) || /CERT|SSL|TLS|SELF_SIGNED/.test(code) ? "refused" : "passing";
  return status === 429 || (status >= 500 && status !== 501) ? "passing" : "refused";
}

/**
 * What the store rejects with after `doing` has failed. The SDK's error is not kept as the cause: it carries parts of the
 * signed request, and would take them into the log.
 */
export function asStorageError(error: unknown, doing: string, config: S3Config): unknown {
  if (error instanceof StorageError || error instanceof RangeError) return error;
  if (error instanceof DeadlineError) {
    return new StorageError("unavailable", `${doing}: ${addressOf(config)} has not answered in time`);
  }
  const failure = failureOf(error);
  if (failure.kind === "full") {
    return new StorageError("no-space", `${doing}: ${addressOf(config)} has no room left (${failure.code})`);
  }
  if (failure.kind === "changed" || failure.kind === "absent") {
    return new StorageError("corrupt", `${doing}: the object is not what it was (${failure.code})`);
  }
  return new StorageError("unavailable", `${doing}: ${explained(error, failure, config)}`);
}

/** One sentence that names the key of the configuration, where one is to blame. */
function explained(error: unknown, { code, status }: S3Failure, config: S3Config): string {
  const at = addressOf(config);
  const { bucket, region } = config;
  const key = config.credentials === undefined ? "the credentials that were found" : "storage.s3.accessKeyId";
  if (code === "NoSuchBucket") {
    return `storage.s3.bucket: ${at} has no bucket "${bucket}": make it, or name another`;
  }
  if (code === "InvalidBucketName") return `storage.s3.bucket: "${bucket}" is not a bucket's name for ${at}`;
  if (WRONG_REGION.has(code) || status === 301) {
    const right = fieldsOf(error).Region ?? fieldsOf(error).$response?.headers?.["x-amz-bucket-region"];
    const hint = right === undefined ? "name the bucket's own" : `the bucket's own is "${right}"`;
    return `storage.s3.region: "${region}" is not the region of the bucket "${bucket}": ${hint}`;
  }
  if (code === "InvalidAccessKeyId") return `${key}: ${at} does not know this access key`;
  if (code === "SignatureDoesNotMatch") {
    return `storage.s3.secretAccessKey: ${at} refuses the signature: the secret does not belong to the access key`;
  }
  if (EXPIRED.has(code)) return `storage.s3.sessionToken: the temporary credentials have expired: renew them`;
  if (code === "InvalidToken") return `storage.s3.sessionToken: ${at} does not know the session token`;
  if (code === "CredentialsProviderError") {
    return "storage.s3.accessKeyId: there are no credentials, neither here nor where the AWS SDK looks for them";
  }
  if (code === "RequestTimeTooSkewed") {
    return `this machine's clock and that of ${at} are more than 15 minutes apart: set the clock (NTP)`;
  }
  if (code === "SlowDown" || status === 429 || status === 503) return `${at} asks to slow down (${code})`;
  if (status === 403) {
    return `${at} denies it to ${key} (${code}): allow s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, s3:AbortMultipartUpload and s3:DeleteObject`;
  }
  if (status === undefined) return `storage.s3.endpoint: ${at} cannot be reached (${code})`;
  return `${at} answered ${status} (${code})`;
}

export function addressOf({ endpoint, region }: S3Config): string {
  return endpoint === undefined ? `Amazon S3 in ${region}` : endpoint.origin;
}

/** The fields that errors of the SDK and of Node have, where they have them. */
interface ErrorFields {
  readonly name?: string;
  readonly code?: string;
  readonly Code?: string;
  readonly Region?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
}

function fieldsOf(error: unknown): ErrorFields {
  return typeof error === "object" && error !== null ? error : {};
}
