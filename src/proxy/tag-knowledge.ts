import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { FreshnessConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { Repositories, TagEntry } from "../storage/repositories.ts";
import type { ManifestHead, Upstream } from "../upstream/upstream.ts";
import type { CacheInfo } from "./answers.ts";
import type { FreshnessFacts, Known } from "./freshness.ts";
import type { HeldManifest, HeldManifests } from "./held-manifests.ts";
import type { Memory, RememberedAbsenceError, RememberedHead } from "./remembered.ts";
import type { Standing } from "./standings.ts";

/** What HEAD needs to know of a manifest. */
export interface Description {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
}

/** What a tag means, and how that came to be known. `manifest` is missing only where a description was asked for. */
export interface FoundTag {
  readonly description: Description;
  readonly manifest: HeldManifest | undefined;
  readonly cache: CacheInfo;
  /** What the decision to answer without asking rested on; undefined where the upstream was asked. */
  readonly facts?: FreshnessFacts;
}

/** Whether the manifest itself is wanted, or will be described. */
export type Want = "manifest" | "description";

/** What Weir knows of a tag before it asks. */
export interface Knowledge {
  /** The tag's record in storage, whether or not its manifest is still there. */
  readonly entry: TagEntry | undefined;
  /** What can be served. */
  readonly held: { readonly entry: TagEntry; readonly manifest: HeldManifest } | undefined;
  /** What a HEAD has said since, of a manifest that is not held. */
  readonly head: RememberedHead | undefined;
  readonly absence: RememberedAbsenceError | undefined;
}

export interface TagLookDeps {
  readonly repositories: Pick<Repositories, "getTag" | "hasRevision">;
  readonly manifests: Pick<HeldManifests, "read">;
  readonly memory: Pick<Memory, "head" | "absence">;
}

export async function lookAtTag(
  { repositories, manifests, memory }: TagLookDeps,
  repo: RepoRef,
  tag: string,
  o: CallOptions,
): Promise<Knowledge> {
  const entry = await repositories.getTag(repo, tag, o);
  // A link to a manifest that this repository does not have proves nothing, however it came there.
  const linked = entry !== undefined && (await repositories.hasRevision(repo, entry.digest, o));
  const manifest = linked ? await manifests.read(entry.digest, o) : undefined;
  return {
    entry,
    held: entry === undefined || manifest === undefined ? undefined : { entry, manifest },
    head: await memory.head(repo, tag, o),
    absence: await memory.absence("tag", repo, tag, o),
  };
}

export interface TagFactsDeps {
  freshnessOf(upstream: string): FreshnessConfig;
  ttlMs(repo: RepoRef, tag: string): number;
  readonly clock: Clock;
}

/** What the decision about a tag rests on, before its upstream is asked or after. */
export function tagFacts(
  { freshnessOf, ttlMs, clock }: TagFactsDeps,
  {
    repo,
    upstream,
    standing,
  }: {
    readonly repo: RepoRef;
    readonly upstream: Pick<Upstream, "budgetLow">;
    readonly standing: Standing;
  },
  tag: string,
  known: Knowledge,
  asked: FreshnessFacts["asked"],
): FreshnessFacts {
  // Before asking, what was heard last decides whether to ask; after it, what could be served instead.
  const relied = asked === "not-yet" ? latestOf(known) : known.held?.entry;
  return {
    known: relied && knownOf(relied),
    older: relied === known.entry || known.held === undefined ? undefined : knownOf(known.held.entry),
    spared: sparedOf(upstream, repo),
    ttlMs: ttlMs(repo, tag),
    ...standing,
    absenceRemembered: known.absence !== undefined,
    asked,
    config: freshnessOf(repo.upstream),
    nowMs: clock.now(),
  };
}

/** How asking ended well: with the manifest, or with its description only. */
export type Answered =
  | { readonly manifest: HeldManifest; readonly cache: CacheInfo }
  | { readonly manifest: undefined; readonly description: Description; readonly cache: CacheInfo };

/** A digest that the upstream has named for a tag, and when. */
export interface Named {
  readonly digest: Digest;
  readonly checkedAtMs: number;
  readonly goneSinceMs?: number;
  readonly etag?: string | undefined;
}

/** What was heard last: the record in storage, or a HEAD whose manifest is not held. */
export function latestOf({ entry, head }: Knowledge): Named | undefined {
  if (entry === undefined || head === undefined) {
    return entry ?? head;
  }
  return head.checkedAtMs > entry.checkedAtMs ? head : entry;
}

function knownOf({ checkedAtMs, goneSinceMs }: Named): Known {
  return { checkedAtMs, goneSinceMs };
}

/** Which questions are better not asked, since little is left of what the upstream allows. */
function sparedOf(upstream: Pick<Upstream, "budgetLow">, { repository }: RepoRef): FreshnessFacts["spared"] {
  if (!upstream.budgetLow(repository)) {
    return undefined;
  }
  return upstream.budgetLow(repository, "HEAD") ? "all" : "gets";
}

/** The answer that needs nothing from upstream, as far as it is there. */
export function fresh(known: Knowledge, ttlMs: number, want: Want): Answered | undefined {
  const cache: CacheInfo = { outcome: "hit", ttlS: seconds(ttlMs) };
  const latest = latestOf(known);
  if (latest === known.entry) {
    return known.held && { manifest: known.held.manifest, cache };
  }
  const description = want === "description" && known.head !== undefined ? describe(known.head) : undefined;
  return description && { manifest: undefined, description, cache };
}

export function found(answered: Answered): FoundTag {
  const { manifest, cache } = answered;
  return manifest === undefined
    ? { description: answered.description, manifest, cache }
    : { description: { ...manifest, size: manifest.bytes.length }, manifest, cache };
}

export function describe({ digest, mediaType, size }: RememberedHead): Description | undefined {
  return mediaType === undefined || size === undefined ? undefined : { digest, mediaType, size };
}

export function remembered(digest: Digest, head: ManifestHead, checkedAtMs: number): RememberedHead {
  return { kind: "head", digest, mediaType: head.mediaType, size: head.size, etag: head.etag, checkedAtMs };
}

export function entryOf(digest: Digest, checkedAtMs: number, etag: string | undefined): TagEntry {
  return { digest, checkedAtMs, ...(etag === undefined ? {} : { etag }) };
}

export function reference(repo: RepoRef, tag: string): string {
  return `${formatRepo(repo)}:${tag}`;
}

export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
