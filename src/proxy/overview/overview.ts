import type { CallOptions } from "../../base/call.ts";
import type { Digest } from "../../oci/digest.ts";
import type { CredentialStatus } from "../../upstream/credentials/credential.ts";
import type { BreakerStatus } from "../../upstream/outlook.ts";
import type { QuotaStatus } from "../../upstream/rate-limit.ts";
import type { Visibility } from "../answers.ts";

/**
 * What an operator looks at: what Weir does, and what it holds, as one page after another. Plain data without secrets; instants
 * are milliseconds since the epoch. Nothing of it asks an upstream or makes anything look used, and none of it walks the
 * storage: a page costs a bounded number of small reads, however much is held. Names, tags and upstreams' words are shown as
 * they are: whoever renders them escapes them. With workers it speaks for all of them; one that does not answer is left out.
 */
export interface Overview {
  /** In the order of the configuration, then those made by `routing.dynamic`. */
  upstreams(o: CallOptions): Promise<readonly UpstreamOverview[]>;
  storage(o: CallOptions): Promise<StorageOverview>;
  /** A page of what is held, in lexical order of `<upstream>/<repository>`. */
  repositories(query: RepositoriesQuery, o: CallOptions): Promise<RepositoriesPage>;
  /** Undefined where nothing of it is held, or no upstream has such a name. */
  repository(
    upstream: string,
    repository: string,
    query: PageQuery,
    o: CallOptions,
  ): Promise<RepositoryOverview | undefined>;
  /** Downloads under way, the one begun last first. */
  fills(o: CallOptions): Promise<readonly FillOverview[]>;
  /** What clients asked for of late, the latest first; never more than {@link MAX_RECENT}. */
  recent(limit: number, o: CallOptions): Promise<readonly RecentPull[]>;
}

/** Rows of one page; a query for more gets so many. */
export const MAX_PAGE = 200;

/** Pulls that {@link Overview.recent} tells of. */
export const MAX_RECENT = 500;

/** One page of a list. */
export interface PageQuery {
  /** What the name contains, whatever the case; empty finds everything. */
  readonly search: string;
  /** Rows before the page. */
  readonly offset: number;
  readonly limit: number;
}

export interface RepositoriesQuery extends PageQuery {
  /** Of this upstream only. */
  readonly upstream: string | undefined;
}

export interface UpstreamOverview {
  readonly name: string;
  /** As `upstreams.<name>.type` has it. */
  readonly type: string;
  /** Not in the configuration, but made by `routing.dynamic`. */
  readonly dynamic: boolean;
  /** In the order in which they are asked. */
  readonly endpoints: readonly EndpointOverview[];
  /** In configured order; none asks anonymously. */
  readonly credentials: readonly CredentialStatus[];
  readonly quotas: readonly QuotaStatus[];
  /** The latest failure since the start; undefined without one. A clear "no" is none. */
  readonly lastError: UpstreamFailure | undefined;
  readonly held: UpstreamHeld;
}

export interface EndpointOverview {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Of the origin itself. */
  readonly breaker: BreakerState;
  /** When it is asked again where it is open; undefined where it is not. */
  readonly retryAtMs: number | undefined;
  /** Realms and blob hosts that it has led to of late, and the origin itself: each fails by itself. */
  readonly breakers: readonly BreakerStatus[];
}

/** `half-open`: it has failed too often, and the next request tries it again. */
export type BreakerState = "closed" | "open" | "half-open";

export interface UpstreamFailure {
  readonly atMs: number;
  /** A fault, such as `timeout`, or `status 503`: few and short. */
  readonly reason: string;
  /** A sentence; printable, of a few hundred characters, and without queries, credentials or what an answer's body said. */
  readonly text: string;
}

export interface UpstreamHeld {
  /** What the storage uses; what several upstreams have counts for each. */
  readonly bytes: number;
  readonly repositories: number;
}

