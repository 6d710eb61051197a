import { randomBytes } from "node:crypto";
import { ClientAddresses, createAddressGate } from "../access/client-addresses.ts";
import { clientNetwork, compileNetworks } from "../access/networks.ts";
import type { Log } from "../base/log.ts";
import { openFileLimit } from "../base/open-file-limit.ts";
import { packageVersion } from "../base/package-version.ts";
import { createRandomIds } from "../base/random-ids.ts";
import { Secret } from "../base/secret.ts";
import type { ConfigSource } from "../config/config-source.ts";
import { Reloader } from "../config/reloader.ts";
import type { ListenAddress } from "../config/types.ts";
import { createAdminServer } from "../http/admin.ts";
import type { HttpObserver } from "../http/observer.ts";
import { createFrontServer } from "../http/server.ts";
import type { Overview } from "../proxy/overview/overview.ts";
import type { Savings } from "../proxy/upkeep/savings.ts";
import type { Upkeep } from "../proxy/upkeep/upkeep.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Parts } from "./assemble.ts";
import type { OnStop } from "./closers.ts";
import { createLive } from "./live.ts";

export interface AdminOptions {
  readonly upkeep: Upkeep;
  readonly overview: Overview;
  /** In place of the parts' own. */
  readonly metrics: Pick<Metrics, "expose">;
  /** Why no requests should be sent here, a sentence. */
  notReady(): string | undefined;
  /** Where clients are answered. */
  listen(): ListenAddress;
}

/** The operators' port. */
export interface OpenAdmin {
  readonly address: ListenAddress;
  /** Tells commands on this machine where it is. */
  announce(): Promise<void>;
}

export async function openAdmin(parts: Parts, o: AdminOptions, onStop: OnStop): Promise<OpenAdmin> {
  const { config, clock, log, metrics, storage, live } = parts;
  const { root } = storage;
  // For commands on this machine, which read it in the storage.
  const holderToken = new Secret(randomBytes(32).toString("hex"));
  const tokens = [config.admin.token, root && holderToken].filter((token) => token !== undefined);
  const proxied = new ClientAddresses(config.server.trustedProxies);
  const gate = createAddressGate("admin", { allow: config.admin.allow, deny: [] });
  const admin = createAdminServer({
    config: config.admin,
    metrics: o.metrics,
    observer: metrics,
    admit: (client) => gate.admit(client),
    setup: { config: () => live().config, server: () => ({ ...config.server, listen: o.listen() }) },
    control: { upkeep: o.upkeep, tokens },
    page: {
      token: config.admin.token,
      overview: o.overview,
      version: packageVersion(),
      clients: {
        addressOf: (peer, forwardedFor) => proxied.of(peer, forwardedFor),
        isProxy: (peer) => proxied.isProxy(peer),
        networkOf: (address) => clientNetwork(address) ?? address,
      },
      random: randomBytes,
    },
    ready() {
      const why = o.notReady();
      return { ready: why === undefined, reasons: why === undefined ? [] : [why] };
    },
    log,
    clock,
    newRequestId: createRandomIds(),
  });
  const address = await admin.listen();
  onStop(() => admin.stop(0));
  return {
    address,
    async announce() {
      await root?.announce({ admin: address, token: holderToken }).catch((error: unknown) => {
        log.warn(
          { err: error },
          "commands on this machine need admin.token: the storage could not be told where to find Weir",
        );
      });
    },
  };
}

/** The clients' port. */
export interface OpenFront {
  /** With the port that was picked where the configuration says 0. */
  readonly address: ListenAddress;
  reloadTls(): Promise<void>;
}

/** @param onStopping called before it stops to listen */
export async function openFront(
  parts: Parts,
  savings: Pick<Savings, "served">,
  onStopping: () => void,
  onStop: OnStop,
): Promise<OpenFront> {
  const { config, clock, log, metrics, proxy, signIn, live } = parts;
  const { trustedProxies, accelRedirect } = config.server;
  const clients = new ClientAddresses(trustedProxies);
  const stayHere = compileNetworks(config.storage.s3?.redirectExcept ?? []);
  await signIn.open(config);
  const front = createFrontServer({
    config: config.server,
    limits: { ...config.limits, connections: await affordableConnections(config.limits.connections, log) },
    connectionClientOf: (address) => (clients.isProxy(address) ? undefined : (clientNetwork(address) ?? address)),
    proxy,
    clients: {
      addressOf: (peer, forwardedFor) => clients.of(peer, forwardedFor),
      admit: (client) => live().gate.admit(client),
      mayRedirect: (client) => client !== undefined && stayHere.find(client) === undefined,
      accelRedirect: (peer) => (accelRedirect !== undefined && clients.isProxy(peer) ? accelRedirect : undefined),
      rules: () => live().gate,
    },
    signIn,
    routes: () => live().routes,
    observer: countingSavings(metrics, savings),
    trails: parts.trails,
    budgetStatusOf: (upstream) => live().upstreams.get(upstream)?.config.budgetStatus ?? 503,
    log,
    clock,
    monotonicMs: () => performance.now(),
    newRequestId: createRandomIds(),
  });
  const { port } = await front.listen();
  metrics.serving();
  onStop(() => {
    onStopping();
    return front.stop(config.shutdown.graceMs);
  });
  return { address: { host: config.server.listen.host, port }, reloadTls: () => front.reloadTls() };
}

/** As many as are wanted, but not so many that nothing is left to open blobs, and connections of Weir's own, with. */
async function affordableConnections(wanted: number, log: Log): Promise<number> {
  const openFiles = await openFileLimit();
  const affordable = Math.min(wanted, Math.floor(openFiles / 2));
  if (affordable < wanted) {
    log.info(
      { openFiles, connections: affordable, wanted },
      "limits.connections is more than half of the files that this process may open: that half is what counts",
    );
  }
  return affordable;
}

/** Puts a changed configuration in force. The caller lets it watch. */
export function follow(parts: Parts, source: ConfigSource, onStop: OnStop, applied: () => void = () => {}): Reloader {
  const { config, clock, log, metrics, upstreams, signIn } = parts;
  const reloader = new Reloader(config, {
    source,
    apply(changed) {
      const next = createLive(changed);
      const changedSignIn = signIn.prepare(changed);
      const { putInForce, ...effect } = upstreams.prepare(changed.upstreams);
      // Nothing from here on can fail. The upstreams first: metrics take back what those that leave have reported.
      putInForce();
      parts.putLive(next);
      changedSignIn.putInForce();
      log.setLevel(changed.telemetry.logLevel);
      applied();
      return { upstreams: effect };
    },
    observer: metrics,
    clock,
    log,
  });
  onStop(() => reloader.stop());
  return reloader;
}

/** Counts what the cache saves, beside what is measured. */
function countingSavings(observer: HttpObserver, savings: Pick<Savings, "served">): HttpObserver {
  return {
    answered(request) {
      observer.answered(request);
      savings.served(request.upstream, request.repository, request);
    },
    denied: (reason) => observer.denied(reason),
    signInFailed: () => observer.signInFailed(),
    connectionOpened: () => observer.connectionOpened(),
    connectionClosed: () => observer.connectionClosed(),
    connectionEnded: (why) => observer.connectionEnded(why),
  };
}
