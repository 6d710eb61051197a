import { LRUCache } from "lru-cache";
import { AccessDeniedError } from "../access/denied-error.ts";
import { atMost } from "../base/at-most.ts";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { waitFor } from "../base/wait-for.ts";
import type { FreshnessConfig } from "../config/types.ts";
import { formatReference, formatRepo, type Reference, type RepoRef } from "../oci/reference.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { RepoRecord, Repositories } from "../storage/repositories.ts";
import { type Upstream, UpstreamError } from "../upstream/upstream.ts";
import type { Admitted } from "./access-gate.ts";
import type { Caller, Visibility } from "./answers.ts";
import { anythingHeld } from "./anything-held.ts";
import { type Background, LATE, waitAtMost } from "./background.ts";
import { decideFreshness, type FreshnessDecision, type FreshnessFacts } from "./freshness.ts";
import { decideProof } from "./proof.ts";
import { contentFacts } from "./proofs.ts";
import { recorded } from "./recorded.ts";
import { type Memory, saysNo } from "./remembered.ts";
import type { Withheld } from "./withheld.ts";

/** What is known of a repository as a whole. */
export interface Standing {
  readonly visibility: Visibility;
  /** Private only: when the upstream last let Weir read it; milliseconds since the epoch, 0 = not known. */
  readonly provedAtMs: number;
  /** When the upstream was last asked without a credential; undefined where it never was, or need not be. */
  readonly visibilityAtMs?: number;
}

export interface KnownStanding {
  readonly standing: Standing;
  /** When the upstream was last asked without a credential; undefined where it never was, or need not be. */
  readonly atMs: number | undefined;
  /** False where the next pull asks anew. */
  readonly stands: boolean;
  /** Storage knows the repository. */
  readonly recorded: boolean;
}

export interface StandingsDeps {
  readonly repositories: Repositories;
  readonly memory: Memory;
  readonly background: Background;
  freshnessOf(upstream: string): FreshnessConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/** How long the answer to "may everybody read this?" stands. */
const VISIBILITY_TTL_MS = 24 * 60 * 60 * 1000;

/** How long an answer stands that was given while storage could not be read. */
const UNREADABLE_TTL_MS = 60 * 60 * 1000;

/** Repositories whose visibility is known without storage: some 5 MB when full. */
const MAX_SEEN = 20_000;

/** Of a repository that nothing has to be asked about. */
const PUBLIC: Standing = { visibility: "public", provedAtMs: 0 };
/** Of one that is taken for public while storage cannot tell. */
const UNREAD: Standing = { visibility: "public", provedAtMs: 0 };
/** Of a repository that nothing is known of. */
export const UNKNOWN: Standing = { visibility: "private", provedAtMs: 0 };

/** Which repositories are public, and when the private ones were last proved to be open to Weir (design, section 6). */
export class Standings {
  readonly #deps: StandingsDeps;
  readonly #asking = new SingleFlight<Standing | undefined>();
  readonly #askingUnread = new SingleFlight<boolean>();
  readonly #renewing = new SingleFlight<void>();
  /** What storage has said of repositories lately, for when it says nothing. */
  readonly #seen: LRUCache<string, Visibility>;

  constructor(deps: StandingsDeps) {
    this.#deps = deps;
    this.#seen = new LRUCache({ ...atMost(MAX_SEEN), ttl: VISIBILITY_TTL_MS, ttlResolution: 0, perf: deps.clock });
  }

