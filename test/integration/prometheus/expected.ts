/**
 * What every query of every panel and rule is worth after a load, worked out from the load: from what clients asked and
 * upstreams were asked. Weir's own numbers have no part in it.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { residentBytes } from "../../support/processes.ts";
import type { Asked, Exchanged, Load, Round } from "./load.ts";
import { LIMIT_BYTES } from "./load.ts";

/** From `least` to `most`. */
export interface Between {
  readonly least: number;
  readonly most: number;
}

/** What one series is worth. */
export type Worth = number | Between;

/** By {@link keyOf} of the labels. What is worth 0 may be left out, there and here. */
export type Expected = ReadonlyMap<string, Worth>;

/** In the place of labels: what series are worth that are not named. */
export const OTHERS = "*";

/** The labels in the order of their names. */
export function keyOf(labels: Readonly<Record<string, string>>): string {
  const { __name__: _, ...rest } = labels;
  return Object.entries(rest)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");
}

export interface Measured {
  readonly load: Load;
  readonly round: Round;
  /** Of the measured round, seconds. */
  readonly lasted: number;
  /** Seconds since the epoch. */
  readonly startedS: number;
  readonly nowS: number;
  /** As Prometheus has it. */
  readonly instance: string;
}

const HELD = new Set(["hit", "collapsed", "revalidated", "stale", "negative"]);

function isContent({ kind }: { readonly kind: string }): boolean {
  return kind === "manifest" || kind === "blob";
}

function sum<T>(all: readonly T[], value: (one: T) => number): number {
  return all.reduce((total, one) => total + value(one), 0);
}

/** Added up by the labels that `labels` gives. */
function by<T>(
  all: readonly T[],
  labels: (one: T) => Readonly<Record<string, string>>,
  value: (one: T) => number = () => 1,
): Map<string, number> {
  const added = new Map<string, number>();
  for (const one of all) {
    const key = keyOf(labels(one));
    added.set(key, (added.get(key) ?? 0) + value(one));
  }
  return added;
}

function one(worth: Worth, labels: Readonly<Record<string, string>> = {}): Expected {
  return new Map([[keyOf(labels), worth]]);
}

function each(values: Iterable<readonly [string, number]>, make: (value: number) => Worth): Expected {
  return new Map([...values].map(([key, value]) => [key, make(value)]));
}

function tallied(
  values: Readonly<Record<string, number>>,
  more: Readonly<Record<string, string>> = {},
): Map<string, number> {
  return new Map(Object.entries(values).map(([upstream, value]) => [keyOf({ upstream, ...more }), value]));
}

/** Why an exchange counts as an error. A first question that is answered by a challenge does not. */
function faultOf({ upstream, method, code, authorization }: Exchanged): string | undefined {
  if (code === 429) return "quota";
  if (code >= 500) return "status";
  if (code !== 401) return undefined;
  if (authorization !== "none") return authorization === "basic" ? "credential" : "denied";
  // Whether a repository is public is asked without the credential.
  return method === "HEAD" && upstream === "private.example" ? "denied" : undefined;
}

