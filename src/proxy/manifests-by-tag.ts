import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import type { FreshnessConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { Repositories, TagEntry } from "../storage/repositories.ts";
import { type ManifestBody, type ManifestHead, UpstreamError } from "../upstream/upstream.ts";
import type { CacheInfo } from "./answers.ts";
import { type Background, LATE, waitAtMost, waitFor } from "./background.ts";
import { decideFreshness, type FreshnessDecision, type FreshnessFacts } from "./freshness.ts";
import type { HeldManifest, HeldManifests } from "./held-manifests.ts";
import type { ManifestsByDigest, Target } from "./manifests-by-digest.ts";
import { recorded } from "./recorded.ts";
import { type Memory, type RememberedAbsenceError, type RememberedHead, saysNo } from "./remembered.ts";
import { isSignatureTag, signatureAbsentMs } from "./signature-lookups.ts";
import type { Stale } from "./stale.ts";
import type { Standings } from "./standings.ts";

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
}

/** Whether the manifest itself is wanted, or will be described. */
export type Want = "manifest" | "description";

export interface ManifestsByTagDeps {
  readonly repositories: Repositories;
  readonly manifests: HeldManifests;
  readonly byDigest: ManifestsByDigest;
  readonly standings: Standings;
  readonly memory: Memory;
  readonly stale: Stale;
  readonly background: Background;
  freshnessOf(upstream: string): FreshnessConfig;
  ttlMs(repo: RepoRef, tag: string): number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What Weir knows of a tag before it asks. */
interface Knowledge {
  /** The tag's record in storage, whether or not its manifest is still there. */
  readonly entry: TagEntry | undefined;
  /** What can be served. */
  readonly held: { readonly entry: TagEntry; readonly manifest: HeldManifest } | undefined;
  /** What a HEAD has said since, of a manifest that is not held. */
  readonly head: RememberedHead | undefined;
  readonly absence: RememberedAbsenceError | undefined;
}

/** How asking ended well: with the manifest, or with its description only. */
type Answered =
  | { readonly manifest: HeldManifest; readonly cache: CacheInfo }
  | { readonly manifest: undefined; readonly description: Description; readonly cache: CacheInfo };

/**
 * Rounds of looking at what is known and asking. One is the rule; a second follows when the question that was joined gave a
 * description and the manifest is wanted. The last joins no such question any more.
 */
const MAX_ROUNDS = 3;

/** Manifests asked for by tag: fresh ones cost nothing, others one HEAD, moved ones one GET more. */
export class ManifestsByTag {
  readonly #deps: ManifestsByTagDeps;
  readonly #asking = new SingleFlight<Answered>();
  /** When each question that is under way was put; milliseconds since the epoch. */
  readonly #askedAtMs = new Map<string, number>();

  constructor(deps: ManifestsByTagDeps) {
    this.#deps = deps;
  }

  /** Rejects with the upstream's fault where nothing that is known may be served. */
  async find(target: Target, tag: string, want: Want, call: CallOptions): Promise<FoundTag> {
    for (let round = 1; ; round += 1) {
      const known = await this.#look(target, tag, call);
      const decision = this.#decide(target, tag, known, "not-yet");
      const settled = this.#settle(target, tag, known, decision, want);
      if (settled !== undefined) {
        return settled;
      }
      const key = round < MAX_ROUNDS ? reference(target.repo, tag) : `${reference(target.repo, tag)} ${want}`;
      const asking = this.#ask(key, target, tag, want, call);
      const answered = await this.#wait(target, tag, known, { asking, key }, call);
      if (answered.manifest !== undefined || want === "description") {
        return found(answered);
      }
    }
  }

