import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from "prom-client";
import type { RoomUsage } from "../proxy/room.ts";
import type { Waiting } from "../storage/tiered/upload-queue.ts";
import { TalliedCounter, TalliedHistogram } from "./tallies.ts";

/** From a hit out of memory to the longest wait that a client endures for headers. Seconds. */
const FIRST_BYTE_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** From a manifest to a 15 GB blob on a slow line. Seconds. */
const DURATION_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];

/** From a file in the page cache to a bucket that has been asked several times. Seconds. */
const STORAGE_BUCKETS = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30];

/** Up to the 250 ms after which Redis counts as absent. Seconds. */
const STATE_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25];

const MS_PER_S = 1000;

/** Everything that is counted, by name: what the number means, in which labels, and what several processes make of it. */
export function createSeries(registry: Registry) {
  createProcessSeries(registry);
  const registers = [registry];
  return {
    buildInfo: new Gauge({
      name: "weir_build_info",
      aggregator: "first",
      help: "Always 1; the labels say which version of Weir and of Node is running.",
      labelNames: ["version", "node"],
      registers,
    }),
    reloadSuccess: new Gauge({
      name: "weir_config_reload_success",
      aggregator: "min",
      help: "1 while the configuration as it stands is in force, 0 since the last reload was refused; the log says why.",
      registers,
    }),
    httpRequests: new TalliedCounter({
      name: "weir_http_requests_total",
      help: "Requests of clients that were answered, or that the client left (code 499). cache says where the answer came from.",
      labelNames: ["upstream", "kind", "method", "code", "cache"],
      registers,
    }),
    httpDuration: new TalliedHistogram({
      name: "weir_http_request_duration_seconds",
      help: "Time from a client's request to the last byte of its answer. For blobs this is mostly the client's own speed.",
      labelNames: ["upstream", "kind", "cache"],
      buckets: DURATION_BUCKETS,
      registers,
    }),
    httpFirstByte: new TalliedHistogram({
      name: "weir_http_first_byte_seconds",
      help: "Time from a client's request to the first byte of its answer's body (or its headers, where there is no body).",
      labelNames: ["upstream", "kind", "cache"],
      buckets: FIRST_BYTE_BUCKETS,
      registers,
    }),
    httpBytes: new TalliedCounter({
      name: "weir_http_response_bytes_total",
      help: "Bytes of bodies that clients took, without headers; those that were handed over to a web server in front count as taken.",
      labelNames: ["upstream", "kind", "cache"],
      registers,
    }),
    handOvers: new Counter({
      name: "weir_http_hand_overs_total",
      help: "Blobs that a web server in front was told to send by itself (server.accelRedirect): done, or returned where it could not read the file, which was evicted in between or is not open to it.",
      labelNames: ["result"],
      registers,
    }),
    handedOverBytes: new Counter({
      name: "weir_http_handed_over_bytes_total",
      help: "Of weir_http_response_bytes_total, the bytes that a web server in front sends by itself (server.accelRedirect). How many of them clients take is not known here.",
      labelNames: ["upstream"],
      registers,
    }),
    connections: new Gauge({
      name: "weir_http_connections",
      help: "Clients' connections that are open; limits.connections is how many each process may have.",
      registers,
    }),
    connectionsEnded: new Counter({
      name: "weir_http_connections_ended_total",
      help: "Clients' connections that were not taken, or ended: connections and connections-per-client (limits of these names; an idle one made room, or the newcomer was reset), slow-request, large-headers (limits.requestHeaders), malformed (not HTTP), stalled (the client took nothing of its answer).",
      labelNames: ["reason"],
      registers,
    }),
    signInFailures: new Counter({
      name: "weir_auth_failures_total",
      help: "Requests that came with a password, token or the like that is wrong; those that came with none are no failures, and nor are tokens that have run out.",
      registers,
    }),
    denied: new Counter({
      name: "weir_access_denied_total",
      help: "Requests answered 401, 403 or 429: address (access.allow and deny, admin.allow), rule (access.rules), grant (the client's token grants less), content, platform, frozen (the upstream's allow and deny, platforms, frozen), private (not public at its registry), budget (access.fetchBudget).",
      labelNames: ["reason"],
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
    upstreamBytes: new TalliedCounter({
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
    quotaLimit: new Gauge({
      name: "weir_upstream_ratelimit_limit",
      aggregator: "max",
      help: "What an upstream allows a credential (anonymous: requests without one) in a window, as it said last. No series where it says nothing.",
      labelNames: ["upstream", "credential"],
      registers,
    }),
    quotaRemaining: new Gauge({
      name: "weir_upstream_ratelimit_remaining",
      aggregator: "min",
      help: "What is left of weir_upstream_ratelimit_limit, as the upstream said last; 0 after it has refused for want of quota.",
      labelNames: ["upstream", "credential"],
      registers,
    }),
    quotaWindow: new Gauge({
      name: "weir_upstream_ratelimit_window_seconds",
      aggregator: "max",
      help: "The window that weir_upstream_ratelimit_limit is for. No series where the upstream does not say.",
      labelNames: ["upstream", "credential"],
      registers,
    }),
    credentialParked: new Gauge({
      name: "weir_upstream_credential_parked",
      aggregator: "max",
      help: "1 while a credential that the upstream has refused is kept from it. Correct the credential: nothing else ends this for good.",
      labelNames: ["upstream", "credential"],
      registers,
    }),
    credentialExpiry: new Gauge({
      name: "weir_upstream_credential_expiry_timestamp_seconds",
      aggregator: "min",
      help: "When the password or token that a credential stands for now ends. It is renewed long before; a time that is near means that this fails.",
      labelNames: ["upstream", "credential"],
      registers,
    }),
    rateLimited: new Counter({
      name: "weir_upstream_ratelimited_total",
      help: "Requests that an upstream has answered 429: quota (the allowance is spent) or abuse (too many requests, whatever they ask for).",
      labelNames: ["upstream", "credential", "reason"],
      registers,
    }),
    breakersOpen: new Gauge({
      name: "weir_upstream_breaker_open",
      aggregator: "max",
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
    stateErrors: new Counter({
      name: "weir_state_errors_total",
      help: "Questions to Redis that failed or were not answered in 250 ms. Nothing is lost by it; upstreams are asked more often.",
      registers,
    }),
    stateDuration: new Histogram({
      name: "weir_state_operation_duration_seconds",
      help: "Time that Redis took for an answer, to the millisecond. Above 250 ms it counts as absent.",
      buckets: STATE_BUCKETS,
      registers,
    }),
    storageDuration: new TalliedHistogram({
      name: "weir_storage_operation_duration_seconds",
      help: "Time that the disk or bucket took, repeated attempts included, whether or not it failed. Reading a body and listing are not in it: they take as long as whoever wants them.",
      labelNames: ["op"],
      buckets: STORAGE_BUCKETS,
      registers,
    }),
    storageErrors: new Counter({
      name: "weir_storage_errors_total",
      help: "What the disk or bucket could not do. Clients still get their blobs from upstreams; what is held, or kept, may be missing.",
      labelNames: ["op"],
      registers,
    }),
    peerStreams: new Counter({
      name: "weir_peer_streams_total",
      help: "Blobs streamed between replicas: served or broken off here, taken or lost there, unknown where nothing was arriving, starting where the upstream had yet to answer, refused where the request was not signed by one of us.",
      labelNames: ["result"],
      registers,
    }),
    evictedBytes: new Counter({
      name: "weir_storage_evicted_bytes_total",
      help: "Bytes given back by deleting blobs: room (least recently used, above storage.highWater), upstream-cap, age (storage.maxAge), unreferenced, emergency (the disk was full), or bucket (from the bucket behind a disk, for whatever reason).",
      labelNames: ["reason"],
      registers,
    }),
    workers: new Gauge({
      name: "weir_workers",
      help: "Processes that answer clients; server.workers where all is well.",
      registers,
    }),
    workersEnded: new Counter({
      name: "weir_workers_ended_total",
      help: "Worker processes that have ended, and in whose place others were started. Never other than 0 but for trouble or a stop.",
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

/** Read when they are asked for: what is held changes with every blob. */
export function createRoomSeries(registry: Registry, usage: () => RoomUsage): void {
  const registers = [registry];
  const gauge = (name: string, help: string, read: (usage: RoomUsage) => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read(usage()));
      },
    });
  };
  gauge(
    "weir_storage_bytes",
    "Bytes of the blobs that are held, on a disk as du counts them; after a start what was known of them, until they have been counted. Of a bucket all Weirs that use it tell the same.",
    ({ bytes }) => bytes,
  );
  gauge("weir_storage_blobs", "Blobs that are held, manifests among them.", ({ blobs }) => blobs);
  gauge(
    "weir_storage_limit_bytes",
    "storage.maxSize, with the driver s3 storage.s3.maxSize; infinite where there is no limit.",
    ({ limitBytes = Number.POSITIVE_INFINITY }) => limitBytes,
  );
}

/** The bucket behind a disk. */
export function createBucketSeries(registry: Registry, usage: () => RoomUsage): void {
  const registers = [registry];
  new Gauge({
    name: "weir_storage_bucket_bytes",
    help: "Bytes of the blobs in the bucket behind the disk, as whoever looks after it has counted them; NaN until somebody has (storage.driver tiered).",
    registers,
    collect() {
      const { bytes, counting } = usage();
      this.set(counting && bytes === 0 ? Number.NaN : bytes);
    },
  });
  new Gauge({
    name: "weir_storage_bucket_limit_bytes",
    help: "storage.s3.maxSize; infinite where there is no limit (storage.driver tiered).",
    registers,
    collect() {
      this.set(usage().limitBytes ?? Number.POSITIVE_INFINITY);
    },
  });
}

/** What a disk in front of a bucket has, and the bucket not yet. */
export function createUploadSeries(registry: Registry, waiting: () => Waiting): void {
  const registers = [registry];
  new Gauge({
    name: "weir_storage_upload_queue_entries",
    help: "Blobs, links and records that are on the disk and wait to be sent to S3 (storage.driver tiered).",
    registers,
    collect() {
      this.set(waiting().entries);
    },
  });
  new Gauge({
    name: "weir_storage_upload_queue_bytes",
    help: "Bytes of the blobs that are on the disk and wait to be sent to S3 (storage.driver tiered).",
    registers,
    collect() {
      this.set(waiting().bytes);
    },
  });
}

/** Of prom-client's own, these count what is there now under a name that stands for what only grows. */
const MISNAMED = ["resources", "handles", "requests"].map((what) => `weir_nodejs_active_${what}_total`);

/** What prom-client knows of a process. */
function createProcessSeries(registry: Registry): void {
  collectDefaultMetrics({ register: registry, prefix: "weir_" });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  // prom-client's own says nothing once several processes are added up.
  const started = "weir_process_start_time_seconds";
  registry.removeSingleMetric(started);
  new Gauge({
    name: started,
    aggregator: "min",
    help: "When the process started, in seconds since the epoch; of several workers, when their parent did.",
    registers: [registry],
  }).set(performance.timeOrigin / MS_PER_S);
}
