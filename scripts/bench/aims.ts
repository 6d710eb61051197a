import type { Metric } from "./result.ts";

/** What is to be reached. The figure is a ratio, a difference or the value itself, of medians. */
export interface Aim {
  /** The case's name. */
  readonly of: string;
  readonly load: string;
  readonly server: string;
  readonly metric: Metric;
  /** With what it is compared: the best of these that was measured. Nothing: the value itself is the figure. */
  readonly beside?: readonly string[];
  /** Where that was measured under another load. */
  readonly besideLoad?: string;
  /** How it is compared; `ratio` if left out. */
  readonly as?: "ratio" | "difference";
  readonly atLeast?: number;
  readonly atMost?: number;
}

const TWO = "weir, 2 workers";
const ONE = "weir, 1 worker";
const NGINX = ["nginx", "nginx, tcp_nopush"];
const REGISTRY = ["docker-registry, proxy"];
const CACHE = ["nginx, proxy_cache"];

/** A held blob's or manifest's rate beside the peers'. */
function rate(
  of: string,
  server: string,
  metric: Metric,
  beside: readonly string[],
  byLoad: Readonly<Record<string, number>>,
): Aim[] {
  return Object.entries(byLoad).map(([load, atLeast]) => ({ of, load, server, metric, beside, atLeast }));
}

/** Everything that is aimed at. The order is the one in which it is told of. */
export const AIMS: readonly Aim[] = [
  ...rate("blob-large", TWO, "GB/s", NGINX, { "1 client": 1.5, "8 clients": 1, "64 clients": 1.05 }),
  ...rate("blob-large", TWO, "GB/s", REGISTRY, { "1 client": 1.7, "8 clients": 1.7, "64 clients": 3 }),
  ...rate("blob-large", ONE, "GB/s", NGINX, { "1 client": 1.5, "8 clients": 0.7, "64 clients": 0.5 }),
  ...rate("blobs-128m", TWO, "GB/s", NGINX, { "8 clients": 0.9, "64 clients": 0.6 }),
  ...rate("blobs-64k", TWO, "requests/s", NGINX, { "8 clients": 0.7, "64 clients": 0.6 }),
  ...rate("blobs-64k", TWO, "requests/s", REGISTRY, { "8 clients": 60, "64 clients": 60 }),
  ...rate("manifests", `${TWO}, by tag`, "requests/s", NGINX, { "64 clients": 0.95 }),
  ...rate("manifests", `${TWO}, by tag`, "requests/s", ["docker-registry, proxy, by tag"], { "64 clients": 300 }),
  ...rate("manifests", `${TWO}, by digest`, "requests/s", ["docker-registry, proxy, by digest"], { "64 clients": 70 }),
  ...rate("manifests", `${ONE}, by tag`, "requests/s", NGINX, { "8 clients": 0.65 }),
  { of: "cold-1g", load: "1 client", server: TWO, metric: "client s", beside: CACHE, atMost: 1.2 },
  { of: "cold-1g", load: "1 client", server: TWO, metric: "client s", beside: REGISTRY, atMost: 1.3 },
  { of: "cold-1g", load: "1 client", server: TWO, metric: "durable s", beside: REGISTRY, atMost: 0.4 },
  { of: "cold-1g", load: "1 client", server: TWO, metric: "upstream bytes", atMost: 1 },
  { of: "cold-image", load: "3 clients", server: TWO, metric: "client s", beside: REGISTRY, atMost: 0.6 },
  { of: "cold-image", load: "3 clients", server: TWO, metric: "client s", beside: CACHE, atMost: 1.35 },
  { of: "herd", load: "50 clients", server: TWO, metric: "upstream GETs", atMost: 1 },
  { of: "herd", load: "50 clients", server: TWO, metric: "client s", beside: CACHE, atMost: 0.5 },
  { of: "herd", load: "50 clients", server: TWO, metric: "client s", beside: REGISTRY, atMost: 0.3 },
  { of: "herd-limited", load: "50 clients", server: TWO, metric: "upstream GETs", atMost: 1 },
  {
    of: "herd-limited",
    load: "50 clients",
    server: TWO,
    metric: "client s",
    beside: ["direct"],
    besideLoad: "1 client",
    atMost: 1.15,
  },
  {
    of: "first-byte",
    load: "1 client",
    server: TWO,
    metric: "first byte ms",
    beside: ["direct"],
    as: "difference",
    atMost: 5,
  },
  { of: "slow-clients", load: "64 clients", server: ONE, metric: "peak MiB", atMost: 200 },
  { of: "slow-clients", load: "64 clients", server: ONE, metric: "descriptors left", atMost: 0 },
  { of: "start", load: "idle", server: "1 worker", metric: "listening ms", atMost: 250 },
  { of: "start", load: "idle", server: "1 worker", metric: "idle MiB", atMost: 90 },
  ...rate("instruments", "access log and traces, all", "requests/s", ["all off"], { "64 clients": 0.85 }),
  ...rate("accel", "weir behind nginx", "GB/s", NGINX, { "1 client": 0.95, "8 clients": 0.95, "64 clients": 0.95 }),
];

/**
 * Why an aim is not reached, with what the profile shows, by case: what {@link AIMS} ask for and this machine or Node does not give. It
 * is told only while the case has an aim that is not met.
 */
export const REASONS: Readonly<Record<string, string>> = {};