  /** What can be answered without asking: undefined where it has to be. */
  #settle(
    target: Target,
    tag: string,
    known: Knowledge,
    decision: FreshnessDecision,
    want: Want,
  ): FoundTag | undefined {
    switch (decision.do) {
      case "fresh": {
        const answered = fresh(known, decision.ttlMs, want);
        return answered === undefined ? undefined : found(answered);
      }
      case "stale":
        return known.held === undefined
          ? undefined
          : found(this.#stale(target, tag, known.held, decision.reason, known.absence));
      case "refuse":
        throw known.absence ?? new Error(`${reference(target.repo, tag)} was refused without a reason`);
      case "ask":
      case "wait":
        return undefined;
    }
  }

  /** Waits for the upstream's answer for as long as that is better than what is known. */
  async #wait(
    target: Target,
    tag: string,
    known: Knowledge,
    { asking, key }: { readonly asking: Promise<Answered>; readonly key: string },
    call: CallOptions,
  ): Promise<Answered> {
    const { clock, freshnessOf } = this.#deps;
    const { held } = known;
    try {
      if (held === undefined) {
        return await waitFor(asking, call.signal);
      }
      // Counted from when the upstream was asked: who joins a question that is late already does not wait as long again.
      const askedForMs = clock.now() - (this.#askedAtMs.get(key) ?? clock.now());
      const leftMs = Math.max(0, freshnessOf(target.repo.upstream).softDeadlineMs - askedForMs);
      const answered = await waitAtMost(asking, leftMs, { clock, signal: call.signal });
      if (answered !== LATE) {
        return answered;
      }
      const decision = this.#decide(target, tag, known, "late");
      return decision.do === "stale"
        ? this.#stale(target, tag, held, decision.reason, undefined)
        : await waitFor(asking, call.signal);
    } catch (error) {
      if (!(error instanceof UpstreamError) || held === undefined) {
        throw error;
      }
      const decision = this.#decide(target, tag, known, error.fault);
      if (decision.do === "stale") {
        return this.#stale(target, tag, held, decision.reason, error);
      }
      throw error;
    }
  }

  /** Asks the upstream, once for everybody who wants to know meanwhile; goes on when they have left. */
  async #ask(key: string, target: Target, tag: string, want: Want, call: CallOptions): Promise<Answered> {
    const { value, shared } = await this.#deps.background.own((signal) =>
      this.#asking.run(key, { signal }, async (lasting) => {
        this.#askedAtMs.set(key, this.#deps.clock.now());
        try {
          return await this.#askNow(target, tag, want, { ...call, signal: lasting });
        } finally {
          this.#askedAtMs.delete(key);
        }
      }),
    );
    const collapsed = shared && value.cache.outcome === "miss";
    return collapsed ? { ...value, cache: { ...value.cache, outcome: "collapsed" } } : value;
  }

  async #askNow(before: Target, tag: string, want: Want, o: CallOptions): Promise<Answered> {
    const { standings } = this.#deps;
    // Somebody else's asking may have ended between our look and this: then there is nothing left to ask.
    const standing = await standings.recorded(before.repo, before.upstream, o);
    const target = standing === undefined ? before : { ...before, standing };
    const known = await this.#look(target, tag, o);
    const decision = this.#decide(target, tag, known, "not-yet");
    if ((decision.do === "refuse" || decision.do === "stale") && known.absence !== undefined) {
      throw known.absence;
    }
    if (decision.do === "fresh") {
      const answered = fresh(known, decision.ttlMs, want);
      if (answered !== undefined) {
        return answered;
      }
    }
    try {
      return await this.#question(target, tag, known, decision, want, o);
    } catch (error) {
      if (saysNo(error)) {
        await this.#recordAbsence(target, tag, known, error, o);
      }
      throw error;
    }
  }

  async #question(
    target: Target,
    tag: string,
    known: Knowledge,
    decision: FreshnessDecision,
    want: Want,
    o: CallOptions,
  ): Promise<Answered> {
    const { clock, standings } = this.#deps;
    const { repo, upstream, standing } = target;
    const latest = latestOf(known);
    if (decision.do === "fresh" && latest !== undefined) {
      return await this.#fetchNamed(target, tag, known, latest, 1, o);
    }
    if (known.held === undefined && known.head === undefined && want === "manifest") {
      const checkedAtMs = clock.now();
      const body = await standings.watch(repo, standing, o, () =>
        upstream.getManifest(repo.repository, { kind: "tag", tag }, o),
      );
      return await this.#keepBody(target, tag, known, body, checkedAtMs, o);
    }
    return await this.#revalidate(target, tag, known, want, 1, o);
  }

  async #revalidate(
    target: Target,
    tag: string,
    known: Knowledge,
    want: Want,
    retries: number,
    o: CallOptions,
  ): Promise<Answered> {
    const { clock, standings, memory, byDigest } = this.#deps;
    const { repo, upstream, standing } = target;
    const checkedAtMs = clock.now();
    const head = await standings.watch(repo, standing, o, () =>
      upstream.headManifest(repo.repository, { kind: "tag", tag }, o),
    );
    const { digest } = head;
    if (digest === undefined) {
      return await this.#getIfChanged(target, tag, known, checkedAtMs, o);
    }
    if (known.held?.entry.digest === digest) {
      return await this.#unchanged(target, tag, known.held, head.etag, checkedAtMs, o);
    }
    const held = await byDigest.confirmed(target, digest, o);
    if (held !== undefined) {
      await this.#record(repo, tag, entryOf(digest, checkedAtMs, head.etag), o);
      return { manifest: held, cache: { outcome: "revalidated", ...this.#ttl(repo, tag) } };
    }
    const named = remembered(digest, head, checkedAtMs);
    await memory.rememberHead(repo, tag, named, this.#deps.ttlMs(repo, tag));
    const described = want === "description" ? describe(named) : undefined;
    return described !== undefined
      ? { manifest: undefined, description: described, cache: { outcome: "miss", stored: false } }
      : await this.#fetchNamed(target, tag, known, named, retries, o);
  }

  /** GETs the manifest that the upstream has named, by its digest. */
  async #fetchNamed(
    target: Target,
    tag: string,
    known: Knowledge,
    named: Named,
    retries: number,
    o: CallOptions,
  ): Promise<Answered> {
    const { repo } = target;
    try {
      const { manifest, cache } = await this.#deps.byDigest.find(target, named.digest, o);
      await this.#record(repo, tag, entryOf(named.digest, named.checkedAtMs, named.etag), o);
      return { manifest, cache };
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.fault !== "absent") {
        throw error;
      }
      if (retries > 0) {
        // The tag has moved between the two questions.
        return await this.#revalidate(target, tag, known, "manifest", retries - 1, o);
      }
      throw new UpstreamError(
        repo.upstream,
        "bad-answer",
        `${repo.upstream} says that ${reference(repo, tag)} is ${named.digest}, and does not have that`,
        { cause: error },
      );
    }
  }

  /** For registries whose HEAD names no digest. */
  async #getIfChanged(
    target: Target,
    tag: string,
    known: Knowledge,
    checkedAtMs: number,
    o: CallOptions,
  ): Promise<Answered> {
    const { repo, upstream, standing } = target;
    const etag = known.held?.entry.etag;
    const body = await this.#deps.standings.watch(repo, standing, o, () =>
      upstream.getManifest(repo.repository, { kind: "tag", tag }, { ...o, ...(etag === undefined ? {} : { etag }) }),
    );
    return await this.#keepBody(target, tag, known, body, checkedAtMs, o);
  }

  async #keepBody(
    target: Target,
    tag: string,
    known: Knowledge,
    body: ManifestBody | "not-modified",
    checkedAtMs: number,
    o: CallOptions,
  ): Promise<Answered> {
    const { repo, standing } = target;
    if (body === "not-modified") {
      if (known.held === undefined) {
        throw new UpstreamError(
          repo.upstream,
          "bad-answer",
          `${repo.upstream} answered 304 to an unconditional request`,
        );
      }
      return await this.#unchanged(target, tag, known.held, known.held.entry.etag, checkedAtMs, o);
    }
    const { manifest, stored } = await this.#deps.manifests.keep(repo, standing.visibility, body, o);
    if (stored) {
      await this.#record(repo, tag, entryOf(body.digest, checkedAtMs, body.etag), o);
    }
    return { manifest, cache: { outcome: "miss", stored } };
  }

  async #unchanged(
    { repo }: Target,
    tag: string,
    held: NonNullable<Knowledge["held"]>,
    etag: string | undefined,
    checkedAtMs: number,
    o: CallOptions,
  ): Promise<Answered> {
    await this.#record(repo, tag, entryOf(held.entry.digest, checkedAtMs, etag ?? held.entry.etag), o);
    return { manifest: held.manifest, cache: { outcome: "revalidated", ...this.#ttl(repo, tag) } };
  }

  /** The upstream has no such tag: remembered for a moment, or, where what is known is kept for it, as long as a fresh answer. */
  async #recordAbsence(
    target: Target,
    tag: string,
    known: Knowledge,
    error: UpstreamError,
    o: CallOptions,
  ): Promise<void> {
    const { memory, repositories, freshnessOf, ttlMs, clock, log } = this.#deps;
    const { repo } = target;
    const { negativeMs } = freshnessOf(repo.upstream);
    const absentMs = isSignatureTag(tag) ? signatureAbsentMs(negativeMs) : negativeMs;
    const decision = this.#decide(target, tag, known, error.fault);
    if (known.entry !== undefined && decision.do === "refuse" && decision.forget) {
      await recorded(log, reference(repo, tag), () => repositories.deleteTag(repo, tag, o));
    } else if (known.entry !== undefined && known.entry.goneSinceMs === undefined) {
      await this.#record(repo, tag, { ...known.entry, goneSinceMs: clock.now() }, o);
    }
    const kept = decision.do === "stale";
    await memory.rememberAbsence("tag", repo, tag, error, kept ? Math.max(absentMs, ttlMs(repo, tag)) : absentMs);
  }

  async #look(target: Target, tag: string, o: CallOptions): Promise<Knowledge> {
    const { repositories, manifests, memory } = this.#deps;
    const { repo } = target;
    const entry = await repositories.getTag(repo, tag, o);
    // A link to a manifest that this repository does not have proves nothing, however it came there.
    const linked = entry !== undefined && (await repositories.hasRevision(repo, entry.digest, o));
    const manifest = linked ? await manifests.read(entry.digest, o) : undefined;
    return {
      entry,
      held: entry === undefined || manifest === undefined ? undefined : { entry, manifest },
      head: await memory.head(repo, tag),
      absence: await memory.absence("tag", repo, tag),
    };
  }

  #decide(
    { repo, standing }: Target,
    tag: string,
    known: Knowledge,
    asked: FreshnessFacts["asked"],
  ): FreshnessDecision {
    const { clock, freshnessOf, ttlMs } = this.#deps;
    // Before asking, what was heard last decides whether to ask; after it, what could be served instead.
    const relied = asked === "not-yet" ? latestOf(known) : known.held?.entry;
    return decideFreshness({
      known: relied && { checkedAtMs: relied.checkedAtMs, goneSinceMs: relied.goneSinceMs },
      ttlMs: ttlMs(repo, tag),
      ...standing,
      absenceRemembered: known.absence !== undefined,
      asked,
      config: freshnessOf(repo.upstream),
      nowMs: clock.now(),
    });
  }

  #stale(
    { repo }: Target,
    tag: string,
    held: NonNullable<Knowledge["held"]>,
    reason: Extract<FreshnessDecision, { do: "stale" }>["reason"],
    error: UpstreamError | undefined,
  ): Answered {
    const { checkedAtMs } = held.entry;
    const cache = this.#deps.stale.answer(repo.upstream, reason, { what: reference(repo, tag), checkedAtMs, error });
    return { manifest: held.manifest, cache };
  }

  #ttl(repo: RepoRef, tag: string): { readonly ttlS: number } {
    return { ttlS: seconds(this.#deps.ttlMs(repo, tag)) };
  }

  async #record(repo: RepoRef, tag: string, entry: TagEntry, o: CallOptions): Promise<void> {
    const { repositories, log } = this.#deps;
    await recorded(log, reference(repo, tag), () => repositories.putTag(repo, tag, entry, o));
  }
}

