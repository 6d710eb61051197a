/**
 * Cold blobs: Weir beside a direct download and beside docker-registry in proxy mode, from one nginx origin, in one run.
 * `npm run bench:fill` (needs Debian's nginx and docker-registry; Weir is taken from dist/).
 *
 *   --size MiB     of the blob (256)
 *   --rounds N     counted rounds, interleaved (3)
 *   --rate MB/s    of each origin connection; 0 = as fast as it goes (200)
 *   --clients A,B  (1,50)
 */
import { mkdir, mkdtemp, readFile, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  cpuSeconds,
  download,
  median,
  printTable,
  processTree,
  spread,
  stopServer,
  writeRandomFile,
} from "./measure.ts";
import { type Peer, requirePrograms, startNginx, startRegistry, startWeir } from "./peers.ts";

const { values: flags } = parseArgs({
  options: {
    size: { type: "string", default: "256" },
    rounds: { type: "string", default: "3" },
    rate: { type: "string", default: "200" },
    clients: { type: "string", default: "1,50" },
  },
});
const size = Number(flags.size) * 1024 * 1024;
const rate = Number(flags.rate);
const rounds = Number(flags.rounds);
const programs = requirePrograms("nginx", "docker-registry");

const WARM_UPS = 12;

interface Origin extends Peer {
  /** Of the blob that is measured. */
  readonly path: string;
  /** Of small blobs, asked for before the measurement: code is compiled and connections are open, as in a server that has run for a minute. */
  readonly warmUpPaths: readonly string[];
  /** A line a request: the bytes of its body. */
  readonly log: string;
}

interface Subject {
  readonly name: string;
  /** Starts it with an empty cache; undefined where clients go to the origin. */
  start(): Promise<Peer | undefined>;
}

interface Result {
  readonly subject: string;
  readonly clients: number;
  readonly firstByteMs: number;
  readonly totalMs: number;
  readonly upstreamBytes: number;
  readonly cpuPerGb: number;
}

const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
let origin: Origin | undefined;
try {
  origin = await startOrigin();
  const { base } = origin;
  const subjects: Subject[] = [
    { name: "direct", start: async () => undefined },
    { name: "weir", start: () => startWeir(folder, base) },
    { name: "docker-registry proxy", start: () => startRegistry(folder, programs["docker-registry"], base) },
  ];
  const results: Result[] = [];
  for (const clients of flags.clients.split(",").map(Number)) {
    for (let round = 0; round < rounds; round += 1) {
      for (const subject of subjects) results.push(await measure(subject, clients, origin));
    }
  }
  report(results, subjects);
} finally {
  if (origin !== undefined) await stopServer(origin.child);
  await rm(folder, { recursive: true, force: true });
}

async function startOrigin(): Promise<Origin> {
  const root = join(folder, "content");
  await mkdir(root);
  const hex = await writeRandomFile(join(root, "blob"), size);
  const pathOf = (hash: string): string => `/v2/bench/blob/blobs/sha256:${hash}`;
  const location = (hash: string, file: string, limit: string): string =>
    `location = ${pathOf(hash)} { alias ${root}/${file}; ${limit} add_header Docker-Content-Digest sha256:${hash}; }`;
  const warmUps: { readonly path: string; readonly location: string }[] = [];
  for (let n = 0; n < WARM_UPS; n += 1) {
    const hash = await writeRandomFile(join(root, `warm-up-${n}`), 2 * 1024 * 1024);
    warmUps.push({ path: pathOf(hash), location: location(hash, `warm-up-${n}`, "") });
  }
  const log = join(folder, "origin.log");
  const peer = await startNginx(
    folder,
    programs.nginx,
    1,
    `log_format bytes '$body_bytes_sent'; default_type application/octet-stream;
     server {
       listen 127.0.0.1:PORT; access_log ${log} bytes;
       location = /v2/ { return 200 '{}'; }
       ${location(hex, "blob", rate > 0 ? `limit_rate ${rate}m;` : "")}
       ${warmUps.map((one) => one.location).join("\n       ")}
     }`,
  );
  return { ...peer, path: pathOf(hex), warmUpPaths: warmUps.map((one) => one.path), log };
}

async function measure(subject: Subject, clients: number, from: Origin): Promise<Result> {
  const peer = await subject.start();
  const { base } = peer ?? from;
  try {
    for (const path of from.warmUpPaths) await download(base + path);
    await truncate(from.log);
    const pids = peer?.child.pid === undefined ? [] : processTree(peer.child.pid);
    const cpuBefore = cpuSeconds(pids);
    const downloads = await Promise.all(Array.from({ length: clients }, () => download(base + from.path)));
    const cpu = cpuSeconds(pids) - cpuBefore;
    for (const { bytes } of downloads)
      if (bytes !== size) throw new Error(`${subject.name}: ${bytes} of ${size} bytes`);
    // docker-registry goes on downloading for its store when the client has its bytes; stopping it ends that.
    if (peer !== undefined) await stopServer(peer.child);
    const upstreamBytes = (await readFile(from.log, "utf8")).split("\n").reduce((sum, line) => sum + Number(line), 0);
    return {
      subject: subject.name,
      clients,
      firstByteMs: median(downloads.map((one) => one.firstByteMs)),
      totalMs: Math.max(...downloads.map((one) => one.totalMs)),
      upstreamBytes,
      cpuPerGb: cpu / ((clients * size) / 1e9),
    };
  } finally {
    if (peer !== undefined) await stopServer(peer.child);
  }
}

function report(results: readonly Result[], subjects: readonly Subject[]): void {
  const speed = rate > 0 ? `${rate} MB/s a connection` : "full speed";
  console.log(
    `\ncold blob of ${flags.size} MiB, origin at ${speed}, median (spread) of ${rounds} interleaved rounds\n`,
  );
  const rows: string[][] = [];
  for (const clients of new Set(results.map((one) => one.clients))) {
    const of = (name: string) => results.filter((one) => one.subject === name && one.clients === clients);
    const direct = median(of("direct").map((one) => one.totalMs));
    for (const { name } of subjects) {
      const mine = of(name);
      const first = mine.map((one) => one.firstByteMs);
      const total = mine.map((one) => one.totalMs);
      rows.push([
        String(clients),
        name,
        `${median(first).toFixed(1)} (${spread(first)})`,
        `${median(total).toFixed(0)} (${spread(total)})`,
        `${(median(total) / direct).toFixed(2)}x`,
        `${(median(mine.map((one) => one.upstreamBytes)) / size).toFixed(2)}x`,
        name === "direct" ? "-" : median(mine.map((one) => one.cpuPerGb)).toFixed(2),
      ]);
    }
  }
  printTable(["clients", "through", "first byte ms", "total ms", "vs direct", "upstream bytes", "CPU s/GB"], rows);
}