export interface StorageOverview {
  readonly driver: "filesystem" | "s3" | "tiered";
  /** What is used for blobs; on `tiered`, on the disk. While it is not {@link counted}, what is known of it. */
  readonly bytes: number;
  readonly blobs: number;
  /** `storage.maxSize`, with its marks; undefined without a limit. */
  readonly limitBytes: number | undefined;
  readonly highBytes: number | undefined;
  readonly lowBytes: number | undefined;
  /** The storage has been looked through since the start. */
  readonly counted: boolean;
  /** What is on the disk and not yet in the bucket, by number; undefined where there is no such thing. */
  readonly waitingUploads: number | undefined;
}

export interface RepositoriesPage {
  /** Of all pages. */
  readonly total: number;
  /** False while names are still being gathered, or where there are more than fit in memory: then some are missing. */
  readonly complete: boolean;
  readonly repositories: readonly RepositoryLine[];
}

export interface RepositoryLine {
  readonly upstream: string;
  readonly repository: string;
  /** Undefined, as all below, where it is not known yet: look again a moment later. */
  readonly visibility: Visibility | "unknown" | undefined;
  readonly tags: number | undefined;
  /** What the storage uses for what the repository has; what several have counts for each. */
  readonly sizeBytes: number | undefined;
  readonly lastUsedMs: number | undefined;
  /** There is more in it than was counted: the figures are the least that they can be. */
  readonly atLeast: boolean;
}

export interface RepositoryOverview extends RepositoryLine {
  /** Tags that the search finds, on all pages. */
  readonly total: number;
  /** In the order of their names. */
  readonly rows: readonly TagRow[];
  /** What pins everything in it. */
  readonly pinnedBy: PinnedBy | undefined;
}

export interface TagRow {
  readonly tag: string;
  /** What it means, as far as is held. */
  readonly digest: Digest;
  readonly held: boolean;
  readonly mediaType: string | undefined;
  /** Sum of what the manifest and those it lists name, each once, themselves included, as far as they are held; not what is on the disk. */
  readonly sizeBytes: number | undefined;
  /** `linux/amd64`; of an index those that it lists, with whether they are held. */
  readonly platforms: readonly TagPlatform[];
  /** When the upstream last said so; undefined where it never has (adopted). */
  readonly checkedAtMs: number | undefined;
  /** Until when nobody is asked; undefined where somebody is asked at once. */
  readonly freshUntilMs: number | undefined;
  /** Why, in words, as an explanation has it. */
  readonly freshness: string;
  /** The rule that sets its time to live: its `match`, or `default`, and the key where it stands. */
  readonly rule: string;
  readonly ruleKey: string;
  readonly ttlMs: number;
  readonly goneSinceMs: number | undefined;
  readonly pinnedBy: PinnedBy | undefined;
}

export interface TagPlatform {
  readonly platform: string;
  readonly held: boolean;
}

/** What keeps something from being evicted. */
export interface PinnedBy {
  /** The pin, as it was written. */
  readonly pin: string;
  /** `storage.pins` is the configuration's; `operator` can be taken back by `unpin`. */
  readonly from: "storage.pins" | "operator";
}

export interface FillOverview {
  readonly digest: Digest;
  /** Of those that wait for it, the one that is asked; empty, as its repository, when none is left. */
  readonly upstream: string;
  readonly repository: string;
  readonly receivedBytes: number;
  /** Undefined where the upstream has not told it. */
  readonly sizeBytes: number | undefined;
  readonly readers: number;
  readonly startedAtMs: number;
}

export interface RecentPull {
  readonly requestId: string;
  readonly atMs: number;
  /** It has not been answered to its end yet: most of what is below is not known then. */
  readonly running: boolean;
  readonly method: string | undefined;
  /** `manifest`, `blob`, `tags`, `referrers`, `catalog`. */
  readonly kind: string | undefined;
  /** `docker.io/library/nginx:1.27`, as far as the request said so; else its path. */
  readonly subject: string | undefined;
  readonly status: number | undefined;
  readonly cache: string | undefined;
  readonly bytes: number | undefined;
  readonly firstByteMs: number | undefined;
  readonly totalMs: number | undefined;
  readonly account: string | undefined;
}
