import { type CallOptions, onBehalfOf } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { noteJoined } from "../base/trail.ts";
import { waitFor } from "../base/wait-for.ts";
import type { FreshnessConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { Repositories, TagEntry } from "../storage/repositories.ts";
import { type ManifestBody, UpstreamError } from "../upstream/upstream.ts";
import type { Admitted } from "./access-gate.ts";
import type { CacheInfo } from "./answers.ts";
import { type Background, LATE, waitAtMost } from "./background.ts";
import { told } from "./explain/decision-words.ts";
import { decideFreshness, type FreshnessDecision, type FreshnessFacts } from "./freshness.ts";
import type { HeldManifests } from "./held-manifests.ts";
import type { ManifestsByDigest, Target } from "./manifests-by-digest.ts";
import { recorded } from "./recorded.ts";
import { type Memory, saysNo } from "./remembered.ts";
import { isSignatureTag, signatureAbsentMs } from "./signature-lookups.ts";
import type { Stale } from "./stale.ts";
import type { Standings } from "./standings.ts";
import {
  type Answered,
  describe,
  entryOf,
  type FoundTag,
  found,
  fresh,
  type Knowledge,
  latestOf,
  lookAtTag,
  type Named,
  reference,
  remembered,
  seconds,
  tagFacts,
  type Want,
} from "./tag-knowledge.ts";
import type { Turns } from "./turns.ts";
import type { Withheld } from "./withheld.ts";

export interface ManifestsByTagDeps {
  readonly repositories: Repositories;
  readonly manifests: HeldManifests;
  readonly byDigest: ManifestsByDigest;
  readonly standings: Standings;
  readonly memory: Memory;
  readonly stale: Stale;
  readonly background: Background;
  readonly turns: Turns;
  freshnessOf(upstream: string): FreshnessConfig;
  ttlMs(repo: RepoRef, tag: string): number;
  readonly clock: Clock;
  readonly log: Log;
}

interface Decided {
  readonly decision: FreshnessDecision;
  readonly facts: FreshnessFacts;
}

/** Asking has shown that only a GET can go on, and that it is better put off (`whenBudgetLow`). */
const PUT_OFF: unique symbol = Symbol("put off");

/**
 * Rounds of looking at what is known and asking. One is the rule; a second follows when the question that was joined gave a
 * description and the manifest is wanted. The last joins no such question any more.
 */
const MAX_ROUNDS = 3;

/** Manifests asked for by tag: fresh ones cost nothing, others one HEAD, moved ones one GET more. */
export class ManifestsByTag {
  readonly #deps: ManifestsByTagDeps;
  readonly #asking = new SingleFlight<Answered | typeof PUT_OFF>();
  /** When each question that is under way was put; milliseconds since the epoch. */
  readonly #askedAtMs = new Map<string, number>();

  constructor(deps: ManifestsByTagDeps) {
    this.#deps = deps;
  }

  /** Rejects with the upstream's fault where nothing that is known may be served. */
  async find(target: Target, tag: string, want: Want, call: CallOptions & Admitted): Promise<FoundTag> {
    const { withheld } = call.access;
    if (withheld !== undefined) {
      return await this.#withoutAsking(target, tag, withheld, call);
    }
    for (let round = 1; ; round += 1) {
      const known = await this.#look(target, tag, call);
      const decided = this.#decideFor(call, target, tag, known, "not-yet");
      const settled = this.#settle(target, tag, known, decided, want);
      if (settled !== undefined) {
        return settled;
      }
      const key = round < MAX_ROUNDS ? reference(target.repo, tag) : `${reference(target.repo, tag)} ${want}`;
      const asking = this.#ask(key, target, tag, want, call);
      const answered = await this.#wait(target, tag, known, { asking, key }, call);
      if (answered !== PUT_OFF && (answered.manifest !== undefined || want === "description")) {
        return found(answered);
      }
    }
  }

  /** What is held, for whoever the upstream is not asked for; also of what others have asked, and of what is on its way to them. */
  async #withoutAsking(target: Target, tag: string, withheld: Withheld, call: CallOptions): Promise<FoundTag> {
    const known = await this.#look(target, tag, call);
    if (known.held === undefined) {
      throw withheld.error();
    }
    const { decision: before, facts } = this.#decideFor(call, target, tag, known, "not-yet");
    if (before.do === "fresh" && latestOf(known) === known.entry) {
      const cache: CacheInfo = { outcome: "hit", ttlS: seconds(before.ttlMs) };
      return { ...found({ manifest: known.held.manifest, cache }), facts };
    }
    const error = withheld.error();
    const { decision: after } = this.#decideFor(call, target, tag, known, error.fault);
    if (after.do !== "stale") {
      throw error;
    }
    return found(this.#stale(target, tag, known.held, after.reason, error));
  }

  /**
   * Asks the upstream now, however fresh the tag is; once for everybody who wants to know meanwhile. Gives what the tag
   * means; rejects with the upstream's fault, with what is held of the tag recorded as gone where that is the fault.
   */
  async refresh(target: Target, tag: string, o: CallOptions): Promise<Digest> {
    await this.#deps.memory.forgetTag(target.repo, tag);
    const asking = this.#ask(reference(target.repo, tag), target, tag, "manifest", o, { always: true });
    const answered = await waitFor(asking, o.signal);
    if (answered === PUT_OFF) {
      const { upstream } = target.repo;
      throw new UpstreamError(
        upstream,
        "quota",
        `${upstream}: ${reference(target.repo, tag)} has moved, but little is left of the pull quota (freshness.whenBudgetLow)`,
      );
    }
    return found(answered).description.digest;
  }

  /** Since when the upstream is being asked what the tag means, by this process; milliseconds since the epoch. */
  askedSince(repo: RepoRef, tag: string): number | undefined {
    return this.#askedAtMs.get(reference(repo, tag));
  }

  /** What can be answered without asking: undefined where it has to be. */
  #settle(
    target: Target,
    tag: string,
    known: Knowledge,
    { decision, facts }: Decided,
    want: Want,
  ): FoundTag | undefined {
    switch (decision.do) {
      case "fresh": {
        const answered = fresh(known, decision.ttlMs, want);
        return answered === undefined ? undefined : { ...found(answered), facts };
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

  /**
   * Waits for the upstream's answer for as long as that is better than what is known. {@link PUT_OFF} only where more is
   * held than the caller has seen.
   */
  async #wait(
    target: Target,
    tag: string,
    known: Knowledge,
    { asking, key }: { readonly asking: Promise<Answered | typeof PUT_OFF>; readonly key: string },
    call: CallOptions,
  ): Promise<Answered | typeof PUT_OFF> {
    const { clock, freshnessOf } = this.#deps;
    const { held } = known;
    try {
      if (held === undefined) {
        return await waitFor(asking, call.signal);
      }
      // Counted from when the upstream was asked: who joins a question that is late already does not wait as long again.
      const askedForMs = clock.now() - (this.#askedAtMs.get(key) ?? clock.now());
      const leftMs = Math.max(0, freshnessOf(target.repo.upstream).softDeadlineMs - askedForMs);
      let answered = await waitAtMost(asking, leftMs, { clock, signal: call.signal });
      if (answered === LATE) {
        const { decision } = this.#decideFor(call, target, tag, known, "late");
        if (decision.do === "stale") {
          return this.#stale(target, tag, held, decision.reason, undefined);
        }
        answered = await waitFor(asking, call.signal);
      }
      return answered === PUT_OFF ? this.#stale(target, tag, held, "budget-low", undefined) : answered;
    } catch (error) {
      if (!(error instanceof UpstreamError) || held === undefined) {
        throw error;
      }
      const { decision } = this.#decideFor(call, target, tag, known, error.fault);
      if (decision.do === "stale") {
        return this.#stale(target, tag, held, decision.reason, error);
      }
      throw error;
    }
  }

  /** Asks the upstream, once for everybody who wants to know meanwhile; goes on when they have left. */
  async #ask(
    key: string,
    target: Target,
    tag: string,
    want: Want,
    call: CallOptions,
    how: { readonly always: boolean } = { always: false },
  ): Promise<Answered | typeof PUT_OFF> {
    const { value, shared, begunIn } = await this.#deps.background.own((signal) =>
      this.#asking.run(key, { signal, ...onBehalfOf(call) }, async (lasting) => {
        this.#askedAtMs.set(key, this.#deps.clock.now());
        try {
          return await this.#deps.turns.run(`tag ${reference(target.repo, tag)}`, { ...call, signal: lasting }, (o) =>
            how.always ? this.#askAlways(target, tag, want, o) : this.#askNow(target, tag, want, o),
          );
        } finally {
          this.#askedAtMs.delete(key);
        }
      }),
    );
    if (shared) {
      noteJoined(call.trail, reference(target.repo, tag), begunIn);
    }
    const collapsed = shared && value !== PUT_OFF && value.cache.outcome === "miss";
    return collapsed ? { ...value, cache: { ...value.cache, outcome: "collapsed" } } : value;
  }

  async #askNow(before: Target, tag: string, want: Want, o: CallOptions): Promise<Answered | typeof PUT_OFF> {
    const { standings } = this.#deps;
    // Somebody else's asking may have ended between our look and this: then there is nothing left to ask.
    const standing = await standings.recorded(before.repo, before.upstream, o);
    const target = standing === undefined ? before : { ...before, standing };
    const known = await this.#look(target, tag, o);
    const decision = this.#decide(target, tag, known, "not-yet");
    if ((decision.do === "refuse" || decision.do === "stale") && known.absence !== undefined) {
      throw known.absence;
    }
    if (decision.do === "stale" && decision.reason === "budget-low" && known.held !== undefined) {
      return PUT_OFF;
    }
    if (decision.do === "fresh") {
      const answered = fresh(known, decision.ttlMs, want);
      if (answered !== undefined) {
        return answered;
      }
    }
    return await this.#put(target, tag, known, decision, want, o);
  }

  async #askAlways(target: Target, tag: string, want: Want, o: CallOptions): Promise<Answered | typeof PUT_OFF> {
    return await this.#put(target, tag, await this.#look(target, tag, o), { do: "ask" }, want, o);
  }

  async #put(
    target: Target,
    tag: string,
    known: Knowledge,
    decision: FreshnessDecision,
    want: Want,
    o: CallOptions,
  ): Promise<Answered | typeof PUT_OFF> {
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
  ): Promise<Answered | typeof PUT_OFF> {
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
  ): Promise<Answered | typeof PUT_OFF> {
    const { clock, standings, memory, byDigest } = this.#deps;
    const { repo, upstream, standing } = target;
    const checkedAtMs = clock.now();
    const head = await standings.watch(repo, standing, o, () =>
      upstream.headManifest(repo.repository, { kind: "tag", tag }, o),
    );
    const { digest } = head;
    const putsOff = this.#decide(target, tag, known, "moved").do === "stale";
    if (digest === undefined) {
      return putsOff ? PUT_OFF : await this.#getIfChanged(target, tag, known, checkedAtMs, o);
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
    if (putsOff) {
      // Also for who only wants to know what the tag is: it would be fetched next.
      return PUT_OFF;
    }
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
  ): Promise<Answered | typeof PUT_OFF> {
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

  async #look({ repo }: Target, tag: string, o: CallOptions): Promise<Knowledge> {
    return await lookAtTag(this.#deps, repo, tag, o);
  }

  #decide(target: Target, tag: string, known: Knowledge, asked: FreshnessFacts["asked"]): FreshnessDecision {
    return decideFreshness(tagFacts(this.#deps, target, tag, known, asked));
  }

  /** As {@link #decide}, with a word about it where it is more than "serve what is held". */
  #decideFor(
    call: CallOptions,
    target: Target,
    tag: string,
    known: Knowledge,
    asked: FreshnessFacts["asked"],
  ): Decided {
    const facts = tagFacts(this.#deps, target, tag, known, asked);
    const decision = decideFreshness(facts);
    const trail = decision.do === "fresh" ? call.trail?.detail : call.trail;
    trail?.note("decision", { about: reference(target.repo, tag), asked, ...told(decision, facts) });
    return { decision, facts };
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
