import { randomUUID } from "node:crypto";
import type { Clock } from "./base/clock.ts";
import { packageVersion } from "./base/package-version.ts";
import { systemClock } from "./base/system-clock.ts";
import type { ConfigSource } from "./config/config-source.ts";
import { compileFreshness, type Freshness } from "./config/freshness-match.ts";
import { Reloader } from "./config/reloader.ts";
import type { Config, ListenAddress, UpstreamConfig } from "./config/types.ts";
import { defaultUpstream } from "./config/upstreams.ts";
import { createAdminServer } from "./http/admin.ts";
import { createRouteTable, type RouteTable } from "./http/route.ts";
import { createFrontServer } from "./http/server.ts";
import { createFills } from "./proxy/fills.ts";
import { Provenance } from "./proxy/provenance.ts";
import { createProxy } from "./proxy/proxy.ts";
import type { Remembered } from "./proxy/remembered.ts";
import { createMemoryState } from "./state/memory-state.ts";
import { createCachedObjects } from "./storage/cached-objects.ts";
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
  /**
   * Reads the configuration and the listener's TLS files again; what cannot be used leaves in force what is, and is logged.
   * Never rejects.
   */
  reload(): Promise<void>;
  /**
   * Not ready first, then no new connections; answers under way have `shutdown.grace` to finish. Fills are kept for the
   * next start. Resolves when nothing runs any more. Repeatable.
   */
  stop(): Promise<void>;
}

/** What may be put in the place of the machine's own. */
export interface AppDeps {
  readonly clock?: Clock;
}

type Closer = () => Promise<void>;

/** Downloads under way put what they have on disk, up to 64 MiB each, on a disk that may be slow. No client waits for it. */
const FILLS_STOP_MS = 30_000;

/**
 * Puts Weir together and starts it: the only place that knows every part. Rejects, with nothing left running, when a part
 * cannot start.
 *
 * @param config what `source` gave last; read from there again when it changes
 */
export async function startApp(config: Config, source: ConfigSource, deps: AppDeps = {}): Promise<App> {
  const closers: Closer[] = [];
  const closeAll = async (): Promise<void> => {
    const errors: unknown[] = [];
    for (let close = closers.pop(); close !== undefined; close = closers.pop()) {
      await close().catch((error: unknown) => errors.push(error));
    }
    if (errors.length > 0) throw new AggregateError(errors, "some parts of Weir could not be stopped in order");
  };
  try {
    const running = await start(config, source, deps, (closer) => closers.push(closer));
    let stopped: Promise<void> | undefined;
    return {
      ...running,
      stop() {
        stopped ??= closeAll();
        return stopped;
      },
    };
  } catch (error) {
    // What could not be started is what to tell, not what could not be stopped for that.
    await closeAll().catch(() => {});
    throw error;
  }
}

/** What the parts look up for each request. A reload exchanges it as a whole, between two requests. */
interface Live {
  readonly config: Config;
  readonly routes: RouteTable;
  readonly upstreams: ReadonlyMap<string, LiveUpstream>;
  /** For upstreams that are not configured. */
  readonly freshness: Freshness;
}

interface LiveUpstream {
  readonly config: UpstreamConfig;
  readonly freshness: Freshness;
}

function createLive(config: Config): Live {
  return {
    config,
    routes: createRouteTable(config.routing, config.upstreams, normaliseRepository),
    upstreams: new Map(
      config.upstreams.map((upstream) => [
        upstream.name,
        { config: upstream, freshness: compileFreshness(upstream.freshness) },
      ]),
    ),
    freshness: compileFreshness(config.freshness),
  };
}

async function start(
  config: Config,
  source: ConfigSource,
  deps: AppDeps,
  onStop: (closer: Closer) => void,
): Promise<Omit<App, "stop">> {
  const { clock = systemClock } = deps;
  const random = Math.random;
  const newRequestId = randomUUID;
  const log = createLog({ level: config.telemetry.logLevel });
  let live = createLive(config);
  const metrics = createMetrics({ version: packageVersion(), isConfigured: (name) => live.upstreams.has(name) });

  const root = await openRoot(config.storage.filesystem.root);
  onStop(() => root.close());
  if (root.full) {
    log.warn({ root: root.path }, "the storage has no room, or no inode, left (see df and df -i): nothing can be kept");
  }
  const blobs = await createFsBlobStore({ root: root.path, log });
  onStop(() => blobs.close());
  const repositories = createRepositories(createCachedObjects(await createFsSmallObjects({ root: root.path })), log);
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
  const fills = createFills({ store: blobs, spool, clock, random, log, download, observer: metrics, committed });
  await fills.open();
  onStop(() => fills.stop({ signal: AbortSignal.timeout(FILLS_STOP_MS) }));

  const proxy = createProxy({
    upstreams,
    blobs,
    repositories,
    fills,
    provenance,
    freshnessOf: (upstream) => live.upstreams.get(upstream)?.config.freshness ?? live.config.freshness,
    ttlMs: (repo, tag) => (live.upstreams.get(repo.upstream) ?? live).freshness.ttlMs(repo, tag).ttlMs,
    access: () => live.config.access,
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
    setup: { config: () => live.config, server: () => ({ ...config.server, listen }) },
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
    routes: () => live.routes,
    observer: metrics,
    budgetStatusOf: (upstream) => live.upstreams.get(upstream)?.config.budgetStatus ?? 503,
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

  const reloader = new Reloader(config, {
    source,
    apply(changed) {
      const next = createLive(changed);
      const { putInForce, ...effect } = upstreams.prepare(changed.upstreams);
      // Nothing from here on can fail. The upstreams first: metrics take back what those that leave have reported.
      putInForce();
      live = next;
      log.setLevel(changed.telemetry.logLevel);
      return { upstreams: effect };
    },
    observer: metrics,
    clock,
    log,
  });
  reloader.watch();
  onStop(() => reloader.stop());
  return {
    address,
    adminAddress,
    async reload() {
      await Promise.all([reloader.reload(), front.reloadTls()]);
    },
  };
}
