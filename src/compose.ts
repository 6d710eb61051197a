import { randomUUID } from "node:crypto";
import { packageVersion } from "./base/package-version.ts";
import { systemClock } from "./base/system-clock.ts";
import { compileFreshness } from "./config/freshness-match.ts";
import type { Config, ListenAddress } from "./config/types.ts";
import { defaultUpstream } from "./config/upstreams.ts";
import { createAdminServer } from "./http/admin.ts";
import { createRouteTable } from "./http/route.ts";
import { createFrontServer } from "./http/server.ts";
import { createFills } from "./proxy/fills.ts";
import { Provenance } from "./proxy/provenance.ts";
import { createProxy } from "./proxy/proxy.ts";
import type { Remembered } from "./proxy/remembered.ts";
import { createMemoryState } from "./state/memory-state.ts";
import { createFsBlobStore } from "./storage/fs/fs-blob-store.ts";
import { createFsSmallObjects } from "./storage/fs/fs-small-objects.ts";
import { openRoot } from "./storage/fs/root.ts";
import { createRepositories } from "./storage/repositories-store.ts";
import { createSpool } from "./storage/spool.ts";
import { logExchanges } from "./telemetry/exchange-log.ts";
import { createLog } from "./telemetry/log.ts";
import { createMetrics } from "./telemetry/metrics.ts";
import { normaliseRepository } from "./upstream/adapters/index.ts";
import { createUpstream, type UpstreamDeps } from "./upstream/create.ts";
import { createUpstreams } from "./upstream/upstreams.ts";

/** A running Weir. */
export interface App {
  /** Where clients are answered; with the port that was picked where the configuration says 0. */
  readonly address: ListenAddress;
  readonly adminAddress: ListenAddress;
  /** Takes the listener's certificate and key from their files again; nothing without TLS. */
  reloadTls(): Promise<void>;
  /**
   * Not ready first, then no new connections; answers under way have `shutdown.grace` to finish. Fills are kept for the
   * next start. Resolves when nothing runs any more. Repeatable.
   */
  stop(): Promise<void>;
}

type Closer = () => Promise<void>;

/** Puts Weir together and starts it: the only place that knows every part. Rejects, with nothing left running, when a part cannot start. */
export async function startApp(config: Config): Promise<App> {
  const closers: Closer[] = [];
  const closeAll = async (): Promise<void> => {
    for (let close = closers.pop(); close !== undefined; close = closers.pop()) await close();
  };
  try {
    const running = await start(config, (closer) => closers.push(closer));
    let stopped: Promise<void> | undefined;
    return {
      ...running,
      stop() {
        stopped ??= closeAll();
        return stopped;
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function start(config: Config, onStop: (closer: Closer) => void): Promise<Omit<App, "stop">> {
  const clock = systemClock;
  const random = Math.random;
  const newRequestId = randomUUID;
  const log = createLog({ level: config.telemetry.logLevel });
  const routes = createRouteTable(config.routing, config.upstreams, normaliseRepository);
  const configs = new Map(config.upstreams.map((upstream) => [upstream.name, upstream]));
  const metrics = createMetrics({ version: packageVersion(), isConfigured: (name) => configs.has(name) });

  const root = await openRoot(config.storage.filesystem.root);
  onStop(() => root.close());
  const blobs = await createFsBlobStore({ root: root.path, log });
  onStop(() => blobs.close());
  const repositories = createRepositories(await createFsSmallObjects({ root: root.path }), log);
  const spool = createSpool({ dir: config.storage.spool.dir, log });
  onStop(() => spool.close());

  const upstreamDeps: UpstreamDeps = {
    clock,
    random,
    log,
    observer: logExchanges(log, metrics),
    limits: config.limits,
  };
  const upstreams = createUpstreams({
    configured: config.upstreams.map((upstream) => createUpstream(upstream, upstreamDeps)),
    allowsDynamic: (host) => routes.dynamic(host),
    createDynamic: (host) =>
      createUpstream(defaultUpstream(host, config.freshness), { ...upstreamDeps, dynamic: true }),
  });
  onStop(() => upstreams.close());

  const freshness = new Map(config.upstreams.map((upstream) => [upstream.name, compileFreshness(upstream.freshness)]));
  const dynamicFreshness = compileFreshness(config.freshness);

  const provenance = new Provenance(repositories);
  const { committed } = provenance;
  const { download, access } = config;
  const fills = createFills({ store: blobs, spool, clock, random, log, download, observer: metrics, committed });
  await fills.open();
  onStop(() => fills.stop({ signal: AbortSignal.timeout(config.shutdown.graceMs) }));

  const proxy = createProxy({
    upstreams,
    blobs,
    repositories,
    fills,
    provenance,
    freshnessOf: (upstream) => configs.get(upstream)?.freshness ?? config.freshness,
    ttlMs: (repo, tag) => (freshness.get(repo.upstream) ?? dynamicFreshness).ttlMs(repo, tag).ttlMs,
    access,
    download,
    state: createMemoryState<Remembered>({ clock, log }),
    clock,
    log,
    observer: metrics,
  });
  onStop(() => proxy.stop());

  let stopping = false;
  let { listen } = config.server;
  const admin = createAdminServer({
    config: config.admin,
    metrics,
    setup: { config: () => config, server: () => ({ ...config.server, listen }) },
    ready: () => (stopping ? { ready: false, reasons: ["Weir is stopping"] } : { ready: true, reasons: [] }),
    log,
    clock,
    newRequestId,
  });
  const adminAddress = await admin.listen();
  onStop(() => admin.stop(0));

  const front = createFrontServer({
    config: config.server,
    limits: config.limits,
    proxy,
    routes,
    observer: metrics,
    budgetStatusOf: (upstream) => configs.get(upstream)?.budgetStatus ?? 503,
    log,
    clock,
    monotonicMs: () => performance.now(),
    newRequestId,
  });
  const address = await front.listen();
  listen = { host: listen.host, port: address.port };
  onStop(() => {
    stopping = true;
    return front.stop(config.shutdown.graceMs);
  });
  return { address, adminAddress, reloadTls: () => front.reloadTls() };
}
