import { AggregatorRegistry, type Gauge, Registry } from "prom-client";
import type { DenialReason } from "../access/denied-error.ts";
import type { PeerObserver, PeerResult } from "../cluster/peer-server.ts";
import type { ReloadObserver } from "../config/reloader.ts";
import type { AnsweredRequest, ConnectionEnd, HttpObserver, RequestKind } from "../http/observer.ts";
import type { CacheOutcome } from "../proxy/answers.ts";
import type { RoomObserver } from "../proxy/create-room.ts";
import type { FillObserver } from "../proxy/fills.ts";
import type { StaleReason } from "../proxy/freshness.ts";
import type { ProxyObserver } from "../proxy/proxy.ts";
import type { RoomUsage } from "../proxy/room.ts";
import type { EvictionReason } from "../proxy/room-eviction.ts";
import type { StateObserver } from "../state/redis-connection.ts";
import type { StorageObserver, StorageOperation } from "../storage/measured.ts";
import type { Waiting } from "../storage/tiered/upload-queue.ts";
import type { CredentialObserver } from "../upstream/credentials/pool.ts";
import type { QuotaObserver } from "../upstream/quota.ts";
import type { BreakerChange, UpstreamExchange, UpstreamKind, UpstreamObserver } from "../upstream/upstream.ts";
import { createBucketSeries, createRoomSeries, createSeries, createUploadSeries } from "./series.ts";
import { type Distribution, OneEach } from "./tallies.ts";

export interface MetricsOptions {
  readonly version: string;
  /** Whether an upstream stands in the configuration; all others share the label `dynamic`, so that clients cannot make series. */
  isConfigured(upstream: string): boolean;
}

/** What one process has counted; plain data, for {@link Metrics.expose} of another. */
export type MetricsSnapshot = readonly object[];

/**
 * What is left of processes that are gone, added up: what they counted stays counted, what they had under way is not there
 * any more.
 */
export async function countedBy(gone: readonly MetricsSnapshot[]): Promise<MetricsSnapshot> {
  const counted = gone.map((snapshot) =>
    snapshot.filter((metric) => "type" in metric && (metric.type === "counter" || metric.type === "histogram")),
  );
  return await AggregatorRegistry.aggregate(counted).getMetricsAsJSON();
}

/** Everything that is counted, with the observers by which the parts report it. */
export interface Metrics
  extends HttpObserver,
    UpstreamObserver,
    FillObserver,
    ProxyObserver,
    ReloadObserver,
    QuotaObserver,
    CredentialObserver,
    StateObserver,
    PeerObserver,
    StorageObserver,
    RoomObserver {
  /** These upstreams stand in the configuration now: what has not happened at them yet is counted as 0. */
  configured(upstreams: Iterable<string>): void;
  /** This process answers clients. */
  serving(): void;
  /** A worker of this process has ended. */
  workerEnded(): void;
  /** From now on tells what is held, as `usage` says whenever it is asked. */
  watchRoom(usage: () => RoomUsage): void;
  /** The same of the bucket behind a disk. */
  watchBucket(usage: () => RoomUsage): void;
  /** Reports what waits to be sent from the disk to the bucket, asked at each exposition. */
  watchUploads(waiting: () => Waiting): void;
  /** The Prometheus text exposition, with what other processes of the same Weir have counted added up. */
  expose(others?: readonly MetricsSnapshot[]): Promise<{ readonly contentType: string; readonly body: string }>;
  /** What this process has counted, for another to add up. */
  snapshot(): Promise<MetricsSnapshot>;
}

const MS_PER_S = 1000;

/** Stands where the others have a credential's label. */
const ANONYMOUS = "anonymous";

/**
 * What happens seldom is counted from 0 on: Prometheus sees how much a series has grown, and cannot see that of one whose
 * first sample is the first event already.
 */
