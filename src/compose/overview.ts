import type { CallOptions } from "../base/call.ts";
import type { Channel } from "../cluster/channel.ts";
import { defaultUpstream } from "../config/upstreams.ts";
import type { RepoRef } from "../oci/reference.ts";
import { type Activity, createActivity, type FillActivity, type UpstreamActivity } from "../proxy/overview/activity.ts";
import { createOverview } from "../proxy/overview/create-overview.ts";
import type { Overview, RecentPull } from "../proxy/overview/overview.ts";
import { RepositoryIndex } from "../proxy/overview/repository-index.ts";
import { createRepositories } from "../storage/repositories-store.ts";
import type { Upstream } from "../upstream/upstream.ts";
import type { Parts } from "./assemble.ts";
import type { OnStop } from "./closers.ts";

const UPSTREAMS = "worker.upstreams";
const FILLS = "worker.fills";
const RECENT = "worker.recent";
const CHANGED = "worker.changed-repositories";

/** A worker that has not answered by then is left out: the page is looked at again a moment later. */
const ANSWER_MS = 2_000;

/** What a pull writes is told together, this late. */
const TELL_MS = 500;

/** What other Weirs write to a bucket is seen a day later: looking through it has its price. */
const WALK_MS = 24 * 60 * 60_000;

/** A folder that several share costs nothing but time. */
const SHARED_WALK_MS = 60 * 60_000;

/** How a repository has changed: as the observer of its links tells it. */
export type TellChange = (repo: RepoRef, how: "came" | "left") => void;

/** Of this process. */
export function ownActivity({ upstreams, live, failures, fills, recent, clock }: Parts): Activity {
  return createActivity({
    upstreams: () =>
      upstreams.all().map(({ upstream, dynamic }) => {
        const { type } =
          live().upstreams.get(upstream.name)?.config ?? defaultUpstream(upstream.name, live().config.freshness);
        return { upstream, type, dynamic };
      }),
    lastError: (upstream) => failures.of(upstream),
    fills,
    reports: () => recent.reports(),
    clock,
  });
}

/** Lets the parent ask this worker, and tells it what of the storage is changed here. */
export function answerActivity(channel: Channel, parts: Parts, onStop: OnStop): void {
  const own = ownActivity(parts);
  channel.onAsked(UPSTREAMS, (_, o) => own.upstreams(o));
  channel.onAsked(FILLS, (_, o) => own.fills(o));
  channel.onAsked(RECENT, (limit, o) => own.recent(Number(limit), o));
  const stopped = new AbortController();
  let changes = new Map<string, readonly [RepoRef, "came" | "left"]>();
  const tell = (): void => {
    channel.tell(CHANGED, [...changes.values()]);
    changes = new Map();
  };
  parts.onChanged(({ upstream, repository }, how) => {
    if (changes.size === 0) parts.clock.sleep(TELL_MS, stopped.signal).then(tell, () => {});
    changes.set(`${how} ${upstream}/${repository}`, [{ upstream, repository }, how]);
  });
  onStop(async () => {
    stopped.abort();
    tell();
  });
}

/** Of a parent, whose workers answer clients. */
export function workersActivity(workers: () => readonly { readonly channel: Channel }[], own: Activity): Activity {
  const ask = async <T>(what: string, data: unknown, { signal }: CallOptions): Promise<readonly T[] | undefined> => {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
    const asked = workers().map(async ({ channel }) => (await channel.ask(what, data, { signal: limited })) as T[]);
    const answers = await Promise.allSettled(asked);
    signal.throwIfAborted();
    const answered = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
    return answered.length === 0 ? undefined : answered.flat();
  };
  return {
    upstreams: async (o) => (await ask<UpstreamActivity>(UPSTREAMS, null, o)) ?? (await own.upstreams(o)),
    fills: async (o) => (await ask<FillActivity>(FILLS, null, o)) ?? [],
    recent: async (limit, o) => (await ask<RecentPull>(RECENT, limit, o)) ?? [],
  };
}

/** Hears what a worker changes. */
export function hearChanges(channel: Channel, changed: TellChange): void {
  channel.onTold(CHANGED, (data) => {
    for (const [repo, how] of data as readonly (readonly [RepoRef, "came" | "left"])[]) changed(repo, how);
  });
}

export interface OpenOverview {
  readonly overview: Overview;
  readonly changed: TellChange;
  /** Somebody who would have told of changes is gone. */
  missed(): void;
}

/** Of the process that has the storage. What is held is gathered from now on. */
export function composeOverview(parts: Parts, activity: Activity, onStop: OnStop): OpenOverview {
  const { config, clock, log, storage, room, repositories, upstreams, proxy, live } = parts;
  const { standings } = proxy.knowledge;
  const { driver, filesystem } = config.storage;
  const { tiers, bucket } = storage;
  // Each by itself: of both together those of a bucket that cannot be asked would be taken for gone.
  const sides = tiers === undefined || bucket === undefined ? [] : [tiers.diskObjects, bucket.objects];
  const linked = sides.map((objects) => createRepositories(objects, log));
  const index = new RepositoryIndex({
    repositories: {
      async *linked(o) {
        for (const side of linked.length === 0 ? [repositories] : linked) yield* side.linked(o);
      },
      isLinked: (repo, o) => repositories.isLinked(repo, o),
      tagNames: (repo, o) => repositories.tagNames(repo, o),
      linkNames: (repo, o) => repositories.linkNames(repo, o),
    },
    glance: (digest) => room.glance(digest),
    async visibilityOf(repo, o) {
      const known = await standings.known(repo, upstreams.get(repo.upstream) ?? NO_CREDENTIAL, o);
      return known.stands || known.recorded ? known.standing.visibility : "unknown";
    },
    walkEveryMs: driver === "filesystem" && filesystem.shared ? SHARED_WALK_MS : WALK_MS,
    clock,
    log,
  });
  const changed: TellChange = (repo, how) => index.changed(repo, how);
  parts.onChanged(changed);
  index.start();
  onStop(() => index.stop());
  const overview = createOverview({
    ...proxy.knowledge,
    activity,
    index,
    upstreams,
    store: storage.blobs,
    repositories,
    room,
    marks: () => live().room.total,
    driver,
    waitingUploads: () => tiers?.queue.waiting.entries,
    pins: parts.namedPins,
    freshnessOf: parts.freshnessOf,
    ttlOf: parts.ttlOf,
    names: () => live().routes,
    clock,
  });
  return { overview, changed, missed: () => index.missed() };
}

const NO_CREDENTIAL: Pick<Upstream, "hasCredential"> = { hasCredential: () => false };
