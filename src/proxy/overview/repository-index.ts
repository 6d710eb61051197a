import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { FairSemaphore } from "../../base/fair-semaphore.ts";
import type { Log } from "../../base/log.ts";
import type { Digest } from "../../oci/digest.ts";
import { formatRepo, type RepoRef } from "../../oci/reference.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { Visibility } from "../answers.ts";
import { Background, waitAtMost } from "../background.ts";
import type { HeldBlob } from "../create-room.ts";
import { MAX_PAGE, type RepositoriesPage, type RepositoriesQuery, type RepositoryLine } from "./overview.ts";
import { type NamedRepository, type NamesLimits, RepositoryNames } from "./repository-names.ts";

export interface RepositoryIndexDeps {
  readonly repositories: Pick<Repositories, "linked" | "isLinked" | "tagNames" | "linkNames">;
  /** What the room knows of a blob that is held. */
  glance(digest: Digest): HeldBlob | undefined;
  visibilityOf(repo: RepoRef, o: CallOptions): Promise<Visibility | "unknown">;
  /** How often all names are gathered anew: what other Weirs write to the same storage is seen then. Milliseconds. */
  readonly walkEveryMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Twenty times what the largest fleets pull, in some 50 MB when full. */
const LIMITS: NamesLimits = { repositories: 100_000, bytes: 64 << 20 };

/** A page is sent without figures that take longer than this; they are there when it is looked at again. */
const FIGURES_WAIT_MS = 50;

/** What was counted so long ago is counted anew when it is looked at, though nothing was written: blobs are used and go. */
const FIGURES_AGE_MS = 30_000;

/** Repositories that are looked at at the same time. */
const AT_ONCE = 8;

/** Whose sizes are counted at the same time, whoever has asked: what takes long leaves the process to others. */
const SIZED_AT_ONCE = 2;

/** Names that one repository is counted by; a few readings of folders. Beyond, its figures are the least that they can be. */
const MAX_TAGS = 10_000;
const MAX_LINKS = 5_000;

/** Repositories that have lost something and may be gone: looked at together, this long after the first of them. */
const SETTLE_MS = 1_000;

/** Of them, so many are looked at for one page. */
const MAX_SETTLED = 256;

/** A storage that fails now may be there again later. */
const RETRY_MS = 60_000;

/**
 * Which repositories hold something, known without looking: gathered in the background at the start, and kept true by what is
 * written and removed.
 */
export class RepositoryIndex {
  readonly #deps: RepositoryIndexDeps;
  readonly #names: RepositoryNames;
  readonly #background = new Background();
  /** May be gone, by name. */
  readonly #doubtful = new Map<string, RepoRef>();
  /** Lost something while names are being gathered: they may have been listed before. */
  readonly #leftMeanwhile = new Map<string, RepoRef>();
  readonly #sizing = new FairSemaphore(SIZED_AT_ONCE);
  #again = new AbortController();
  #settlesLater = false;
  #walks = 0;
  #walking = false;
  #walked = false;
  #overflowed = false;

  constructor(deps: RepositoryIndexDeps, limits: NamesLimits = LIMITS) {
    this.#deps = deps;
    this.#names = new RepositoryNames(limits);
  }

  /** Every repository that holds something is known. */
  get complete(): boolean {
    return this.#walked && !this.#overflowed;
  }

  /** How many there are of an upstream. */
  count(upstream: string): number {
    return this.#names.count(upstream);
  }

  /** Upstreams of which something is held. */
  upstreams(): readonly string[] {
    return this.#names.upstreams();
  }

