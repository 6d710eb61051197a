import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { LimitsConfig, ListenAddress, ServerConfig } from "../config/types.ts";
import type { PullThrough } from "../proxy/answers.ts";
import { createApp } from "./app.ts";
import type { ClientGate } from "./clients.ts";
import { createListener, LISTENER_TIMEOUTS, type ListenerTimeouts } from "./listener.ts";
import type { HttpObserver, RequestTrails } from "./observer.ts";
import type { RouteTable } from "./route.ts";
import type { SignInSource } from "./sign-in.ts";
import { pollTlsFiles, type WatchTlsFiles } from "./tls.ts";

export interface FrontServerDeps {
  readonly config: Pick<ServerConfig, "listen" | "tls">;
  readonly limits: Pick<LimitsConfig, "requestHeaders" | "connections" | "connectionsPerClient">;
  /** As `ConnectionLimits.clientOf`. */
  connectionClientOf(address: string): string | undefined;
  readonly proxy: PullThrough;
  readonly clients: ClientGate;
  readonly signIn: SignInSource;
  /** The names in force; asked for each request, so that a reload counts at once. */
  routes(): RouteTable;
  readonly observer: HttpObserver;
  readonly trails: RequestTrails;
  /** The status that a request with `ns` gets when the upstream's quota is spent. */
  budgetStatusOf(upstream: string): 429 | 503;
  readonly log: Log;
  readonly clock: Clock;
  /** Milliseconds that only ever grow, with fractions; as `performance.now`. */
  monotonicMs(): number;
  /** Letters, digits, `.`, `_` and `-`, 64 at most. */
  newRequestId(): string;
  readonly timeouts?: ListenerTimeouts;
  readonly watchTlsFiles?: WatchTlsFiles;
}

/** The port that clients pull from. */
export interface FrontServer {
  /** Rejects when the address cannot be had or the TLS files cannot be used. */
  listen(): Promise<ListenAddress>;
  /** Takes the certificate and key from their files again; a pair that cannot be used leaves the old one in force and is logged. */
  reloadTls(): Promise<void>;
  /**
   * Takes no new connections, lets answers under way finish for `graceMs` milliseconds, then resets them. Resolves when no
   * request is being handled any more.
   */
  stop(graceMs: number): Promise<void>;
}

/** How often the TLS files are looked at; certificates are replaced long before they expire. */
const TLS_POLL_MS = 10_000;

export function createFrontServer(deps: FrontServerDeps): FrontServer {
  const { config, limits, log, clock, newRequestId } = deps;
  const timeouts = deps.timeouts ?? LISTENER_TIMEOUTS;
  const listener = createListener({
    listen: config.listen,
    tls: config.tls,
    watchTlsFiles: deps.watchTlsFiles ?? pollTlsFiles(TLS_POLL_MS),
    maxHeaderBytes: limits.requestHeaders,
    timeouts,
    connections: {
      total: limits.connections,
      perClient: limits.connectionsPerClient,
      clientOf: deps.connectionClientOf,
    },
    observer: deps.observer,
    newRequestId,
    clock,
    log,
  });
  const handler = createApp({
    proxy: deps.proxy,
    clients: deps.clients,
    signIn: deps.signIn,
    routes: deps.routes,
    observer: deps.observer,
    trails: deps.trails,
    log,
    clock,
    budgetStatusOf: deps.budgetStatusOf,
    newRequestId,
    monotonicMs: deps.monotonicMs,
    keepAliveMs: timeouts.keepAliveMs,
    closing: () => listener.stopping,
    reset: (req, cause) => listener.reset(req, cause),
  });
  return {
    listen: () => listener.listen(handler),
    reloadTls: () => listener.reloadTls(),
    stop: (graceMs) => listener.stop(graceMs),
  };
}
