import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { ReloadObserver } from "../config/reloader.ts";
import type { AnsweredRequest, HttpObserver } from "../http/observer.ts";
import type { FillObserver } from "../proxy/fills.ts";
import type { ProxyObserver } from "../proxy/proxy.ts";
import type { BreakerChange, UpstreamExchange, UpstreamKind, UpstreamObserver } from "../upstream/upstream.ts";

export interface MetricsOptions {
  readonly version: string;
  /** Whether an upstream stands in the configuration; all others share the label `dynamic`, so that clients cannot make series. */
  isConfigured(upstream: string): boolean;
}

/** Everything that is counted, with the observers by which the parts report it. */
export interface Metrics extends HttpObserver, UpstreamObserver, FillObserver, ProxyObserver, ReloadObserver {
  /** The Prometheus text exposition. */
  expose(): Promise<{ readonly contentType: string; readonly body: string }>;
}

/** From a hit out of memory to the longest wait that a client endures for headers. Seconds. */
const FIRST_BYTE_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** From a manifest to a 15 GB blob on a slow line. Seconds. */
const DURATION_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];

const MS_PER_S = 1000;

/** A registry of its own: two in one process do not meet. */
export function createMetrics({ version, isConfigured }: MetricsOptions): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: "weir_" });
  const series = createSeries(registry);
  series.buildInfo.set({ version, node: process.version }, 1);
  series.reloadSuccess.set(1);

  const upstreamLabel = (upstream: string | undefined): string => {
    if (upstream === undefined) {
      return "none";
    }
    return isConfigured(upstream) ? upstream : "dynamic";
  };

  return {
    answered(request: AnsweredRequest): void {
      const { kind, cache } = request;
      const labels = { upstream: upstreamLabel(request.upstream), kind, cache };
      series.httpRequests.inc({ ...labels, method: methodLabel(request.method), code: request.status });
      series.httpDuration.observe(labels, request.totalMs / MS_PER_S);
      if (request.firstByteMs !== undefined) {
        series.httpFirstByte.observe(labels, request.firstByteMs / MS_PER_S);
      }
      series.httpBytes.inc(labels, request.bytesSent);
    },
    exchange(e: UpstreamExchange): void {
      const upstream = upstreamLabel(e.upstream);
      const { kind, fault } = e;
      series.upstreamRequests.inc({ upstream, kind, method: methodLabel(e.method), code: e.status ?? "none" });
      series.upstreamDuration.observe({ upstream, kind }, e.durationMs / MS_PER_S);
      if (fault !== undefined && fault !== "absent") {
        series.upstreamErrors.inc({ upstream, reason: fault });
      }
      if (kind === "token") {
        series.upstreamTokens.inc({ upstream, result: tokenResult(e) });
      }
    },
    received(upstream: string, kind: UpstreamKind, bytes: number): void {
      series.upstreamBytes.inc({ upstream: upstreamLabel(upstream), kind }, bytes);
    },
    breaker({ upstream, origin, role, open }: BreakerChange): void {
      if (!isConfigured(upstream)) {
        // Clients name these: a misspelt host that nobody asks for again would look like an outage for ever.
        return;
      }
      const labels = { upstream, origin: role === "blob" ? "blob" : origin };
      if (open) {
        series.breakersOpen.inc(labels);
      } else if (role === "realm") {
        // A registry may name realm after realm: only those that are open have a series.
        series.breakersOpen.remove(labels);
      } else {
        series.breakersOpen.dec(labels);
      }
    },
    fillStarted: () => series.fills.inc(),
    fillEnded: () => series.fills.dec(),
    readers: (count) => series.fillReaders.set(count),
    resumed: (upstream) => series.resumes.inc({ upstream: upstreamLabel(upstream) }),
    mismatch: (upstream) => series.mismatches.inc({ upstream: upstreamLabel(upstream) }),
    configReloaded: (inForce) => series.reloadSuccess.set(inForce ? 1 : 0),
    staleServed: (upstream, reason) => series.stale.inc({ upstream: upstreamLabel(upstream), reason }),
    async expose() {
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
  };
}

/** Methods are the client's words. */
function methodLabel(method: string): string {
  return method === "GET" || method === "HEAD" ? method : "other";
}