/** By dashboard, panel and query: `weir-overview/Error ratio/A`. */
export function expectedOfPanels(m: Measured): ReadonlyMap<string, Expected> {
  const { load, round, lasted, instance, nowS } = m;
  const { asked, exchanged } = round;
  const content = asked.filter((ask) => isContent(ask) && ask.cache !== "none");
  const held = content.filter(({ cache }) => HELD.has(cache));
  const bytesOf = ({ bytes }: { readonly bytes: number }): number => bytes;
  const hitRequests = held.length / content.length;
  const hitBytes = sum(held, bytesOf) / sum(content, bytesOf);
  const sent = sum(asked.filter(isContent), bytesOf);
  const bodies = exchanged.filter(({ bytes }) => bytes > 0);
  const received = sum(bodies.filter(isContent), bytesOf);
  const errors = asked.filter(({ code }) => code >= 500);
  const perSecond = (values: Iterable<readonly [string, number]>): Expected => each(values, (value) => value / lasted);
  const whole = (values: Iterable<readonly [string, number]>): Expected => each(values, (value) => value);
  const outcome = ({ cache }: Asked) => ({ cache });
  const answersOf = by(asked, outcome);
  const within = (keys: Iterable<string>, least: number, most: number): Expected =>
    new Map([...keys].map((key) => [key, { least, most }]));
  const faults = exchanged.flatMap((exchange) => {
    const reason = faultOf(exchange);
    return reason === undefined ? [] : [{ upstream: exchange.upstream, reason }];
  });
  const limited = exchanged.filter(({ code }) => code === 429);
  const refusals = by(limited, ({ upstream }) => ({ upstream, credential: "anonymous", reason: "quota" }));
  const quotas = [
    { upstream: "docker.io", double: load.hub },
    { upstream: "limited.example", double: load.limited },
  ].map(({ upstream, double }) => ({
    key: keyOf({ upstream, credential: "anonymous" }),
    left: double.quota?.remaining ?? Number.NaN,
    limit: double.quota?.limit ?? Number.NaN,
    pulls: exchanged.filter(
      (e) => e.upstream === upstream && e.kind === "manifest" && e.method === "GET" && e.code === 200,
    ).length,
  }));
  const folder = join(load.weir.root, "docker/registry/v2/blobs");
  const du = Number(spawnSync("du", ["-s", "-B1", folder], { encoding: "utf8" }).stdout.split("\t")[0]);
  const blobs = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("/data"));
  const occupied = sum(blobs, (name) => occupiedBytes(join(folder, name)) + occupiedBytes(join(folder, dirname(name))));
  const blobHits = asked.filter(({ kind, cache }) => kind === "blob" && cache === "hit").length;
  const at = { instance };
  const nearly = (value: number, part: number): Between => ({ least: value * (1 - part), most: value * (1 + part) });
  const proc = processOf(load.weir.process.pid);
  const tokens = exchanged.filter(({ kind }) => kind === "token");
  const asks = by(exchanged, ({ upstream, kind, method }) => ({ upstream, kind, method }));
  return new Map<string, Expected>([
    ["weir-overview/Hit ratio by requests/A", one(hitRequests)],
    ["weir-overview/Hit ratio by bytes/A", one(hitBytes)],
    ["weir-overview/Upstream bytes saved/A", one(sent - received)],
    ["weir-overview/Error ratio/A", one(errors.length / asked.length)],
    ["weir-overview/Requests by outcome/A", perSecond(answersOf)],
    [
      "weir-overview/Errors by status/A",
      perSecond(
        by(
          asked.filter(({ code }) => code >= 400),
          ({ kind, code }) => ({ kind, code: String(code) }),
        ),
      ),
    ],
    ["weir-overview/Hit ratio/A", one(hitRequests)],
    ["weir-overview/Hit ratio/B", one(hitBytes)],
    ["weir-overview/Bytes/A", one(sum(asked, bytesOf) / lasted)],
    ["weir-overview/Bytes/B", one(sum(bodies, bytesOf) / lasted)],
    ["weir-overview/First byte by outcome/A", within(answersOf.keys(), 0.000_01, 10)],
    ["weir-overview/First byte by outcome/B", within(answersOf.keys(), 0.000_01, 10)],
    ["weir-overview/Total time by outcome/A", within(answersOf.keys(), 0.000_01, 10)],
    ["weir-overview/Total time by outcome/B", within(answersOf.keys(), 0.000_01, 10)],
    ["weir-overview/Refused requests/A", one(round.denied / lasted, { reason: "content" })],
    ["weir-overview/Failed sign-ins/A", one(round.signInsFailed / lasted)],
    // The test's own, of which some are kept open.
    ["weir-overview/Connections of clients/A", one({ least: 0, most: 100 }, at)],
    ["weir-overview/Connections ended/A", one(round.malformed / lasted, { reason: "malformed" })],
    ["weir-overview/Configuration in force/A", one(1, at)],

    ["weir-upstreams/Breakers open/A", one(1, { upstream: "broken.example", origin: load.broken.url })],
    ["weir-upstreams/Quota left/A", new Map(quotas.map(({ key, left, limit }) => [key, left / limit]))],
    [
      "weir-upstreams/Hours until the quota is spent/A",
      new Map(quotas.flatMap(({ key, left, pulls }) => (pulls === 0 ? [] : [[key, left / (pulls / 24)]]))),
    ],
    ["weir-upstreams/Parked credentials/A", one(1, { upstream: "private.example", credential: "ci" })],
    // No credential here is exchanged for a password that ends.
    ["weir-upstreams/Credential expires in/A", new Map()],
    ["weir-upstreams/Digest mismatches/A", whole(tallied(round.mismatches))],
    ["weir-upstreams/Resumed downloads/A", whole(tallied(round.resumes))],
    ["weir-upstreams/Refused for too many requests/A", whole(refusals)],
    ["weir-upstreams/Quota left, pulls/A", new Map(quotas.map(({ key, left }) => [key, left]))],
    ["weir-upstreams/Quota left, pulls/B", new Map(quotas.map(({ key, limit }) => [key, limit]))],
    ["weir-upstreams/Requests to upstreams/A", perSecond(asks)],
    ["weir-upstreams/429 answers/A", perSecond(refusals)],
    [
      "weir-upstreams/Token requests/A",
      perSecond(by(tokens, ({ upstream, code }) => ({ upstream, result: code === 200 ? "ok" : "refused" }))),
    ],
    ["weir-upstreams/Errors by reason/A", perSecond(by(faults, (fault) => fault))],
    [
      "weir-upstreams/Answers of upstreams/A",
      within(by(exchanged, ({ upstream }) => ({ upstream })).keys(), 0.000_01, 10),
    ],
    [
      "weir-upstreams/Answers of upstreams/B",
      within(by(exchanged, ({ upstream }) => ({ upstream })).keys(), 0.000_01, 10),
    ],
    [
      "weir-upstreams/Bytes from upstreams/A",
      perSecond(by(bodies, ({ upstream, kind }) => ({ upstream, kind }), bytesOf)),
    ],
    ["weir-upstreams/Stale answers/A", perSecond(tallied(round.stale, { reason: "stale-if-error" }))],

    ["weir-storage/Storage used/A", one({ least: occupied / LIMIT_BYTES, most: du / LIMIT_BYTES }, at)],
    ["weir-storage/Blobs held/A", one(blobs.length, at)],
    ["weir-storage/Workers/A", one(1, at)],
    ["weir-storage/Workers that ended/A", one(0, at)],
    // The folders that blobs share are looked at once a minute.
    ["weir-storage/Size against limit/A", one({ least: occupied, most: du }, at)],
    ["weir-storage/Size against limit/B", one(LIMIT_BYTES, at)],
    ["weir-storage/Evictions by reason/A", one(round.evictedBytes / lasted, { reason: "upstream-cap" })],
    ["weir-storage/Downloads under way/A", one(0)],
    ["weir-storage/Downloads under way/B", one(0)],
    ["weir-storage/Storage errors/A", new Map()],
    [
      "weir-storage/Storage operations/A",
      new Map<string, Worth>([
        [keyOf({ op: "blob-put" }), round.manifestsKept / lasted],
        [keyOf({ op: "blob-ingest" }), round.blobsKept / lasted],
        [keyOf({ op: "blob-open" }), { least: blobHits / lasted, most: Number.POSITIVE_INFINITY }],
        [OTHERS, { least: 0, most: Number.POSITIVE_INFINITY }],
      ]),
    ],
    [
      "weir-storage/Storage latency/A",
      new Map<string, Worth>([
        ...within(
          ["blob-put", "blob-ingest", "blob-open"].map((op) => keyOf({ op })),
          0.000_001,
          10,
        ),
        [OTHERS, { least: 0, most: 10 }],
      ]),
    ],
    // Nothing is in front of a bucket here.
    ["weir-storage/Waiting for the bucket/A", new Map()],
    ["weir-storage/Bucket against limit/A", new Map()],
    ["weir-storage/Bucket against limit/B", new Map()],
    ["weir-storage/Redis errors/A", one(0)],
    ["weir-storage/Redis latency/A", one({ least: 0.000_01, most: 0.25 }, at)],
    ["weir-storage/Redis latency/B", one({ least: 0.000_01, most: 0.25 }, at)],
    ["weir-storage/Streams between processes/A", one(round.peersRefused / lasted, { result: "refused" })],

    ["weir-process/Version/A", one(1, { version: proc.version, node: process.version })],
    ["weir-process/Up for/A", one(nearly(nowS - m.startedS, 0.2), at)],
    ["weir-process/Restarts/A", one(0, at)],
    ["weir-process/Processor/A", one({ least: 0.001, most: 4 }, at)],
    ["weir-process/Memory/A", one(nearly(proc.residentBytes, 0.5), at)],
    ["weir-process/Memory/B", one({ least: 5e6, most: proc.residentBytes }, at)],
    ["weir-process/Memory/C", one({ least: 1e5, most: proc.residentBytes }, at)],
    ["weir-process/Event loop/A", one({ least: 0.000_1, most: 5 }, at)],
    ["weir-process/Event loop/B", one({ least: 0.000_1, most: 5 }, at)],
    ["weir-process/Open files/A", one(nearly(proc.openFiles / proc.maxFiles, 0.5), at)],
    ["weir-process/Garbage collection/A", new Map([[OTHERS, { least: 0, most: 1 }]])],
    [
      "weir-process/Handles/A",
      new Map<string, Worth>([
        // For clients, for operators, for other members.
        [keyOf({ ...at, type: "TCPServerWrap" }), 3],
        [OTHERS, { least: 0, most: 200 }],
      ]),
    ],
  ]);
}

