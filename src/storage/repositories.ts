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
  /** True when there was something to delete. */
  unlinkLayer(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean>;
  /** The blobs that a repository has, whether or not they are held. */
  layers(repo: RepoRef, o: CallOptions): AsyncIterable<Digest>;
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
  /** The names under which tags lie, unsorted: cheaper than {@link tags}, and a few too many at worst. */
  tagNames(repo: RepoRef, o: CallOptions): AsyncIterable<string>;
  /** Every repository that holds a manifest, in lexical order of `<upstream>/<repository>`. */
  all(o: CallOptions): AsyncIterable<RepoRef>;
  /** Every repository with a link to anything, manifest or not, in the same order. */
  linked(o: CallOptions): AsyncIterable<RepoRef>;
  /** Whether it has a tag, or a link to anything: cheaper than finding out which. */
  isLinked(repo: RepoRef, o: CallOptions): Promise<boolean>;

  /** The digests that the repository's links are named after: cheaper than reading them, and a few too many at worst. */
  linkNames(repo: RepoRef, o: CallOptions): AsyncIterable<LinkName>;

  /** What the upstream last listed as referring to a manifest of the repository, whether or not the manifest itself is held. */
  getReferrers(repo: RepoRef, subject: Digest, o: CallOptions): Promise<ReferrersRecord | undefined>;
  putReferrers(repo: RepoRef, subject: Digest, record: ReferrersRecord, o: CallOptions): Promise<void>;
  deleteReferrers(repo: RepoRef, subject: Digest, o: CallOptions): Promise<boolean>;
  /** The manifests of which {@link getReferrers} knows something. */
  referrersSubjects(repo: RepoRef, o: CallOptions): AsyncIterable<Digest>;

  getManifestRecord(digest: Digest, o: CallOptions): Promise<ManifestRecord | undefined>;
  putManifestRecord(digest: Digest, record: ManifestRecord, o: CallOptions): Promise<void>;
  deleteManifestRecord(digest: Digest, o: CallOptions): Promise<boolean>;
  getBlobRecord(digest: Digest, o: CallOptions): Promise<BlobRecord | undefined>;
  putBlobRecord(digest: Digest, record: BlobRecord, o: CallOptions): Promise<void>;
  deleteBlobRecord(digest: Digest, o: CallOptions): Promise<boolean>;
  getRepoRecord(repo: RepoRef, o: CallOptions): Promise<RepoRecord | undefined>;
  putRepoRecord(repo: RepoRef, record: RepoRecord, o: CallOptions): Promise<void>;
  deleteRepoRecord(repo: RepoRef, o: CallOptions): Promise<boolean>;
}

export interface LinkName {
  readonly kind: "layer" | "revision";
  readonly digest: Digest;
}

/** A link with the repository that has it. */
export interface LinkedName {
  readonly repo: RepoRef;
  readonly link: LinkName;
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
