import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { waitFor } from "../base/wait-for.ts";
import type { FreshnessConfig } from "../config/types.ts";
import { type Digest, digestAlgorithm } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { formatReferrers, type Referrer, referrersOfType } from "../oci/referrers.ts";
import type { ReferrersRecord, Repositories } from "../storage/repositories.ts";
import { type Upstream, UpstreamError } from "../upstream/upstream.ts";
import type { Admitted } from "./access-gate.ts";
import type { CacheInfo, ReferrersAnswer, ReferrersCall } from "./answers.ts";
import { type Background, LATE, waitAtMost } from "./background.ts";
import { decideFreshness, type FreshnessDecision, type FreshnessFacts, type StaleReason } from "./freshness.ts";
import type { Target } from "./manifests-by-digest.ts";
import { recorded } from "./recorded.ts";
import { type Memory, RememberedAbsenceError, saysNo } from "./remembered.ts";
import { signatureAbsentMs } from "./signature-lookups.ts";
import type { Stale } from "./stale.ts";
import type { Standings } from "./standings.ts";

export interface ReferrersDeps {
  readonly repositories: Repositories;
  readonly standings: Standings;
  readonly memory: Memory;
  readonly stale: Stale;
  readonly background: Background;
  freshnessOf(upstream: string): FreshnessConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/** How long a registry without the API is not asked for it again. */
const NO_API_MS = 60 * 60 * 1000;

/** Small objects may have twice that; a thousand signatures of one image do not. Longer lists are passed on and not kept. */
const MAX_KEPT_BYTES = 512 * 1024;

/** What the upstream said last. */
interface Said {
  /** Undefined: it has no such API. */
  readonly list: readonly Referrer[] | undefined;
  readonly checkedAtMs: number;
  readonly goneSinceMs?: number;
}

interface Knowledge {
  readonly said: Said | undefined;
  /** The record in storage, whether or not it is what was said last. */
  readonly record: ReferrersRecord | undefined;
  readonly absence: RememberedAbsenceError | undefined;
}

/** The whole list, and how it came to be known. */
interface Told {
  /** Undefined: the upstream has no such API. */
  readonly list: readonly Referrer[] | undefined;
  readonly cache: CacheInfo;
}

/**
 * What refers to a manifest, as its repository's own upstream lists it. Lists are asked for and kept whole, and are fresh for
 * `freshness.default`; empty ones for as long as the absence of a signature's tag is remembered.
 */
export class Referrers {
  readonly #deps: ReferrersDeps;
  readonly #asking = new SingleFlight<Told>();

  constructor(deps: ReferrersDeps) {
    this.#deps = deps;
  }

  /** Rejects with the upstream's fault where nothing that is known may be served. */
  async answer(upstream: Upstream, call: ReferrersCall & Admitted): Promise<ReferrersAnswer> {
    const { repo, digest, artifactType } = call;
    const standing = await this.#deps.standings.admit(repo, upstream, async () => ({ kind: "digest", digest }), call);
    const { list, cache } = await this.#find({ repo, upstream, standing }, digest, call);
    if (list === undefined) {
      const message = `${repo.upstream} offers no referrers API`;
      throw cache.outcome === "negative"
        ? new RememberedAbsenceError(repo.upstream, "absent", message)
        : new UpstreamError(repo.upstream, "absent", message);
    }
    const referrers = artifactType === undefined ? list : referrersOfType(list, artifactType);
    return { referrers, visibility: standing.visibility, cache };
  }

  async #find(target: Target, digest: Digest, call: CallOptions & Admitted): Promise<Told> {
    const known = await this.#look(target.repo, digest, call);
    const decision = this.#decide(target, known, "not-yet");
    if (decision.do === "fresh") {
      return fresh(known, decision.ttlMs);
    }
    if (decision.do === "stale") {
      return this.#stale(target.repo, digest, known, decision.reason, known.absence);
    }
    if (decision.do === "refuse") {
      throw known.absence ?? new Error(`${written(target.repo, digest)} was refused without a reason`);
    }
    const { withheld } = call.access;
    const asking = withheld === undefined ? this.#ask(target, digest, call) : Promise.reject(withheld.error());
    return await this.#wait(target, digest, known, asking, call);
  }

