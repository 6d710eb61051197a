import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Digest } from "../../oci/digest.ts";
import { formatRepo, type RepoRef } from "../../oci/reference.ts";
import type { BlobStore } from "../../storage/blob-store.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { Saved, SavingsRecord } from "../../storage/savings.ts";

export interface Held {
  /** Blobs that are held, manifests included; one that several have is one. */
  readonly blobs: number;
  /** What the storage uses for them. */
  readonly bytes: number;
  readonly manifests: number;
  readonly tags: number;
}

export interface UpstreamStats extends Held {
  readonly name: string;
  readonly repositories: number;
  readonly saved: Saved | undefined;
}

export interface RepositoryStats extends Held {
  /** `<upstream>/<repository>` */
  readonly name: string;
  readonly saved: Saved | undefined;
}

export interface StatsProgress {
  readonly event: "progress";
  readonly blobs: number;
  readonly repositories: number;
}

export interface StatsSummary extends Held {
  readonly done: true;
  /** With what no repository has; what several upstreams share counts once. */
  readonly repositories: number;
  readonly upstreams: readonly UpstreamStats[];
  /** The largest, as many as were asked for. */
  readonly largest: readonly RepositoryStats[];
  readonly saved: Saved;
  /** Since when what was saved is counted; milliseconds since the epoch. */
  readonly savedSinceMs: number;
  readonly tookMs: number;
}

export type StatsEvent = StatsProgress | StatsSummary;

export interface StatsDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  savings(): SavingsRecord;
  readonly clock: Clock;
}

/** Often enough to be looked at, and to keep a connection from looking dead. */
const PROGRESS_MS = 1000;

/**
 * A digest in 52 bits, which a number holds: of a million blobs two would share one once in ten thousand stores, and a
 * count would be off by one. As text they would take four times the memory.
 */
const KEY_DIGITS = 13;

/** What is held, counted, and what was saved. Takes the time that looking at every link takes. */
export async function* gatherStats(
  { blobs, repositories, savings, clock }: StatsDeps,
  o: CallOptions & { readonly repositories: number },
): AsyncIterable<StatsEvent> {
  const startedMs = clock.now();
  let toldMs = startedMs;
  const due = (): boolean => {
    const nowMs = clock.now();
    if (nowMs - toldMs < PROGRESS_MS) return false;
    toldMs = nowMs;
    return true;
  };
  const occupied = new Map<number, number>();
  let bytes = 0;
  for await (const blob of blobs.list(o)) {
    occupied.set(keyOf(blob.digest), blob.occupied);
    bytes += blob.occupied;
    if (due()) yield { event: "progress", blobs: occupied.size, repositories: 0 };
  }
  const record = savings();
  const upstreams = new Map<string, { count: number; seen: Set<number>; held: Counted }>();
  const all = new Set<number>();
  const total = nothing();
  let largest: RepositoryStats[] = [];
  let count = 0;
  for await (const repo of repositories.linked(o)) {
    const upstream = upstreams.get(repo.upstream) ?? { count: 0, seen: new Set<number>(), held: nothing() };
    upstreams.set(repo.upstream, upstream);
    const own = { ...nothing(), seen: new Set<number>() };
    const tags = (await repositories.tags(repo, o)).length;
    for (const part of [own, upstream.held, total]) part.tags += tags;
    for await (const digest of repositories.revisions(repo, o)) {
      if (!occupied.has(keyOf(digest))) continue;
      add(digest, occupied, own, own.seen, true);
      add(digest, occupied, upstream.held, upstream.seen, true);
      add(digest, occupied, total, all, true);
    }
    for await (const digest of repositories.layers(repo, o)) {
      if (!occupied.has(keyOf(digest))) continue;
      add(digest, occupied, own, own.seen, false);
      add(digest, occupied, upstream.held, upstream.seen, false);
      add(digest, occupied, total, all, false);
    }
    upstream.count += 1;
    count += 1;
    const { seen: _, ...held } = own;
    largest.push({ name: formatRepo(repo), ...held, saved: savedOf(record, repo) });
    if (largest.length >= 2 * o.repositories + 1) largest = top(largest, o.repositories);
    if (due()) yield { event: "progress", blobs: occupied.size, repositories: count };
  }
  for (const name of Object.keys(record.upstreams)) {
    if (!upstreams.has(name)) upstreams.set(name, { count: 0, seen: new Set(), held: nothing() });
  }
  yield {
    done: true,
    ...total,
    // What no repository has is held as well.
    blobs: occupied.size,
    bytes,
    repositories: count,
    upstreams: [...upstreams]
      .map(([name, upstream]): UpstreamStats => {
        const saved = record.upstreams[name];
        return { name, repositories: upstream.count, ...upstream.held, saved: saved && withoutRepositories(saved) };
      })
      .sort((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1)),
    largest: top(largest, o.repositories),
    saved: Object.values(record.upstreams).reduce<Saved>(sum, {
      requests: 0,
      savedRequests: 0,
      bytes: 0,
      savedBytes: 0,
    }),
    savedSinceMs: record.sinceMs,
    tookMs: clock.now() - startedMs,
  };
}

type Counted = { -readonly [K in keyof Held]: number };

function nothing(): Counted {
  return { blobs: 0, bytes: 0, manifests: 0, tags: 0 };
}

function keyOf(digest: Digest): number {
  const hex = digest.indexOf(":") + 1;
  return Number.parseInt(digest.slice(hex, hex + KEY_DIGITS), 16);
}

function add(
  digest: Digest,
  occupied: ReadonlyMap<number, number>,
  held: Counted,
  seen: Set<number>,
  manifest: boolean,
): void {
  const key = keyOf(digest);
  if (seen.has(key)) return;
  seen.add(key);
  held.blobs += 1;
  held.bytes += occupied.get(key) ?? 0;
  if (manifest) held.manifests += 1;
}

function top(repositories: readonly RepositoryStats[], n: number): RepositoryStats[] {
  return [...repositories].sort((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1)).slice(0, n);
}

function savedOf(record: SavingsRecord, { upstream, repository }: RepoRef): Saved | undefined {
  const repositories = record.upstreams[upstream]?.repositories;
  return repositories !== undefined && Object.hasOwn(repositories, repository) ? repositories[repository] : undefined;
}

function withoutRepositories({ requests, savedRequests, bytes, savedBytes }: Saved): Saved {
  return { requests, savedRequests, bytes, savedBytes };
}

function sum(a: Saved, b: Saved): Saved {
  return {
    requests: a.requests + b.requests,
    savedRequests: a.savedRequests + b.savedRequests,
    bytes: a.bytes + b.bytes,
    savedBytes: a.savedBytes + b.savedBytes,
  };
}
