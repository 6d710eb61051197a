import type { Readable } from "node:stream";
import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import type { Reference } from "../oci/reference.ts";
import type { Referrer } from "../oci/referrers.ts";
import type { CredentialStatus } from "./credentials/credential.ts";
import type { Outlook } from "./outlook.ts";
import type { QuotaStatus } from "./rate-limit.ts";

/**
 * One configured upstream registry as the proxy sees it: its repositories, asked with its own credentials and rules.
 * Every method rejects with {@link UpstreamError}; absence that the upstream states plainly is the fault `absent`. Where
 * the registry is known to be down (see {@link UpstreamError.breakerOpen}) they reject at once and make no connection.
 */
export interface Upstream {
  /** The name that stands in image references; lower case, with the port if it has one. */
  readonly name: string;
  /** True where a configured credential applies to the repository, a client certificate among them, so that an answer says nothing about the public. */
  hasCredential(repository: string): boolean;
  /** One HEAD; `digest` is missing where the registry sends no `Docker-Content-Digest`. */
  headManifest(repository: string, reference: Reference, o: CallOptions): Promise<ManifestHead>;
  /**
   * One GET, bounded by `limits.manifestSize`. Always asks with the full `Accept` list. The body is JSON and, for a
   * digest, hashes to it; anything else is the fault `bad-answer`.
   */
  getManifest(repository: string, reference: Reference, o: ManifestGetOptions): Promise<ManifestBody | "not-modified">;
  /**
   * Proves that the repository has the blob, without reading it, in the way that the kind of registry takes: mostly by a HEAD
   * that is not followed through its redirect (upstreams.md rule 14). `size` is given where the answer told it.
   */
  headBlob(repository: string, digest: Digest, o: CallOptions): Promise<BlobHead>;
  /** The blob's size, by `GET` with `Range: bytes=0-0` through the redirect; for registries whose HEAD says nothing. */
  blobSize(repository: string, digest: Digest, o: CallOptions): Promise<number | undefined>;
  /**
   * Opens the blob's body at `start`, following redirects from the registry anew each time. The caller consumes or
   * destroys `body`. Resolves when the response headers are there; never retries on its own: the fill decides.
   * Beyond `maxConnections` bodies it waits, and the upstream's repositories take turns.
   */
  getBlob(repository: string, digest: Digest, o: BlobGetOptions): Promise<BlobBody>;
  /** One page; follows no `Link`. */
  listTags(repository: string, page: TagPageRequest, o: CallOptions): Promise<TagPage>;
  /**
   * Everything that refers to a manifest, unfiltered: all pages, together bounded by `limits.manifestSize`. Undefined where
   * the upstream offers no referrers API, whatever it answers instead. Where it does not know the manifest and says so with
   * an error, as Quay does, that is the fault `absent` of a manifest.
   */
  listReferrers(repository: string, digest: Digest, o: CallOptions): Promise<readonly Referrer[] | undefined>;
  /**
   * An anonymous HEAD of the reference: may everybody read this repository? Rejects when the upstream could not say, also
   * where the reference is `absent`.
   */
  isPublic(repository: string, reference: Reference, o: CallOptions): Promise<boolean>;
  /**
   * Little is left of the quota that a request for a manifest of the repository, by `GET` if left out, would count under
   * (`freshness.whenBudgetLow`), so that what can be put off should be. Asks nobody.
   */
  budgetLow(repository: string, method?: "GET" | "HEAD"): boolean;
  /** What is known of its limits; asks nobody. */
  quotaStatus(): readonly QuotaStatus[];
  /** What is known of its credentials; asks nobody. */
  credentialStatus(): readonly CredentialStatus[];
  /** What would become of questions about the repository now; asks nobody and changes nothing. */
  outlook(repository: string): Outlook;
  /**
   * It is not in the configuration any more. What is under way on it goes on, and may ask again, but the state that it has
   * reported to the observer (open breakers) is taken back and reported no more.
   */
  retire(): void;
  /** Ends every connection, and with it what is under way. */
  close(): Promise<void>;
}

export interface ManifestHead {
  readonly mediaType: string | undefined;
  readonly digest: Digest | undefined;
  /** Bytes. */
  readonly size: number | undefined;
  readonly etag: string | undefined;
}

export interface ManifestGetOptions extends CallOptions {
  /** Sent as `If-None-Match`. */
  readonly etag?: string;
}

export interface ManifestBody {
  /** As the upstream sent it, without parameters. */
  readonly mediaType: string;
  /** Computed over `bytes`, never taken from a header. */
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  readonly etag: string | undefined;
}

export interface BlobHead {
  readonly size: number | undefined;
}

export interface BlobGetOptions extends CallOptions {
  /** First byte wanted; 0 asks without a Range header. */
  readonly start: number;
  /** Last byte wanted, inclusive; left out means to the end. */
  readonly end?: number;
}