function tokenResult({ status, fault }: UpstreamExchange): string {
  if (fault === undefined && status === 200) {
    return "ok";
  }
  return status === 401 || status === 403 ? "refused" : "failed";
}

function createSeries(registry: Registry) {
  const registers = [registry];
  return {
    buildInfo: new Gauge({
      name: "weir_build_info",
      help: "Always 1; the labels say which version of Weir and of Node is running.",
      labelNames: ["version", "node"],
      registers,
    }),
    reloadSuccess: new Gauge({
      name: "weir_config_reload_success",
      help: "1 while the configuration as it stands is in force, 0 since the last reload was refused; the log says why.",
      registers,
    }),
    httpRequests: new Counter({
      name: "weir_http_requests_total",
      help: "Requests of clients that were answered, or that the client left (code 499). cache says where the answer came from.",
      labelNames: ["upstream", "kind", "method", "code", "cache"],
      registers,
    }),
    httpDuration: new Histogram({
      name: "weir_http_request_duration_seconds",
      help: "Time from a client's request to the last byte of its answer. For blobs this is mostly the client's own speed.",
      labelNames: ["upstream", "kind", "cache"],
      buckets: DURATION_BUCKETS,
      registers,
    }),
    httpFirstByte: new Histogram({
      name: "weir_http_first_byte_seconds",
      help: "Time from a client's request to the first byte of its answer's body (or its headers, where there is no body).",
      labelNames: ["upstream", "kind", "cache"],
      buckets: FIRST_BYTE_BUCKETS,
      registers,
    }),
    httpBytes: new Counter({
      name: "weir_http_response_bytes_total",
      help: "Bytes of bodies that clients took, without headers.",
      labelNames: ["upstream", "kind", "cache"],
      registers,
    }),
    upstreamRequests: new Counter({
      name: "weir_upstream_requests_total",
      help: "Requests sent to upstreams, redirects, retries and token requests included; code is none where no answer came.",
      labelNames: ["upstream", "kind", "method", "code"],
      registers,
    }),
    upstreamDuration: new Histogram({
      name: "weir_upstream_request_duration_seconds",
      help: "Time from sending a request to an upstream to the headers of its answer.",
      labelNames: ["upstream", "kind"],
      buckets: FIRST_BYTE_BUCKETS,
      registers,
    }),
    upstreamBytes: new Counter({
      name: "weir_upstream_received_bytes_total",
      help: "Bytes of bodies received from upstreams. Compare with weir_http_response_bytes_total to see what the cache saves.",
      labelNames: ["upstream", "kind"],
      registers,
    }),
    upstreamErrors: new Counter({
      name: "weir_upstream_errors_total",
      help: "Requests to upstreams that got no answer, or one that could not be used. What is plainly absent does not count.",
      labelNames: ["upstream", "reason"],
      registers,
    }),
    upstreamTokens: new Counter({
      name: "weir_upstream_token_requests_total",
      help: "Requests to token servers: ok, refused (401 or 403) or failed.",
      labelNames: ["upstream", "result"],
      registers,
    }),
    breakersOpen: new Gauge({
      name: "weir_upstream_breaker_open",
      help: "Origins of an upstream that are not asked because requests to them keep failing: 1 for the registry or a token realm, and under blob the number of hosts that blobs come from.",
      labelNames: ["upstream", "origin"],
      registers,
    }),
    resumes: new Counter({
      name: "weir_upstream_resumes_total",
      help: "Blob downloads that broke off or stalled and went on at the same place.",
      labelNames: ["upstream"],
      registers,
    }),
    mismatches: new Counter({
      name: "weir_upstream_digest_mismatches_total",
      help: "Blobs whose bytes did not hash to their digest. Every one is worth a look: an upstream or something on the way alters content.",
      labelNames: ["upstream"],
      registers,
    }),
    stale: new Counter({
      name: "weir_stale_served_total",
      help: "Answers that may have been out of date, given because the upstream was slow, in trouble, or had lost the thing.",
      labelNames: ["upstream", "reason"],
      registers,
    }),
    fills: new Gauge({
      name: "weir_fills_in_flight",
      help: "Blobs being downloaded from upstreams now.",
      registers,
    }),
    fillReaders: new Gauge({
      name: "weir_fill_readers",
      help: "Clients that are reading a blob while it is being downloaded.",
      registers,
    }),
  };
}
