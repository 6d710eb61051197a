import { FetchBudgets, type SpentBudget } from "../access/budget.ts";
import { type ContentRules, NO_CONTENT_RULES } from "../access/content-rules.ts";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { packageVersion } from "../base/package-version.ts";
import { systemClock } from "../base/system-clock.ts";
import type { Ttl } from "../config/freshness-match.ts";
import { environmentProxies } from "../config/proxies.ts";
import { compilePin } from "../config/room.ts";
import type { Config, FreshnessConfig } from "../config/types.ts";
import { defaultUpstream } from "../config/upstreams.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import { Background } from "../proxy/background.ts";
import { Explainer } from "../proxy/explain/explainer.ts";
import { createFills, type Fills } from "../proxy/fills.ts";
import { createInFlight } from "../proxy/in-flight.ts";
import { type NamedPin, OperatorPins } from "../proxy/operator-pins.ts";
import { Provenance } from "../proxy/provenance.ts";
import { createProxy, type RunningProxy } from "../proxy/proxy.ts";
import type { Remembered } from "../proxy/remembered.ts";
import { hearVerified, tellVerified } from "../proxy/told-verified.ts";
import { Savings } from "../proxy/upkeep/savings.ts";
import type { Explanations } from "../proxy/upkeep/upkeep.ts";
import { openState } from "../state/open-state.ts";
import { createFileHashes } from "../storage/file-hashes.ts";
import { repositoryPart } from "../storage/layout.ts";
import { openStorage, SHARED_AGE_MS, type Storage } from "../storage/open-storage.ts";
import { createParkedCredentials } from "../storage/parked-credentials.ts";
import { createPinStore, type PinStore } from "../storage/pins.ts";
import { createSavingsStore } from "../storage/savings.ts";
import { createSpool } from "../storage/spool.ts";
import { createTieredPins } from "../storage/tiered/tiered-pins.ts";
import { hearWritten, tellWritten } from "../storage/told-writes.ts";
import { logExchanges } from "../telemetry/exchange-log.ts";
import { createLastFailures } from "../telemetry/last-failures.ts";
import { createLog, type LevelledLog } from "../telemetry/log.ts";
import { createMetrics, type Metrics } from "../telemetry/metrics.ts";
import { openTraces } from "../telemetry/open-traces.ts";
import { createRecentRequests } from "../telemetry/recent-requests.ts";
import { teeTrails } from "../telemetry/tee-trails.ts";
import { createUpstream, type UpstreamDeps } from "../upstream/create.ts";
import type { QuotaRecord } from "../upstream/quota-book.ts";
import { ReceiveMemory } from "../upstream/receive-memory.ts";
import { createUpstreams } from "../upstream/upstreams.ts";
import type { OnStop } from "./closers.ts";
import { joinFleet, type Membership } from "./fleet.ts";
import { createLive, type Live } from "./live.ts";
import { composeRoom } from "./room.ts";
import { composeSignIn } from "./sign-in.ts";
import { composeUpkeep } from "./upkeep.ts";

/** Downloads under way put what they have on disk, up to 64 MiB each, on a disk that may be slow. No client waits for it. */
const FILLS_STOP_MS = 30_000;

/** A few small objects that tell what was used when, and a blob that is being deleted. */
const ROOM_STOP_MS = 10_000;

/** What was saved is one small object; it must not hold up a start or a stop. */
const SAVINGS_MS = 5_000;

/**
 * What a process alone writes it knows of. What it answers from memory is looked for once a minute all the same: that costs nothing,
 * and what somebody does to the files behind its back counts.
 */
const ALONE_AGE_MS = 60_000;

/** What stands in the place of the machine's own, and which of several processes this is. */
export interface AssembleDeps {
  readonly clock?: Clock;
  /** Where the proxies on the way to upstreams are named; none without it. */
  readonly env?: NodeJS.ProcessEnv;
  readonly log?: LevelledLog;
  readonly metered?: (metrics: Metrics) => Metrics;
  /** What this process has of its parent, where it is a worker. */
  readonly worker?: Membership;
  /** Whether it answers clients, so that there may be something to trace. */
  readonly serves?: boolean;
  /** Whether others serve, and this process does what one must do for all of them. */
  readonly parent?: boolean;
}