/** A digest that the upstream has named for a tag, and when. */
interface Named {
  readonly digest: Digest;
  readonly checkedAtMs: number;
  readonly goneSinceMs?: number;
  readonly etag?: string | undefined;
}

/** What was heard last: the record in storage, or a HEAD whose manifest is not held. */
function latestOf({ entry, head }: Knowledge): Named | undefined {
  if (entry === undefined || head === undefined) {
    return entry ?? head;
  }
  return head.checkedAtMs > entry.checkedAtMs ? head : entry;
}

/** The answer that needs nothing from upstream, as far as it is there. */
function fresh(known: Knowledge, ttlMs: number, want: Want): Answered | undefined {
  const cache: CacheInfo = { outcome: "hit", ttlS: seconds(ttlMs) };
  const latest = latestOf(known);
  if (latest === known.entry) {
    return known.held && { manifest: known.held.manifest, cache };
  }
  const description = want === "description" && known.head !== undefined ? describe(known.head) : undefined;
  return description && { manifest: undefined, description, cache };
}

function found(answered: Answered): FoundTag {
  const { manifest, cache } = answered;
  return manifest === undefined
    ? { description: answered.description, manifest, cache }
    : { description: { ...manifest, size: manifest.bytes.length }, manifest, cache };
}

function describe({ digest, mediaType, size }: RememberedHead): Description | undefined {
  return mediaType === undefined || size === undefined ? undefined : { digest, mediaType, size };
}

function remembered(digest: Digest, head: ManifestHead, checkedAtMs: number): RememberedHead {
  return { kind: "head", digest, mediaType: head.mediaType, size: head.size, etag: head.etag, checkedAtMs };
}

function entryOf(digest: Digest, checkedAtMs: number, etag: string | undefined): TagEntry {
  return { digest, checkedAtMs, ...(etag === undefined ? {} : { etag }) };
}

function reference(repo: RepoRef, tag: string): string {
  return `${formatRepo(repo)}:${tag}`;
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