const DENIED = namesOf<DenialReason>({
  address: 0,
  rule: 0,
  grant: 0,
  content: 0,
  platform: 0,
  frozen: 0,
  private: 0,
  budget: 0,
});
const CONNECTIONS_ENDED = namesOf<ConnectionEnd>({
  connections: 0,
  "connections-per-client": 0,
  "slow-request": 0,
  "large-headers": 0,
  malformed: 0,
  stalled: 0,
});
const STALE = namesOf<StaleReason>({
  "stale-if-error": 0,
  "soft-deadline": 0,
  gone: 0,
  credential: 0,
  "budget-low": 0,
  withheld: 0,
});
const EVICTED = namesOf<Exclude<EvictionReason, "dangling-link" | "left-over">>({
  age: 0,
  room: 0,
  "upstream-cap": 0,
  unreferenced: 0,
  emergency: 0,
  bucket: 0,
});
const PEER_RESULTS = namesOf<PeerResult>({
  served: 0,
  broken: 0,
  unknown: 0,
  starting: 0,
  refused: 0,
  taken: 0,
  lost: 0,
});
const STORAGE_OPERATIONS = namesOf<StorageOperation>({
  "blob-stat": 0,
  "blob-open": 0,
  "blob-read": 0,
  "blob-put": 0,
  "blob-ingest": 0,
  "blob-delete": 0,
  "blob-list": 0,
  "object-get": 0,
  "object-put": 0,
  "object-stat": 0,
  "object-delete": 0,
  "object-list": 0,
});