  /**
   * The repository's standing, if the caller may read it. `reference` gives something of the repository to ask its upstream
   * for, and is called only when it has to be asked. For a caller on whose behalf nothing is fetched the upstream is asked about
   * what is held only, and only whether it may be read; where it is frozen, nothing.
   *
   * @throws AccessDeniedError before anything else about the repository could show; WithheldError where nothing is known of it
   */
  async admit(
    repo: RepoRef,
    upstream: Upstream,
    reference: () => Promise<Reference | undefined>,
    call: CallOptions & Admitted & { readonly caller: Caller },
  ): Promise<Standing> {
    const { withheld, readsPrivate, privateKey } = call.access;
    const held = (): Promise<Reference | undefined> => anythingHeld(this.#deps.repositories, repo, call);
    const asked = withheld === undefined ? reference : withheld.frozen ? async () => undefined : held;
    const standing = await this.#of(repo, upstream, asked, call);
    const decision = decideProof({
      visibility: standing.visibility,
      mayReadPrivate: readsPrivate,
      held: false,
      linked: false,
      listed: false,
      confirmed: false,
      provenance: undefined,
      upstream: repo.upstream,
    });
    if (decision.do === "deny") {
      const who = call.caller.identity.account ?? "anonymous callers";
      throw new AccessDeniedError(
        "private",
        privateKey,
        `${formatRepo(repo)} is not public at its registry; Weir gives it to ${who} only where ${privateKey} is true`,
        { repository: formatRepo(repo) },
      );
    }
    if (withheld !== undefined && standing === UNKNOWN) {
      throw withheld.error();
    }
    return withheld === undefined || standing.visibility === "public"
      ? standing
      : await this.#renewed({ repo, upstream, standing }, withheld, held, call);
  }

  /** The right to what is private is kept current for those as well who get nothing newer than what is held. */
  async #renewed(
    { repo, upstream, standing }: { readonly repo: RepoRef; readonly upstream: Upstream; readonly standing: Standing },
    withheld: Withheld,
    held: () => Promise<Reference | undefined>,
    call: CallOptions,
  ): Promise<Standing> {
    const { background, clock, freshnessOf } = this.#deps;
    const decide = (asked: FreshnessFacts["asked"]): FreshnessDecision =>
      decideFreshness(contentFacts(standing, asked, freshnessOf(repo.upstream), clock.now()));
    if (decide("not-yet").do === "fresh") {
      return standing;
    }
    const reference = withheld.frozen ? undefined : await held();
    if (reference === undefined) {
      // Frozen, the upstream's last word stands; that was none, or a "no", where nothing is proved.
      if (!withheld.frozen || standing.provedAtMs === 0) {
        throw withheld.error();
      }
    } else {
      const asking = background.own((signal) =>
        this.#renewing.run(formatRepo(repo), { signal }, async (shared) => {
          const o = { ...call, signal: shared };
          await this.watch(repo, standing, o, () => upstream.headManifest(repo.repository, reference, o));
        }),
      );
      try {
        await waitFor(asking, call.signal);
      } catch (error) {
        if (saysNo(error)) {
          throw withheld.error();
        }
        if (!(error instanceof UpstreamError) || standing.provedAtMs === 0 || decide(error.fault).do !== "stale") {
          throw error;
        }
      }
    }
    // No more than this caller's: what is recorded may say otherwise.
    return { visibility: standing.visibility, provedAtMs: clock.now() };
  }

  /**
   * Whether {@link admit} finds the standing, which it gave, to be the same without asking anybody, as long as nothing is written
   * of the repository and the configuration is the same.
   */
  stands(standing: Standing): boolean {
    return standing === PUBLIC || (standing.visibilityAtMs !== undefined && this.#isRecent(standing.visibilityAtMs));
  }

  #isRecent(visibilityAtMs: number): boolean {
    const ageMs = this.#deps.clock.now() - visibilityAtMs;
    return ageMs >= 0 && ageMs < VISIBILITY_TTL_MS;
  }

  /** What is known without asking anybody; undefined where nothing is, or storage cannot tell. */
  async recorded(repo: RepoRef, upstream: Upstream, o: CallOptions): Promise<Standing | undefined> {
    let record: RepoRecord | undefined;
    try {
      record = await this.#deps.repositories.getRepoRecord(repo, o);
    } catch (error) {
      if (!(error instanceof StorageError)) {
        throw error;
      }
      return undefined;
    }
    // What a credential once received stays private after the credential is gone, until its registry shows it to everybody.
    if (record?.visibility !== "private" && !upstream.hasCredential(repo.repository)) {
      return PUBLIC;
    }
    return record;
  }

  /**
   * Asks the upstream for something of the repository, and takes its answer as the proof that Weir may read it, or may not
   * any more: then nothing of a private repository is served until it is proved anew.
   */
  async watch<T>(repo: RepoRef, standing: Standing, o: CallOptions, ask: () => Promise<T>): Promise<T> {
    let answer: T;
    try {
      answer = await ask();
    } catch (error) {
      const lost = saysNo(error) && (error.fault === "denied" || error.absent === "repository");
      if (standing.visibility === "private" && lost) {
        await this.#revoke(repo, o);
      }
      throw error;
    }
    await this.proved(repo, standing, o);
    return answer;
  }

  /** The upstream has just let Weir read something of the repository. */
  async proved(repo: RepoRef, standing: Standing, o: CallOptions): Promise<void> {
    if (standing.visibility === "private") {
      await this.#update(repo, { provedAtMs: this.#deps.clock.now() }, o);
    }
  }

  /** Changes what is recorded only: names that clients make up leave nothing in storage. */
  async #revoke(repo: RepoRef, o: CallOptions): Promise<void> {
    const { repositories, log } = this.#deps;
    // Where storage cannot tell, nothing of a private repository is served in any case.
    await recorded(log, formatRepo(repo), async () => {
      const record = await repositories.getRepoRecord(repo, o);
      if (record !== undefined && record.provedAtMs !== 0) {
        await this.#update(repo, { provedAtMs: 0 }, o);
      }
    });
  }

  /** What is known of the repository now, and whether that stands without asking. Changes nothing. */
  async known(repo: RepoRef, upstream: Pick<Upstream, "hasCredential">, o: CallOptions): Promise<KnownStanding> {
    const { repositories, memory } = this.#deps;
    const record = await repositories.getRepoRecord(repo, o);
    if (record?.visibility !== "private" && !upstream.hasCredential(repo.repository)) {
      return { standing: PUBLIC, atMs: undefined, stands: true, recorded: record !== undefined };
    }
    if (record !== undefined) {
      const { visibilityAtMs } = record;
      return { standing: record, atMs: visibilityAtMs, stands: this.#isRecent(visibilityAtMs), recorded: true };
    }
    const atMs = await memory.privateAt(repo);
    return { standing: UNKNOWN, atMs, stands: atMs !== undefined, recorded: false };
  }

  async #of(
    repo: RepoRef,
    upstream: Upstream,
    reference: () => Promise<Reference | undefined>,
    call: CallOptions,
  ): Promise<Standing> {
    const { memory, background, clock, freshnessOf } = this.#deps;
    let known: KnownStanding;
    try {
      known = await this.known(repo, upstream, call);
    } catch (error) {
      if (!(error instanceof StorageError)) {
        throw error;
      }
      return await this.#unread(repo, upstream, { reference, error }, call);
    }
    const { standing: lastKnown, stands, recorded: hasRecord } = known;
    if (stands) {
      this.#seen.set(formatRepo(repo), lastKnown.visibility);
      return lastKnown;
    }
    const asked = await reference();
    if (asked === undefined || (await memory.visibilityUnanswered(repo, formatReference(asked)))) {
      return lastKnown;
    }
    const key = `${formatRepo(repo)} ${formatReference(asked)}`;
    const asking = background.own((signal) =>
      this.#asking.run(key, { signal }, (shared) => this.#ask(repo, upstream, asked, { ...call, signal: shared })),
    );
    if (!hasRecord) {
      return (await waitFor(asking, call.signal)).value ?? lastKnown;
    }
    const { softDeadlineMs } = freshnessOf(repo.upstream);
    const answer = await waitAtMost(asking, softDeadlineMs, { clock, signal: call.signal });
    return answer === LATE ? lastKnown : (answer.value ?? lastKnown);
  }

  /**
   * The standing while storage cannot tell: public repositories are served on, by what was known of them or by what their
   * upstream says now. Everything else could be private, and is refused with storage's own error.
   */
  async #unread(
    repo: RepoRef,
    upstream: Upstream,
    o: { readonly reference: () => Promise<Reference | undefined>; readonly error: StorageError },
    call: CallOptions,
  ): Promise<Standing> {
    const { memory, background } = this.#deps;
    const name = formatRepo(repo);
    const seen = this.#seen.get(name);
    if (seen === "public" || (seen === undefined && (await memory.isPublic(repo)))) {
      return UNREAD;
    }
    const asked = seen === "private" ? undefined : await o.reference();
    if (asked === undefined) {
      throw o.error;
    }
    const asking = background.own((signal) =>
      this.#askingUnread.run(`${name} ${formatReference(asked)}`, { signal }, async (shared) => {
        const isPublic = await upstream.isPublic(repo.repository, asked, { ...call, signal: shared });
        if (isPublic) {
          await memory.rememberPublic(repo, UNREADABLE_TTL_MS);
        }
        return isPublic;
      }),
    );
    try {
      if ((await waitFor(asking, call.signal)).value) {
        return UNREAD;
      }
    } catch (error) {
      if (!(error instanceof UpstreamError)) {
        throw error;
      }
    }
    throw o.error;
  }

  /** Asks as nobody. Undefined where that told nothing; then it is not asked again for a moment. */
  async #ask(repo: RepoRef, upstream: Upstream, reference: Reference, o: CallOptions): Promise<Standing | undefined> {
    const { repositories, memory, clock, freshnessOf } = this.#deps;
    try {
      const isPublic = await this.#isPublic(repo, upstream, reference, o);
      o.trail?.note("visibility", { about: formatRepo(repo), visibility: isPublic ? "public" : "private" });
      const visibilityAtMs = clock.now();
      if (!isPublic && (await repositories.getRepoRecord(repo, o)) === undefined) {
        // Perhaps there is no such repository: storage gets a record when Weir's credential has been let in.
        await memory.rememberPrivate(repo, visibilityAtMs, VISIBILITY_TTL_MS);
        return UNKNOWN;
      }
      return await this.#update(repo, { visibility: isPublic ? "public" : "private", visibilityAtMs }, o);
    } catch (error) {
      if (!(error instanceof UpstreamError)) {
        throw error;
      }
      await memory.rememberVisibilityUnanswered(
        repo,
        formatReference(reference),
        freshnessOf(repo.upstream).negativeMs,
      );
      return undefined;
    }
  }

  async #isPublic(repo: RepoRef, upstream: Upstream, reference: Reference, o: CallOptions): Promise<boolean> {
    try {
      return await upstream.isPublic(repo.repository, reference, o);
    } catch (error) {
      if (!saysNo(error)) {
        throw error;
      }
      // Absent for nobody in particular: private if it is there for Weir's credential, and no answer if it is not.
      await upstream.headManifest(repo.repository, reference, o);
      return false;
    }
  }

  async #update(repo: RepoRef, change: Partial<RepoRecord>, o: CallOptions): Promise<RepoRecord> {
    const { repositories, memory, log } = this.#deps;
    const known = await repositories.getRepoRecord(repo, o);
    const visibilityAtMs = known?.visibilityAtMs ?? (await memory.privateAt(repo)) ?? 0;
    const next: RepoRecord = { visibility: "private", provedAtMs: 0, ...known, visibilityAtMs, ...change };
    await recorded(log, formatRepo(repo), () => repositories.putRepoRecord(repo, next, o));
    return next;
  }
}