/** Everything but what listens. */
export async function assemble(config: Config, deps: AssembleDeps, onStop: OnStop) {
  const { clock = systemClock } = deps;
  const random = Math.random;
  const log = deps.log ?? createLog({ level: config.telemetry.logLevel });
  let live = createLive(config);
  const counted = createMetrics({ version: packageVersion(), isConfigured: (name) => live.upstreams.has(name) });
  const metrics = deps.metered?.(counted) ?? counted;
  metrics.configured(live.upstreams.keys());
  const recent = createRecentRequests(clock);
  const traces =
    deps.serves === true
      ? await openTraces(config.telemetry.traces, deps.env ?? {}, {
          version: packageVersion(),
          clock,
          monotonicMs: () => performance.now(),
          log,
        })
      : undefined;
  if (traces !== undefined) onStop(() => traces.close());

  const { worker } = deps;
  let tellOthers: (key: string) => void = () => {};
  const running: { fills?: Fills; proxy?: RunningProxy } = {};
  const storage = await openStorage(config.storage, {
    clock,
    random,
    log,
    measure: { observer: metrics, monotonicMs: () => performance.now() },
    ...(worker === undefined ? {} : { use: "under-parent" }),
    written(key) {
      const part = repositoryPart(key);
      if (part === undefined) return;
      running.proxy?.changed(part);
      tellOthers(key);
    },
    hasChildren: deps.parent === true,
  });
  onStop(() => storage.close());
  const heardWritten = (key?: string): void => {
    const part = key === undefined ? undefined : repositoryPart(key);
    storage.heard?.(key);
    if (key === undefined || part !== undefined) running.proxy?.changed(part);
  };
  const onWritten = (tell: (key: string) => void): void => {
    if (storage.heard !== undefined) tellOthers = tell;
  };
  if (worker !== undefined) {
    hearWritten(worker.channel, heardWritten);
    onWritten((key) => tellWritten(worker.channel, key));
  }
  const forgetting = new Set<(digest: Digest) => void>();
  const forget = (digest: Digest): void => {
    running.proxy?.forget(digest);
    for (const tell of forgetting) tell(digest);
  };
  const changing = new Set<(repo: RepoRef, how: "came" | "left") => void>();
  const pins = new OperatorPins({
    store: pinStoreOf(storage, clock),
    names: () => live.routes,
    clock,
    log,
  });
  const { room, blobs, repositories, bucketUsage, fillRoom } = await composeRoom({
    storage,
    spoolDir: config.storage.spool.dir,
    limits: () => live.room,
    bucketLimits: () => live.bucketRoom,
    pins,
    changed(repo, how) {
      for (const tell of changing) tell(repo, how);
    },
    fills: () => running.fills,
    forget: (digest) => forget(digest),
    parent: worker?.channel,
    clock,
    log,
    observer: metrics,
  });
  if (worker === undefined) metrics.watchRoom(() => room.usage());
  if (bucketUsage !== undefined) metrics.watchBucket(bucketUsage);
  const { tiers } = storage;
  if (worker === undefined && tiers !== undefined) metrics.watchUploads(() => tiers.queue.waiting);
  onStop(() => room.stop({ signal: AbortSignal.timeout(ROOM_STOP_MS) }));
  const spool = createSpool({ dir: config.storage.spool.dir, log });
  onStop(() => spool.close());

  const state = await openState(config.state, { clock, log, observer: metrics, parent: worker?.channel });
  onStop(() => state.close());

  const freshnessOf = (upstream: string): FreshnessConfig =>
    live.upstreams.get(upstream)?.config.freshness ?? live.config.freshness;
  const failures = createLastFailures(clock, logExchanges(log, metrics));
  const proxies = environmentProxies(deps.env ?? {});
  const upstreamDeps: UpstreamDeps = {
    clock,
    random,
    log,
    observer: failures.observer,
    quotas: {
      shared: state.store<readonly QuotaRecord[]>("quotas", { shared: "at-once" }),
      observer: metrics,
      lowBelow: (upstream) => freshnessOf(upstream).whenBudgetLow.below,
    },
    parked: createParkedCredentials(storage.objects),
    credentialObserver: metrics,
    limits: config.limits,
    proxies,
    memory: new ReceiveMemory(),
  };
  const upstreams = createUpstreams({
    create: (upstream) => createUpstream(upstream, upstreamDeps),
    allowsDynamic: (host) => live.routes.dynamic(host),
    createDynamic: (host) =>
      createUpstream(defaultUpstream(host, live.config.freshness), { ...upstreamDeps, dynamic: true }),
  });
  upstreams.prepare(config.upstreams).putInForce();
  onStop(() => upstreams.close());

  const provenance = new Provenance(repositories);
  const { committed } = provenance;
  const { download } = config;
  const fleet = await joinFleet(
    // Nobody reads from a process that serves nobody.
    deps.parent === true ? { ...config, cluster: undefined } : config,
    {
      redis: state.redis,
      inFlight: createInFlight({ get: (domain, digest) => running.fills?.get(domain, digest) }),
      store: blobs,
      clock,
      random,
      log,
      observer: metrics,
      trails: traces?.peers,
    },
    worker,
    onStop,
  );
  const hashes = createFileHashes({ clock, log });
  onStop(() => hashes.close());
  const fills = createFills({
    store: blobs,
    spool,
    hashes,
    room: fillRoom,
    clock,
    random,
    log,
    download,
    turns: fleet.fillTurns,
    observer: metrics,
    committed,
  });
  running.fills = fills;
  await fills.open();
  onStop(() => fills.stop({ signal: AbortSignal.timeout(FILLS_STOP_MS) }));

  const ttlOf = (repo: RepoRef, tag: string): Ttl =>
    (live.upstreams.get(repo.upstream) ?? live).freshness.ttlMs(repo, tag);
  const rulesOf = (upstream: string): ContentRules => live.upstreams.get(upstream)?.rules ?? NO_CONTENT_RULES;
  const { driver, filesystem } = config.storage;
  const othersTell = worker !== undefined && storage.heard !== undefined && state.redis === undefined;
  const othersWrite = worker !== undefined || driver !== "filesystem" || filesystem.shared || state.redis !== undefined;
  const proxy = createProxy({
    upstreams,
    blobs,
    repositories,
    fills,
    room,
    provenance,
    freshnessOf,
    ttlMs: (repo, tag) => ttlOf(repo, tag).ttlMs,
    access: () => live.config.access,
    accessRules: () => live.accessRules,
    rulesOf,
    budgets: new FetchBudgets({ store: state.store<SpentBudget>("fetch-budgets"), clock }),
    download,
    turns: fleet.turns,
    tellVerified: worker && ((digest, verified) => tellVerified(worker.channel, digest, verified)),
    state: state.store<Remembered>("remembered"),
    inForce: () => live,
    maxAgeMs: othersWrite ? SHARED_AGE_MS : ALONE_AGE_MS,
    maxContentAgeMs: othersWrite && !othersTell ? SHARED_AGE_MS : ALONE_AGE_MS,
    clock,
    log,
    observer: metrics,
  });
  running.proxy = proxy;
  if (worker !== undefined) hearVerified(worker.channel, (digest, verified) => proxy.heardVerified(digest, verified));
  onStop(() => proxy.stop());
  const namedPins = async (o: CallOptions): Promise<readonly NamedPin[]> => {
    const configured = live.config.storage.room.pins.map((text): NamedPin => {
      return { text, from: "storage.pins", ...compilePin(text) };
    });
    return [...configured, ...(await pins.read(o))];
  };
  const explainer = new Explainer({
    ...proxy.knowledge,
    upstreams,
    store: storage.blobs,
    repositories,
    fills,
    room,
    pins: namedPins,
    freshnessOf,
    ttlOf,
    rulesOf,
    names: () => live.routes,
    clock,
  });

  const signIn = composeSignIn({ live: () => live, root: storage.root, proxies, clock, log }, config.server.publicUrl);

  return {
    config,
    clock,
    log,
    metrics,
    signIn,
    storage,
    state,
    room,
    blobs,
    repositories,
    upstreams,
    failures,
    fills,
    proxy,
    explainer,
    pins,
    /** Those of `storage.pins` and the operator's. */
    namedPins,
    freshnessOf,
    ttlOf,
    recent,
    trails: traces === undefined ? recent : teeTrails(recent, traces),
    forget,
    /** Another process that serves from the same storage has written there; as {@link Storage.heard}. */
    heardWritten,
    /** From now on `tell` gets the key of each link or record that this process writes or deletes, if others can hear of it. */
    onWritten,
    /** From now on `tell` hears of every repository of which this process writes or removes something. */
    onChanged(tell: (repo: RepoRef, how: "came" | "left") => void): void {
      changing.add(tell);
    },
    /** From now on `tell` hears as well of every blob that is not held any more. */
    onForget(tell: (digest: Digest) => void): () => void {
      forgetting.add(tell);
      return () => forgetting.delete(tell);
    },
    live: () => live,
    putLive(next: Live): void {
      live = next;
      metrics.configured(next.upstreams.keys());
      room.limitsChanged();
    },
  };
}

