import type { Identity } from "../access/identity.ts";
import type { ByteStream } from "../base/byte-stream.ts";
import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import type { ByteRangeRequest } from "../oci/range.ts";
import type { Reference, RepoRef } from "../oci/reference.ts";
import type { Referrer } from "../oci/referrers.ts";

export interface Caller {
  /** Who asks, as far as access is concerned. */
  readonly identity: Identity;
  /** The client's address and user agent, to tell one client's requests from another's; never used for access. */
  readonly client: string;
}

export interface ProxyCall extends CallOptions {
  readonly caller: Caller;
}

/** The label of `weir_*{cache=...}`. */
export type CacheOutcome = "hit" | "miss" | "collapsed" | "revalidated" | "stale" | "negative" | "bypass" | "none";

/** How an answer came to be; http/ renders it as `Cache-Status` (RFC 9211), telemetry/ counts it. */
export interface CacheInfo {
  readonly outcome: CacheOutcome;
  /** Seconds for which the answer stays fresh without asking upstream; hits by tag only. */
  readonly ttlS?: number;
  /** Whether a miss is being kept. */
  readonly stored?: boolean;
  /** The upstream's status that made Weir serve stale. */
  readonly fwdStatus?: number;
  /** A token such as `stale-if-error`, `soft-deadline`, `gone`. */
  readonly detail?: string;
  /** Text for `Warning: 299 - "..."`; set whenever the answer may be out of date. */
  readonly warning?: string;
}

export type Visibility = "public" | "private";

export interface ManifestCall extends ProxyCall {
  readonly repo: RepoRef;
  readonly reference: Reference;
  readonly head: boolean;
  /** The raw `Accept` header, lines joined with a comma; undefined when the client sent none. */
  readonly accept: string | undefined;
}

export interface ManifestAnswer {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** Undefined on HEAD where only the description is known. */
  readonly bytes: Uint8Array | undefined;
  readonly visibility: Visibility;
  readonly cache: CacheInfo;
}

export interface BlobCall extends ProxyCall {
  readonly repo: RepoRef;
  readonly digest: Digest;
  /** HEAD, or a conditional GET that will be answered 304: nothing is transferred and no fill is started. */
  readonly head: boolean;
  /** A single satisfiable-looking range; multi-range and malformed headers never get here. */
  readonly range: ByteRangeRequest | undefined;
  /** The client could not tell the end of a body of untold length from a break (HTTP/1.0). */
  readonly needsLength: boolean;
  /** The client may be sent to where the bytes are. */
  readonly mayRedirect: boolean;
  /** Whoever asks on the client's behalf sends the bytes by itself where it is told in which file they are. */
  readonly mayHandOver: boolean;
}

export interface BlobAnswer {
  readonly digest: Digest;
  /** The whole blob's size in bytes; undefined only for a miss whose upstream does not tell. */
  readonly size: number | undefined;
  readonly visibility: Visibility;
  readonly cache: CacheInfo;
  /** Set when a range is answered (206): first and last byte, inclusive. */
  readonly part: { readonly start: number; readonly end: number } | undefined;
  /**
   * The bytes of the answer (of the part, if set), to be iterated at most once; undefined on HEAD. Not iterating it
   * needs {@link release}.
   */
  readonly body: ByteStream | undefined;
  /** Where the client gets the whole blob, or a range of it, for some minutes; then there is no `body` and no `part`. */
  readonly location?: string;
  /** The file that has the whole verified blob, below the storage's root; then there is no `body`, and `part` is what is wanted of it. */
  readonly local?: string;
  /** Frees what the answer holds when `body` is not iterated; harmless otherwise. */
  release(): Promise<void>;
}

export interface TagsCall extends ProxyCall {
  readonly repo: RepoRef;
  readonly n: number | undefined;
  readonly last: string | undefined;
  /** Whatever else stood in the query, copied to the upstream (cursors of registries that use their own). */
  readonly cursor: Readonly<Record<string, string>>;
}

export interface TagsAnswer {
  readonly repository: string;
  readonly tags: readonly string[];
  /** Query of the next page, without `ns`. */
  readonly next: Readonly<Record<string, string>> | undefined;
  readonly visibility: Visibility;
  readonly cache: CacheInfo;
}

export interface ReferrersCall extends ProxyCall {
  readonly repo: RepoRef;
  /** The manifest that is referred to. */
  readonly digest: Digest;
  /** Undefined lists them all. */
  readonly artifactType: string | undefined;
}

export interface ReferrersAnswer {
  /** Filtered, where the call has an artifact type. */
  readonly referrers: readonly Referrer[];
  readonly visibility: Visibility;
  readonly cache: CacheInfo;
}

export interface CatalogCall extends ProxyCall {
  readonly n: number | undefined;
  readonly last: string | undefined;
  /** Only this upstream's repositories (virtual host, or `ns`). */
  readonly upstream: string | undefined;
}

export interface CatalogAnswer {
  /** `<upstream>/<repository>`, or without the upstream where the call named one. */
  readonly repositories: readonly string[];
  readonly next: Readonly<Record<string, string>> | undefined;
}

/** A GET or HEAD as the hot path asks for it: routed, without a range, a body or a trace. */
export interface ReadyCall {
  readonly repo: RepoRef;
  readonly asked:
    | { readonly kind: "manifest"; readonly reference: Reference }
    | { readonly kind: "blob"; readonly digest: Digest };
  readonly head: boolean;
  /** As in {@link ManifestCall}; undefined for blobs too. */
  readonly accept: string | undefined;
  readonly identity: Identity;
}

/**
 * An answer that is wholly in memory. The object is the same for as long as it holds, so that what is made of it can be kept
 * beside it (a WeakMap).
 */
export interface ReadyAnswer {
  readonly kind: "manifest" | "blob";
  readonly digest: Digest;
  /** Of blobs `application/octet-stream`. */
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
  /** The whole content; undefined where only a HEAD can be answered. */
  readonly bytes: Uint8Array | undefined;
  readonly visibility: Visibility;
  /** Until when the answer is fresh, milliseconds since the epoch; tags only. The rest to now is the `ttl` of Cache-Status. */
  readonly freshUntilMs: number | undefined;
}

/** The pull-through as http/ sees it. Rejects with OciError, UpstreamError or StorageError; http/errors.ts renders them. */
export interface PullThrough {
  manifest(call: ManifestCall): Promise<ManifestAnswer>;
  blob(call: BlobCall): Promise<BlobAnswer>;
  tags(call: TagsCall): Promise<TagsAnswer>;
  /** Rejects with the fault `absent` also where the upstream has no such API. */
  referrers(call: ReferrersCall): Promise<ReferrersAnswer>;
  catalog(call: CatalogCall): Promise<CatalogAnswer>;
  /**
   * What is at hand for the call, decided anew by the same rules as ever and found without waiting for anything; it counts as
   * used (room) and as a hit. Undefined where the long way has to be taken: it alone refuses, asks, and reads from the storage.
   * Never throws.
   */
  ready(call: ReadyCall): ReadyAnswer | undefined;
}
