import type { Metric } from "./result.ts";

/** What is to be reached. The figure is a ratio, a difference or the value itself, of medians. */
export interface Aim {
  /** The case's name. */
  readonly of: string;
  readonly load: string;
  readonly server: string;
  /** Another way to run it, which counts where it does better: as the peers are configured either way, it may be, too. */
  readonly or?: string;
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
  ...rate("accel", "weir behind nginx", "GB/s", NGINX, { "1 client": 0.95, "8 clients": 0.95, "64 clients": 0.95 }).map(
    (aim) => ({ ...aim, or: "weir behind nginx, tcp_nopush" }),
  ),
];

/**
 * Why an aim is not reached, with what the profile shows, by case: what {@link AIMS} ask for and this machine or Node does not give. It
 * is told only while the case has an aim that is not met.
 */
export const REASONS: Readonly<Record<string, string>> = {
  "blob-large":
    "With one client, a bare Node server that writes the same 2 MiB out of memory again and again reached 1.44 times nginx here, and one that reads the file ahead in " +
    "another thread, as Weir does, 1.02 to 1.08. Waking the client is 16 % of a worker's samples, copying out of the page cache and to the socket 12 % each. Three threads " +
    "then share two cores, so single rounds lie far apart. With 64 clients both workers and the client share them, and the registry's rate is as far from one round to the next.",
  "blobs-64k":
    "Two workers of a bare Node cluster that writes 64 KiB out of memory reached 0.73 and 0.74 times nginx with 8 and 64 clients in one run, 0.78 and 0.87 in another: " +
    "the kernel copies what nginx hands to `sendfile`, and Node's parser and streams are most of the rest. One buffer for head and body took 28 us where two take 31, at " +
    "twice the memory: not done.",
  manifests:
    "Side by side in one process, a hit costs 20.4 us where a bare `http.createServer` that writes the same answer out of memory costs 21.4, and one that " +
    "writes to its socket 16.6. Of the samples the kernel has 42 %, Node's C++ 23 %, V8's builtins 12 %, Node's JavaScript 6 %, Weir's 6 %, the collector 6 %: " +
    "what is left is reading and writing sockets and Node's parser. The registry's ratios follow from that.",
  "cold-1g":
    "SHA-256, which nginx does not do, is 16 % of the samples, in a thread of its own; the kernel has 40 %, copies from one buffer to the next 8 %, V8's collector and compiler " +
    "threads 11 %, and the rest of the main thread Node, which receives, sends and writes in pieces. Weir, its upstream and its client share two cores.",
  "cold-image": "As for `cold-1g`.",
  herd:
    "The 50 clients take 13.4 GB together. Of a held blob two workers gave 64 clients 6.2 GB/s (`blob-large`): 2.2 s are the least for them, and half of what nginx takes " +
    "is less. Of the samples the kernel has 60 % (copying to sockets 15 %, out of files 8 %, wakeups 7 %), SHA-256 4 %, V8's threads 10 %: the second worker receives the blob " +
    "from the first, and hashes and writes it as well. Larger blocks for readers, and reads of the spool shared among them, made no difference that could be told from noise.",
  "herd-limited":
    "As for `herd`: 50 clients that take 13.4 GB keep two cores busy for longer than the upstream takes to send it once.",
  instruments:
    "With every request traced, the SDK's serialising for OTLP is 44 % of what telling a hit costs, the collector 9 %, attributes 9 %, making the span 8 %; a request that is not " +
    "sampled costs 0.8 us, a line in the log 0.8 us, of some 20. The rows with 1 % and with the log alone show what a usual configuration costs.",
  accel:
    "The blob's bytes are nginx's own work in both rows; what is added is one request to Weir and one more pair of wakeups for each hand-over, and these loads are " +
    "cut off after a second at most.",
};