  /** Gathers the names in the background, and again every now and then. */
  start(): void {
    const { clock, log, walkEveryMs } = this.#deps;
    this.#own(async (signal) => {
      for (;;) {
        let pauseMs = walkEveryMs;
        try {
          await this.#walk({ signal });
        } catch (error) {
          signal.throwIfAborted();
          log.warn({ err: error }, "the names of what is held could not be gathered, which is tried again later");
          pauseMs = RETRY_MS;
        }
        const { signal: again } = this.#again;
        await clock.sleep(pauseMs, AbortSignal.any([signal, again])).catch(() => signal.throwIfAborted());
      }
    });
  }

  /** Something may have changed that nobody has told of: gathers the names again. */
  missed(): void {
    this.#again.abort();
    this.#again = new AbortController();
  }

  stop(): Promise<void> {
    return this.#background.stop();
  }

  /** Something of a repository was written (`came`), or is gone (`left`). Costs next to nothing. */
  changed(repo: RepoRef, how: "came" | "left"): void {
    if (how === "left") {
      const key = formatRepo(repo);
      this.#doubtful.set(key, repo);
      if (this.#walking) this.#leftMeanwhile.set(key, repo);
      this.#settleLater();
    }
    const named = how === "came" ? this.#names.add(repo) : this.#names.get(repo);
    if (named !== undefined) {
      named.countedAtMs = 0;
      named.changes += 1;
    } else if (how === "came") {
      this.#overflowed = true;
    }
  }

  async page(query: RepositoriesQuery, o: CallOptions): Promise<RepositoriesPage> {
    await this.#settle(o);
    const limit = Math.min(query.limit, MAX_PAGE);
    const { total, page } = this.#names.find({ ...query, limit });
    await this.#countForNow(page, o);
    return { total, complete: this.complete, repositories: page.map(lineOf) };
  }

  /** One of them. Undefined where nothing of it is held, whether or not that was known. */
  async line(repo: RepoRef, o: CallOptions): Promise<RepositoryLine | undefined> {
    const known = this.#names.get(repo);
    if (known === undefined || this.#doubtful.has(formatRepo(repo))) {
      if (!(await this.#deps.repositories.isLinked(repo, o))) return undefined;
    }
    const named = known ?? this.#names.add(repo);
    if (named === undefined) return lineOf({ ...repo, figures: undefined });
    await this.#countForNow([named], o);
    return lineOf(named);
  }

  /** Counts what should be, and waits for it as long as that is no bother. */
  async #countForNow(some: readonly NamedRepository[], { signal }: CallOptions): Promise<void> {
    const counted = this.#count(some.filter((named) => this.#isDue(named)));
    // Figures that are only old are good enough for now.
    if (some.every(({ countedAtMs }) => countedAtMs !== 0)) return;
    await waitAtMost(counted, FIGURES_WAIT_MS, { clock: this.#deps.clock, signal });
  }

  #isDue({ countedAtMs }: NamedRepository): boolean {
    return this.#deps.clock.now() - countedAtMs >= FIGURES_AGE_MS;
  }

  /** Counts them for whoever looks at them, and goes on when nobody waits any more: first what is quick for all. Never rejects. */
  async #count(due: readonly NamedRepository[]): Promise<void> {
    const own = (work: (o: CallOptions) => Promise<void>): Promise<void> =>
      this.#background
        .own((signal) => work({ signal }))
        .catch((err: unknown) => this.#deps.log.debug({ err }, "a repository could not be counted"));
    await inTurns(due, AT_ONCE, (named) => {
      named.naming ??= own((o) => this.#countNames(named, o)).finally(() => {
        named.naming = undefined;
      });
      return named.naming;
    });
    const sized = due.map((named) => {
      named.sizing ??= own((o) => this.#inTurn(() => this.#countSizes(named, o), o)).finally(() => {
        named.sizing = undefined;
      });
      return named.sizing;
    });
    await Promise.all(sized);
  }

  async #inTurn(work: () => Promise<void>, o: CallOptions): Promise<void> {
    const leave = await this.#sizing.acquire("sizes", o);
    try {
      await work();
    } finally {
      leave();
    }
  }

  async #countNames(named: NamedRepository, o: CallOptions): Promise<void> {
    const { repositories, visibilityOf } = this.#deps;
    const repo = repoOf(named);
    // What changes from here on makes it due again.
    named.countedChanges = named.changes;
    const visibility = await visibilityOf(repo, o);
    let tags = 0;
    for await (const _ of repositories.tagNames(repo, o)) {
      tags += 1;
      if (tags === MAX_TAGS) break;
    }
    const { sizeBytes, lastUsedMs, atLeast = false } = named.figures ?? {};
    named.figures = { visibility, tags, sizeBytes, lastUsedMs, atLeast: atLeast || tags === MAX_TAGS };
  }

  async #countSizes(named: NamedRepository, o: CallOptions): Promise<void> {
    const { repositories, glance, clock } = this.#deps;
    const nowMs = clock.now();
    let [links, sizeBytes, lastUsedMs] = [0, 0, 0];
    for await (const { digest } of repositories.linkNames(repoOf(named), o)) {
      links += 1;
      const held = glance(digest);
      sizeBytes += held?.occupied ?? 0;
      lastUsedMs = Math.max(lastUsedMs, held?.usedAtMs ?? 0);
      if (links === MAX_LINKS) break;
    }
    const { figures } = named;
    if (figures === undefined) return;
    named.figures = {
      ...figures,
      sizeBytes,
      lastUsedMs: lastUsedMs === 0 ? undefined : lastUsedMs,
      atLeast: figures.tags === MAX_TAGS || links === MAX_LINKS,
    };
    if (named.changes === named.countedChanges) named.countedAtMs = nowMs;
  }

  async #walk(o: CallOptions): Promise<void> {
    this.#walks += 1;
    const walk = this.#walks;
    let overflowed = false;
    this.#walking = true;
    try {
      for await (const repo of this.#present(o)) {
        const named = this.#names.add(repo);
        if (named === undefined) overflowed = true;
        else named.seenBy = walk;
      }
    } finally {
      this.#walking = false;
      for (const [key, repo] of this.#leftMeanwhile) this.#doubtful.set(key, repo);
      this.#leftMeanwhile.clear();
    }
    for (const named of this.#names.all()) {
      if (named.seenBy !== walk) this.#doubtful.set(formatRepo(named), named);
    }
    this.#overflowed = overflowed;
    this.#walked = true;
    if (this.#doubtful.size > 0) this.#settleLater();
  }

  /** Those that have anything, of those of which there is a folder. */
  async *#present(o: CallOptions): AsyncGenerator<RepoRef, void, undefined> {
    const { repositories } = this.#deps;
    const isPresent = (repo: RepoRef): Promise<boolean> => repositories.isLinked(repo, o);
    const some: RepoRef[] = [];
    const flush = async (): Promise<readonly RepoRef[]> => {
      const present = await Promise.all(some.map(isPresent));
      return some.splice(0).filter((_, i) => present[i]);
    };
    for await (const repo of repositories.linked(o)) {
      some.push(repo);
      if (some.length === AT_ONCE) yield* await flush();
    }
    yield* await flush();
  }

  /** Once for all that is lost in a while: whoever removes a repository removes its links one by one. */
  #settleLater(): void {
    if (this.#settlesLater) return;
    this.#settlesLater = true;
    this.#own(async (signal) => {
      try {
        await this.#deps.clock.sleep(SETTLE_MS, signal);
      } finally {
        this.#settlesLater = false;
      }
      await this.#settle({ signal });
      // What is left is looked at with the next page, or the next that is lost.
    });
  }

  /** Looks which of those in doubt are gone, as far as the storage can tell. */
  async #settle(o: CallOptions): Promise<void> {
    const some = [...this.#doubtful].slice(0, MAX_SETTLED);
    await inTurns(some, AT_ONCE, async ([key, repo]) => {
      this.#doubtful.delete(key);
      const changes = this.#names.get(repo)?.changes;
      try {
        const isGone = !(await this.#deps.repositories.isLinked(repo, o));
        // What has come since is there, whatever was seen; what has lost more is in doubt again.
        if (isGone && this.#names.get(repo)?.changes === changes) this.#names.delete(repo);
      } catch (error) {
        this.#doubtful.set(key, repo);
        o.signal.throwIfAborted();
        this.#deps.log.debug({ err: error, repository: key }, "whether a repository is gone could not be told");
      }
    });
  }

  #own(work: (signal: AbortSignal) => Promise<void>): void {
    this.#background.own(work).catch((error: unknown) => {
      this.#deps.log.debug({ err: error }, "looking after the names of what is held has ended");
    });
  }
}

/** Works on all of them, so many at a time. */
async function inTurns<T>(all: readonly T[], atOnce: number, work: (one: T) => Promise<void>): Promise<void> {
  const waiting = all.values();
  const next = async (): Promise<void> => {
    for (const one of waiting) await work(one);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, all.length) }, next));
}

function repoOf({ upstream, repository }: NamedRepository): RepoRef {
  return { upstream, repository };
}

function lineOf({ upstream, repository, figures }: RepoRef & Pick<NamedRepository, "figures">): RepositoryLine {
  return {
    upstream,
    repository,
    visibility: figures?.visibility,
    tags: figures?.tags,
    sizeBytes: figures?.sizeBytes,
    lastUsedMs: figures?.lastUsedMs,
    atLeast: figures?.atLeast ?? false,
  };
}