  /** Waits for the upstream's answer for as long as that is better than what is known. */
  async #wait(
    target: Target,
    digest: Digest,
    known: Knowledge,
    asking: Promise<Told>,
    call: CallOptions,
  ): Promise<Told> {
    const { clock, freshnessOf } = this.#deps;
    const { repo } = target;
    try {
      if (known.said === undefined) {
        return await waitFor(asking, call.signal);
      }
      const { softDeadlineMs } = freshnessOf(repo.upstream);
      const told = await waitAtMost(asking, softDeadlineMs, { clock, signal: call.signal });
      if (told !== LATE) {
        return told;
      }
      const decision = this.#decide(target, known, "late");
      return decision.do === "stale"
        ? this.#stale(repo, digest, known, decision.reason, undefined)
        : await waitFor(asking, call.signal);
    } catch (error) {
      if (!(error instanceof UpstreamError)) {
        throw error;
      }
      const decision = this.#decide(target, known, error.fault);
      if (decision.do === "stale") {
        return this.#stale(repo, digest, known, decision.reason, error);
      }
      throw error;
    }
  }

  /** Asks the upstream, once for everybody who wants to know meanwhile, whatever artifact type they want. */
  async #ask(target: Target, digest: Digest, call: CallOptions): Promise<Told> {
    const { value, shared } = await this.#deps.background.own((signal) =>
      this.#asking.run(written(target.repo, digest), { signal }, (lasting) =>
        this.#askNow(target, digest, { ...call, signal: lasting }),
      ),
    );
    const collapsed = shared && value.cache.outcome === "miss";
    return collapsed ? { ...value, cache: { ...value.cache, outcome: "collapsed" } } : value;
  }

  async #askNow(before: Target, digest: Digest, o: CallOptions): Promise<Told> {
    const { standings, memory, clock, freshnessOf } = this.#deps;
    const { repo, upstream } = before;
    // Somebody else's asking may have ended between our look and this: then there is nothing left to ask.
    const standing = (await standings.recorded(repo, upstream, o)) ?? before.standing;
    const target: Target = { repo, upstream, standing };
    const known = await this.#look(repo, digest, o);
    const decision = this.#decide(target, known, "not-yet");
    if (decision.do === "fresh") {
      return fresh(known, decision.ttlMs);
    }
    if (known.absence !== undefined && decision.do !== "ask") {
      throw known.absence;
    }
    const checkedAtMs = clock.now();
    let list: readonly Referrer[] | undefined;
    try {
      // A denial is not taken for the loss of the repository: some registries grant this by a permission of its own (ECR).
      list = await upstream.listReferrers(repo.repository, digest, o);
    } catch (error) {
      if (saysNo(error)) {
        await this.#recordAbsence(target, digest, known, error, o);
      }
      throw error;
    }
    if (list === undefined) {
      // Kept beyond its freshness: with the upstream in trouble it still sends clients on to the tags, which may be held.
      const keptMs = Math.max(NO_API_MS, freshnessOf(repo.upstream).staleIfErrorMs);
      await memory.rememberNoReferrersApi(repo, digestAlgorithm(digest), checkedAtMs, keptMs);
      return { list, cache: { outcome: "miss", stored: false } };
    }
    await standings.proved(repo, standing, o);
    const stored = await this.#keep(repo, digest, known, { referrers: list, checkedAtMs }, o);
    return { list, cache: { outcome: "miss", stored } };
  }

  async #keep(
    repo: RepoRef,
    digest: Digest,
    known: Knowledge,
    record: ReferrersRecord,
    o: CallOptions,
  ): Promise<boolean> {
    const { repositories, memory, log } = this.#deps;
    const { referrers, checkedAtMs } = record;
    const worthStorage =
      referrers.length > 0 || known.record !== undefined || (await repositories.hasRevision(repo, digest, o));
    if (!worthStorage) {
      // Digests that clients make up leave nothing in storage.
      await memory.rememberNoReferrers(repo, digest, checkedAtMs, this.#absentMs(repo));
      return true;
    }
    if (formatReferrers(referrers).length > MAX_KEPT_BYTES) {
      return false;
    }
    return await recorded(log, written(repo, digest), () => repositories.putReferrers(repo, digest, record, o));
  }

  /** The upstream does not know the manifest, or the repository. */
  async #recordAbsence(
    target: Target,
    digest: Digest,
    known: Knowledge,
    error: UpstreamError,
    o: CallOptions,
  ): Promise<void> {
    const { memory, repositories, clock, log } = this.#deps;
    const { repo } = target;
    const { record } = known;
    const decision = this.#decide(target, known, error.fault);
    if (record !== undefined && decision.do === "refuse" && decision.forget) {
      await recorded(log, written(repo, digest), () => repositories.deleteReferrers(repo, digest, o));
    } else if (record !== undefined && record.goneSinceMs === undefined) {
      const gone = { ...record, goneSinceMs: clock.now() };
      await recorded(log, written(repo, digest), () => repositories.putReferrers(repo, digest, gone, o));
    }
    await memory.rememberAbsence("referrers", repo, digest, error, this.#absentMs(repo));
  }

  async #look(repo: RepoRef, digest: Digest, o: CallOptions): Promise<Knowledge> {
    const { repositories, memory } = this.#deps;
    const record = await repositories.getReferrers(repo, digest, o);
    const recordSaid = record && { ...record, list: record.referrers };
    const absence = await memory.absence("referrers", repo, digest);
    if (absence !== undefined) {
      // The newest word there is; what the record says of it is weighed with its `goneSinceMs`.
      return { said: recordSaid, record, absence };
    }
    const emptyAtMs = await memory.noReferrersAt(repo, digest);
    const noApiAtMs = await memory.noReferrersApiAt(repo, digestAlgorithm(digest));
    const said = latest([
      recordSaid,
      emptyAtMs === undefined ? undefined : { list: [], checkedAtMs: emptyAtMs },
      noApiAtMs === undefined ? undefined : { list: undefined, checkedAtMs: noApiAtMs },
    ]);
    return { said, record, absence };
  }

  #decide({ repo, standing }: Target, { said, absence }: Knowledge, asked: FreshnessFacts["asked"]): FreshnessDecision {
    const { clock, freshnessOf } = this.#deps;
    return decideFreshness({
      known: said && { checkedAtMs: said.checkedAtMs, goneSinceMs: said.goneSinceMs },
      ttlMs: said === undefined ? 0 : this.#ttlMs(repo, said),
      // That an upstream has no such API is nothing of the repository's.
      visibility: said !== undefined && said.list === undefined ? "public" : standing.visibility,
      provedAtMs: standing.provedAtMs,
      absenceRemembered: absence !== undefined,
      asked,
      config: freshnessOf(repo.upstream),
      nowMs: clock.now(),
    });
  }

  #ttlMs(repo: RepoRef, { list }: Said): number {
    if (list === undefined) {
      return NO_API_MS;
    }
    return list.length === 0 ? this.#absentMs(repo) : this.#deps.freshnessOf(repo.upstream).defaultMs;
  }

  #absentMs(repo: RepoRef): number {
    return signatureAbsentMs(this.#deps.freshnessOf(repo.upstream).negativeMs);
  }

  #stale(
    repo: RepoRef,
    digest: Digest,
    { said }: Knowledge,
    reason: StaleReason,
    error: UpstreamError | undefined,
  ): Told {
    if (said?.list === undefined) {
      return { list: undefined, cache: { outcome: "negative" } };
    }
    const what = `the list of what refers to ${written(repo, digest)}`;
    const cache = this.#deps.stale.answer(repo.upstream, reason, { what, checkedAtMs: said.checkedAtMs, error });
    return { list: said.list, cache };
  }
}

/** Without asking. A registry that has no such API is a remembered "no". */
function fresh({ said }: Knowledge, ttlMs: number): Told {
  const list = said?.list;
  return list === undefined
    ? { list, cache: { outcome: "negative" } }
    : { list, cache: { outcome: "hit", ttlS: Math.floor(ttlMs / 1000) } };
}

function latest(words: readonly (Said | undefined)[]): Said | undefined {
  return words.filter((said) => said !== undefined).sort((a, b) => b.checkedAtMs - a.checkedAtMs)[0];
}

function written(repo: RepoRef, digest: Digest): string {
  return `${formatRepo(repo)}@${digest}`;
}