/** By the name of the alert; those that do not fire have none. */
export function expectedOfRules(m: Measured): ReadonlyMap<string, Expected> {
  const { load, round, lasted } = m;
  const { asked } = round;
  const job = { job: "weir" };
  const content = asked.filter((ask) => isContent(ask) && ask.cache !== "none");
  const held = content.filter(({ cache }) => HELD.has(cache));
  const bytesOf = ({ bytes }: Asked): number => bytes;
  const errors = asked.filter(({ code }) => code >= 500).length / asked.length;
  const left = (upstream: string, { quota }: Load["hub"]): readonly [string, number] => [
    keyOf({ ...job, upstream, credential: "anonymous" }),
    (quota?.remaining ?? Number.NaN) / (quota?.limit ?? Number.NaN),
  ];
  const quotas = [left("docker.io", load.hub), left("limited.example", load.limited)];
  return new Map<string, Expected>([
    ["job:weir_http_requests:rate5m", one(asked.length / lasted, job)],
    ["job:weir_http_errors:ratio5m", one(errors, job)],
    ["job:weir_content_requests:rate1h", one(content.length / lasted, job)],
    ["job:weir_hits:ratio1h", one(held.length / content.length, job)],
    ["job:weir_hit_bytes:ratio1h", one(sum(held, bytesOf) / sum(content, bytesOf), job)],
    ["job_upstream_credential:weir_quota_left:ratio", new Map(quotas)],
    ["WeirDown", new Map()],
    ["WeirRestarting", new Map()],
    ["WeirErrorRatio", one(errors, job)],
    ["WeirNoHits", new Map()],
    ["WeirQuotaNearlySpent", new Map(quotas.filter(([, ratio]) => ratio < 0.1))],
    ["WeirBreakerOpen", one(1, { ...job, upstream: "broken.example", origin: load.broken.url })],
    ["WeirServingStale", each(tallied(round.stale, job), (value) => value)],
    ["WeirCredentialRefused", one(1, { ...job, upstream: "private.example", credential: "ci" })],
    ["WeirCredentialExpiring", new Map()],
    ["WeirDigestMismatch", each(tallied(round.mismatches, job), (value) => value)],
    ["WeirStorageNearlyFull", new Map()],
    ["WeirDiskFull", new Map()],
    ["WeirBucketNearlyFull", new Map()],
    ["WeirSignInsFail", new Map()],
    ["WeirFetchBudgetSpent", new Map()],
    ["WeirConnectionsRefused", new Map()],
    ["WeirStorageTrouble", new Map()],
    ["WeirRedisTrouble", new Map()],
    ["WeirConfigurationRefused", new Map()],
  ]);
}

function occupiedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

function processOf(pid: number) {
  const version: string = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")).version;
  const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
  return {
    version,
    residentBytes: residentBytes(pid),
    openFiles: readdirSync(`/proc/${pid}/fd`).length,
    maxFiles: Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1]),
  };
}
