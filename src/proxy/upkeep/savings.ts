import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { StorageError } from "../../storage/blob-store.ts";
import type { SavedUpstream, SavingsRecord, SavingsStore } from "../../storage/savings.ts";
import type { CacheOutcome } from "../answers.ts";

export interface SavingsDeps {
  readonly store: SavingsStore;
  readonly clock: Clock;
  readonly log: Log;
}

/** A crash loses at most so much. */
const FLUSH_MS = 60_000;

/** Repositories of which the record speaks; with names of usual length it stays under 200 KB. */
const MAX_REPOSITORIES = 1000;

/** Those in memory between two flushes: names are the clients', but only such count of which something was served. */
const MAX_IN_MEMORY = 2 * MAX_REPOSITORIES;

/** More than anybody configures; those made by dynamic routing come and go. */
const MAX_UPSTREAMS = 200;

interface Counter {
  requests: number;
  savedRequests: number;
  bytes: number;
  savedBytes: number;
}

interface UpstreamCounter extends Counter {
  readonly repositories: Map<string, Counter>;
}

/** An answer, or several alike that another process has given. */
export interface Served {
  readonly status: number;
  readonly cache: CacheOutcome;
  /** Of all of them. */
  readonly bytesSent: number;
  /** 1 if left out. */
  readonly requests?: number;
}

const NO_QUESTION: ReadonlySet<CacheOutcome> = new Set(["hit", "stale", "negative", "collapsed"]);
const NO_TRANSFER: ReadonlySet<CacheOutcome> = new Set(["hit", "stale", "collapsed", "revalidated"]);

/**
 * Counts what was served and what of it the cache has saved. Counting touches nothing but numbers in memory; they are
 * written at most once a minute, and at the end.
 */
export class Savings {
  readonly #deps: SavingsDeps;
  readonly #lifetime = new AbortController();
  readonly #upstreams = new Map<string, UpstreamCounter>();
  #repositories = 0;
  #sinceMs: number;
  #dirty = false;
  #flushing = false;

  constructor(deps: SavingsDeps) {
    this.#deps = deps;
    this.#sinceMs = deps.clock.now();
  }

  /** Goes on from what was written last. To be called before anything is counted. */
  async load(o: CallOptions): Promise<void> {
    const record = await this.#tolerant(() => this.#deps.store.read(o));
    if (record === undefined) return;
    this.#sinceMs = record.sinceMs;
    for (const [upstream, { repositories, ...saved }] of Object.entries(record.upstreams)) {
      const known = new Map(Object.entries(repositories).map(([name, counts]) => [name, { ...counts }]));
      this.#repositories += known.size;
      this.#upstreams.set(upstream, { ...saved, repositories: known });
    }
  }

  /** A client has got an answer. `repository` is undefined for what is of none. No I/O. */
  served(upstream: string | undefined, repository: string | undefined, answer: Served): void {
    if (upstream === undefined || answer.cache === "none") return;
    const counter = this.#upstreams.get(upstream) ?? this.#addUpstream(upstream);
    if (counter === undefined) return;
    count(counter, answer);
    // Only a repository that exists: names that clients make up get no 2xx.
    if (repository !== undefined && answer.status >= 200 && answer.status < 300) {
      const own = counter.repositories.get(repository) ?? this.#addRepository(counter, repository);
      if (own !== undefined) count(own, answer);
    }
    if (!this.#dirty) {
      this.#dirty = true;
      this.#flushLater();
    }
  }

  /** As it stands now, the largest repositories only. */
  record(): SavingsRecord {
    this.#prune();
    const upstreams = [...this.#upstreams].map(([name, { repositories, ...saved }]): [string, SavedUpstream] => [
      name,
      {
        ...saved,
        repositories: Object.fromEntries([...repositories].map(([repository, own]) => [repository, { ...own }])),
      },
    ]);
    return { sinceMs: this.#sinceMs, upstreams: Object.fromEntries(upstreams) };
  }

  /** Writes what has not been written; counts no more. Repeatable. */
  async stop(o: CallOptions): Promise<void> {
    this.#lifetime.abort();
    await this.#flush(o);
  }

  async #flush(o: CallOptions): Promise<void> {
    if (!this.#dirty) return;
    this.#dirty = false;
    await this.#tolerant(() => this.#deps.store.write(this.record(), o));
  }

  #flushLater(): void {
    const { signal } = this.#lifetime;
    if (this.#flushing || signal.aborted) return;
    this.#flushing = true;
    this.#deps.clock
      .sleep(FLUSH_MS, signal)
      .then(() => this.#flush({ signal }))
      .catch((error: unknown) => this.#deps.log.debug({ err: error }, "what the cache has saved is written at the end"))
      .finally(() => {
        this.#flushing = false;
        if (this.#dirty) this.#flushLater();
      });
  }

  #addUpstream(name: string): UpstreamCounter | undefined {
    if (this.#upstreams.size >= MAX_UPSTREAMS) return undefined;
    const counter = { ...nothing(), repositories: new Map<string, Counter>() };
    this.#upstreams.set(name, counter);
    return counter;
  }

  #addRepository(upstream: UpstreamCounter, name: string): Counter | undefined {
    if (this.#repositories >= MAX_IN_MEMORY) return undefined;
    const counter = nothing();
    upstream.repositories.set(name, counter);
    this.#repositories += 1;
    return counter;
  }

  /** Makes room for others: an upstream's own sums keep what its smallest repositories were. */
  #prune(): void {
    if (this.#repositories <= MAX_REPOSITORIES) return;
    const all = [...this.#upstreams.values()].flatMap(({ repositories }) =>
      [...repositories].map(([name, { bytes }]) => ({ repositories, name, bytes })),
    );
    all.sort((a, b) => b.bytes - a.bytes);
    for (const { repositories, name } of all.slice(MAX_REPOSITORIES)) repositories.delete(name);
    this.#repositories = MAX_REPOSITORIES;
  }

  /** Counting is no reason to fail. */
  async #tolerant<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#deps.log.warn({ err: error }, "what the cache has saved could not be read or written");
      return undefined;
    }
  }
}

function nothing(): Counter {
  return { requests: 0, savedRequests: 0, bytes: 0, savedBytes: 0 };
}

function count(counter: Counter, { cache, bytesSent, requests = 1 }: Served): void {
  counter.requests += requests;
  counter.bytes += bytesSent;
  if (NO_QUESTION.has(cache)) counter.savedRequests += requests;
  if (NO_TRANSFER.has(cache)) counter.savedBytes += bytesSent;
}