/** A registry of its own: two in one process do not meet. */
export function createMetrics({ version, isConfigured }: MetricsOptions): Metrics {
  const registry = new Registry();
  const series = createSeries(registry);
  series.buildInfo.set({ version, node: process.version }, 1);
  series.reloadSuccess.set(1);
  for (const reason of DENIED) series.denied.inc({ reason }, 0);
  for (const reason of CONNECTIONS_ENDED) series.connectionsEnded.inc({ reason }, 0);
  for (const reason of EVICTED) series.evictedBytes.inc({ reason }, 0);
  for (const result of PEER_RESULTS) series.peerStreams.inc({ result }, 0);
  for (const op of STORAGE_OPERATIONS) series.storageErrors.inc({ op }, 0);

  const upstreamLabel = (upstream: string | undefined): string => {
    if (upstream === undefined) {
      return "none";
    }
    return isConfigured(upstream) ? upstream : "dynamic";
  };
  const answers = new OneEach(
    (upstream: string) =>
      new OneEach(
        (kind: RequestKind) => new OneEach((cache: CacheOutcome) => answerTally(series, { upstream, kind, cache })),
      ),
  );
  const received = new OneEach(
    (upstream: string) => new OneEach((kind: UpstreamKind) => series.upstreamBytes.under({ upstream, kind })),
  );
  const storage = new OneEach((op: StorageOperation) => series.storageDuration.under({ op }));

  return {
    answered(request: AnsweredRequest): void {
      const upstream = upstreamLabel(request.upstream);
      answers.of(upstream).of(request.kind).of(request.cache).count(request);
      if (request.handOver !== undefined) {
        series.handOvers.inc({ result: request.handOver });
      }
      if (request.handOver === "done") {
        series.handedOverBytes.inc({ upstream }, request.bytesSent);
      }
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
      received.of(upstreamLabel(upstream)).of(kind).add(bytes);
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
    denied: (reason) => series.denied.inc({ reason }),
    signInFailed: () => series.signInFailures.inc(),
    connectionOpened: () => series.connections.inc(),
    connectionClosed: () => series.connections.dec(),
    connectionEnded: (reason) => series.connectionsEnded.inc({ reason }),
    stateAsked: (durationMs) => series.stateDuration.observe(durationMs / MS_PER_S),
    stateFailed: () => series.stateErrors.inc(),
    storageOperation: (op, durationMs) => storage.of(op).observe(durationMs / MS_PER_S),
    storageFailed: (op) => series.storageErrors.inc({ op }),
    peerStream: (result) => series.peerStreams.inc({ result }),
    configReloaded: (inForce) => series.reloadSuccess.set(inForce ? 1 : 0),
    quota(upstream, credential, limit): void {
      if (!isConfigured(upstream)) {
        // Clients name these: the last one asked for would stand for all of them.
        return;
      }
      const labels = { upstream, credential: credential ?? ANONYMOUS };
      setOrRemove(series.quotaLimit, labels, limit?.limit);
      setOrRemove(series.quotaRemaining, labels, limit?.remaining);
      setOrRemove(series.quotaWindow, labels, limit?.windowS);
    },
    rateLimited(upstream, credential, reason): void {
      series.rateLimited.inc({ upstream: upstreamLabel(upstream), credential: credential ?? ANONYMOUS, reason });
    },
    credentialParked(upstream, credential, parked): void {
      setOrRemove(series.credentialParked, { upstream, credential }, parked === undefined ? undefined : Number(parked));
    },
    credentialExpires(upstream, credential, atMs): void {
      setOrRemove(series.credentialExpiry, { upstream, credential }, atMs === undefined ? undefined : atMs / MS_PER_S);
    },
    staleServed: (upstream, reason) => series.stale.inc({ upstream: upstreamLabel(upstream), reason }),
    evicted: (reason, bytes) => series.evictedBytes.inc({ reason }, bytes),
    configured(upstreams): void {
      for (const upstream of upstreams) {
        series.mismatches.inc({ upstream }, 0);
        series.resumes.inc({ upstream }, 0);
        for (const reason of STALE) series.stale.inc({ upstream, reason }, 0);
      }
    },
    serving: () => series.workers.set(1),
    workerEnded: () => series.workersEnded.inc(),
    watchRoom: (usage) => createRoomSeries(registry, usage),
    watchBucket: (usage) => createBucketSeries(registry, usage),
    watchUploads: (waiting) => createUploadSeries(registry, waiting),
    async expose(others = []) {
      const { contentType } = registry;
      if (others.length === 0) {
        return { contentType, body: await registry.metrics() };
      }
      const all = AggregatorRegistry.aggregate([await registry.getMetricsAsJSON(), ...others]);
      return { contentType, body: await all.metrics() };
    },
    snapshot: () => registry.getMetricsAsJSON(),
  };
}

/** Takes the numbers of the answers of one kind, from one upstream, that the cache had the same part in. */
function answerTally(
  { httpRequests, httpDuration, httpFirstByte, httpBytes }: ReturnType<typeof createSeries>,
  labels: Readonly<Record<"upstream" | "kind" | "cache", string>>,
) {
  const requests = new OneEach(
    (method: MethodLabel) => new OneEach((code: number) => httpRequests.under({ ...labels, method, code })),
  );
  const duration = httpDuration.under(labels);
  const bytes = httpBytes.under(labels);
  let firstByte: Distribution | undefined;
  return {
    count({ method, status, firstByteMs, totalMs, bytesSent }: AnsweredRequest): void {
      requests.of(methodLabel(method)).of(status).add(1);
      duration.observe(totalMs / MS_PER_S);
      if (firstByteMs !== undefined) {
        firstByte ??= httpFirstByte.under(labels);
        firstByte.observe(firstByteMs / MS_PER_S);
      }
      bytes.add(bytesSent);
    },
  };
}

/** Every one of a closed set of names; the compiler sees to it that none is left out. */
function namesOf<N extends string>(names: Readonly<Record<N, 0>>): readonly N[] {
  return Object.keys(names) as N[];
}

/** What is not known, or not there any more, has no series. */
function setOrRemove<L extends string>(
  gauge: Gauge<L>,
  labels: Readonly<Record<L, string>>,
  value: number | undefined,
): void {
  if (value === undefined) {
    gauge.remove(labels);
  } else {
    gauge.set(labels, value);
  }
}

type MethodLabel = "GET" | "HEAD" | "other";

/** Methods are the client's words. */
function methodLabel(method: string): MethodLabel {
  return method === "GET" || method === "HEAD" ? method : "other";
}

function tokenResult({ status, fault }: UpstreamExchange): string {
  if (fault === undefined && status === 200) {
    return "ok";
  }
  return status === 401 || status === 403 ? "refused" : "failed";
}