function pinStoreOf({ objects, tiers, bucket }: Storage, clock: Clock): PinStore {
  return tiers === undefined || bucket === undefined
    ? createPinStore(objects)
    : createTieredPins({ disk: tiers.diskObjects, bucket: bucket.objects, clock });
}

export type Parts = Awaited<ReturnType<typeof assemble>>;

/** What one process does for all that serve from the storage: counts what is saved, and tends what is held. */
export async function maintain(
  parts: Parts,
  { commanded, explanations }: { readonly commanded: boolean; readonly explanations: Explanations },
  onStop: OnStop,
) {
  const { storage, room, blobs, repositories, proxy, forget, live, clock, log } = parts;
  const savings = new Savings({ store: createSavingsStore(storage.objects), clock, log });
  await savings.load({ signal: AbortSignal.timeout(SAVINGS_MS) });
  onStop(() => savings.stop({ signal: AbortSignal.timeout(SAVINGS_MS) }));
  const background = new Background();
  onStop(() => background.stop());
  const upkeep = composeUpkeep({
    root: storage.root?.path,
    blobs,
    store: storage.blobs,
    objects: storage.objects,
    repositories,
    room,
    forget,
    proxy,
    savings,
    explanations,
    pins: parts.pins,
    configuredPins: () => live().config.storage.room.pins,
    names: () => live().routes,
    background: commanded ? undefined : background,
    clock,
    log,
  });
  if (!commanded) room.start();
  return { savings, upkeep };
}
