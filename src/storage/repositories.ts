import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { Referrer } from "../oci/referrers.ts";

/**
 * What each repository has: links in the distribution layout, records under `weir/v1` (design, section 5). A link that is
 * empty or invalid counts as absent; a tag's record counts only if it agrees with its link.
 */
export interface Repositories {
  hasLayer(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean>;
  linkLayer(repo: RepoRef, digest: Digest, o: CallOptions): Promise<void>;
  hasRevision(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean>;
  linkRevision(repo: RepoRef, digest: Digest, o: CallOptions): Promise<void>;
  unlinkRevision(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean>;
  /** The held manifests of a repository. */
  revisions(repo: RepoRef, o: CallOptions): AsyncIterable<Digest>;

  /** The tag's link with its record; where the record is missing or disagrees, only `digest` is set and the tag counts as never checked. */
  getTag(repo: RepoRef, tag: string, o: CallOptions): Promise<TagEntry | undefined>;
  /** Writes the link (current and index) first, then the record. Durable when it resolves. */
  putTag(repo: RepoRef, tag: string, entry: TagEntry, o: CallOptions): Promise<void>;
  deleteTag(repo: RepoRef, tag: string, o: CallOptions): Promise<boolean>;
  /** In lexical order. */
  tags(repo: RepoRef, o: CallOptions): Promise<readonly string[]>;
  /** Every repository that holds a manifest, in lexical order of `<upstream>/<repository>`. */
  all(o: CallOptions): AsyncIterable<RepoRef>;

  /** What the upstream last listed as referring to a manifest of the repository, whether or not the manifest itself is held. */
  getReferrers(repo: RepoRef, subject: Digest, o: CallOptions): Promise<ReferrersRecord | undefined>;
  putReferrers(repo: RepoRef, subject: Digest, record: ReferrersRecord, o: CallOptions): Promise<void>;
  deleteReferrers(repo: RepoRef, subject: Digest, o: CallOptions): Promise<boolean>;

  getManifestRecord(digest: Digest, o: CallOptions): Promise<ManifestRecord | undefined>;
  putManifestRecord(digest: Digest, record: ManifestRecord, o: CallOptions): Promise<void>;
  getBlobRecord(digest: Digest, o: CallOptions): Promise<BlobRecord | undefined>;
  putBlobRecord(digest: Digest, record: BlobRecord, o: CallOptions): Promise<void>;
  getRepoRecord(repo: RepoRef, o: CallOptions): Promise<RepoRecord | undefined>;
  putRepoRecord(repo: RepoRef, record: RepoRecord, o: CallOptions): Promise<void>;
}

export interface TagEntry {
  readonly digest: Digest;
  /** When the upstream last said that the tag means `digest`; milliseconds since the epoch; 0 = never (adopted). */
  readonly checkedAtMs: number;
  /** Since when the upstream says that the tag is gone; undefined while it is there. */
  readonly goneSinceMs?: number;
  /** The upstream's entity tag, for registries that give no digest on HEAD. */
  readonly etag?: string;
}

export interface ReferrersRecord {
  /** All of them, whatever their artifact type. */
  readonly referrers: readonly Referrer[];
  /** When the upstream last said so; milliseconds since the epoch. */
  readonly checkedAtMs: number;
  /** Since when the upstream does not know the manifest any more; undefined while it does. */
  readonly goneSinceMs?: number;
}

export interface ManifestRecord {
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
}

/** Where the bytes of a blob or manifest were received from. Missing = unknown, which proves nothing for anybody. */
export interface BlobRecord {
  /** True once a public repository delivered the bytes. */
  readonly public: boolean;
  /** Upstreams whose private repositories delivered the bytes. */
  readonly upstreams: readonly string[];
}

export interface RepoRecord {
  readonly visibility: "public" | "private";
  /** When the anonymous question was last answered; milliseconds since the epoch. */
  readonly visibilityAtMs: number;
  /** Private only: when the upstream last confirmed that Weir's credential may read the repository. */
  readonly provedAtMs: number;
}