export interface BlobBody {
  /** The position of the body's first byte in the blob: 0 when a range request was answered with 200. */
  readonly start: number;
  /** The whole blob's size as the upstream tells it; undefined when it does not. Bytes. */
  readonly total: number | undefined;
  /** Raw bytes as they were on the wire (identity encoding). The caller owns it. */
  readonly body: Readable;
}

export interface TagPageRequest {
  readonly n?: number;
  readonly last?: string;
  /** What else the upstream's own `Link` had in its query, copied opaquely. */
  readonly cursor?: Readonly<Record<string, string>>;
}

export interface TagPage {
  readonly tags: readonly string[];
  /** The query of the next page as the upstream's `Link` has it (`n`, `last` and whatever else it needs); undefined at the end. */
  readonly next: Readonly<Record<string, string>> | undefined;
}

/**
 * Where a request to an upstream failed.
 * - `absent`: the upstream says plainly that there is no such thing (404, or its own way of saying so); see `denied`
 * - `denied`: 401/403 after authentication, also from the token endpoint: private or absent, it does not say which
 * - `credential`: our own credential was refused
 * - `quota`: 429
 * - `connect`, `tls`, `timeout`: no answer; `status`: a 5xx or another status that makes no sense here
 * - `bad-answer`: an answer that is not what the protocol promises (HTML, wrong digest, too large, bad range)
 * - `refused`: a redirect, realm or address that Weir does not follow
 * - `withheld`: nothing was asked, since Weir may not ask on that caller's behalf
 */
export type UpstreamFault =
  | "absent"
  | "denied"
  | "credential"
  | "quota"
  | "connect"
  | "tls"
  | "timeout"
  | "status"
  | "bad-answer"
  | "refused"
  | "withheld";

/** Faults that asking again later does not mend. */
const CLEAR: ReadonlySet<UpstreamFault> = new Set(["absent", "denied", "credential", "refused", "withheld"]);

export interface UpstreamErrorOptions {
  readonly status?: number;
  /** From `Retry-After` or its relatives. */
  readonly retryAfterMs?: number;
  /** What was absent, where the upstream's error code says so. */
  readonly absent?: "repository" | "manifest" | "blob";
  /** The label of the credential in use; never its value. */
  readonly credential?: string;
  readonly breakerOpen?: boolean;
  readonly cause?: unknown;
}

/** A failure at or on the way to an upstream. The message is safe to show: no query strings, no credentials. */
export class UpstreamError extends Error {
  override readonly name = "UpstreamError";
  readonly fault: UpstreamFault;
  readonly upstream: string;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  readonly absent: "repository" | "manifest" | "blob" | undefined;
  readonly credential: string | undefined;
  /**
   * Nothing was asked: the origin has failed too often in a row (design, section 3 "Breaker"). `fault` is that of its last
   * failure, `retryAfterMs` the time until it may be asked again.
   */
  readonly breakerOpen: boolean;

  constructor(upstream: string, fault: UpstreamFault, message: string, options: UpstreamErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.upstream = upstream;
    this.fault = fault;
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
    this.absent = options.absent;
    this.credential = options.credential;
    this.breakerOpen = options.breakerOpen ?? false;
  }

  /** True where asking again later can help: the upstream is in trouble, rather than clear about a "no". */
  get trouble(): boolean {
    return !CLEAR.has(this.fault);
  }
}

/** What the upstream client reports; telemetry/ implements it. Called for every exchange, retries and token requests included. */
export interface UpstreamObserver {
  exchange(e: UpstreamExchange): void;
  received(upstream: string, kind: UpstreamKind, bytes: number): void;
  /** An origin is not asked any more, or is again. */
  breaker(change: BreakerChange): void;
}

/**
 * What an origin is to an upstream: its endpoint, where its tokens come from, or where it redirects to, which is nearly
 * always for blobs. One that is several of these is the first of them.
 */
export type OriginRole = "registry" | "realm" | "blob";

export interface BreakerChange {
  readonly upstream: string;
  /** Scheme, host and port. For realms and blob hosts it is the upstream's word: not for a metric's label as it stands. */
  readonly origin: string;
  readonly role: OriginRole;
  readonly open: boolean;
  /** The failure that opened it; undefined when it closes. */
  readonly reason: string | undefined;
}

export type UpstreamKind = "manifest" | "blob" | "tags" | "referrers" | "base" | "token";

export interface UpstreamExchange {
  readonly upstream: string;
  readonly kind: UpstreamKind;
  readonly method: string;
  /** Scheme, host and path; the query (signatures, tokens) is left out. */
  readonly url: string;
  /** The response's status; undefined when there was no response. */
  readonly status: number | undefined;
  /** Why there was no response, or why it was not accepted. */
  readonly fault: UpstreamFault | undefined;
  /** The same in a sentence, where there was no response; safe to show. */
  readonly detail?: string;
  /** From sending to response headers, milliseconds. */
  readonly durationMs: number;
  readonly requestId: string | undefined;
  /** Of the exchange's own span, where it is traced. */
  readonly traceId?: string;
  readonly spanId?: string;
  /** How many redirects stood before this exchange. */
  readonly hop: number;
}
