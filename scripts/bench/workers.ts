/**
 * One process beside `server.workers`: held manifests, held blobs of 64 KiB and 128 MiB, and cold blobs, on one machine, in
 * one run. `npm run bench:workers` (needs Debian's wrk and docker-registry; Weir is taken from dist/).
 *
 *   --rounds N      counted rounds, interleaved (5)
 *   --seconds N     of each measurement of hits (3)
 *   --clients N     connections (32)
 *   --cold N        cold blobs of 64 KiB in each round (200)
 *   --large MIB     size of the large blob (128)
 *   --workers A,B   beside the single process (1,2)
 */
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { type Content, push, smallImage } from "../../test/support/images.ts";
import { cpuSeconds, download, median, printTable, processTree, spread, stopServer } from "./measure.ts";
import { type Peer, requirePrograms, startRegistry, startWeir } from "./peers.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    clients: { type: "string", default: "32" },
    cold: { type: "string", default: "200" },
    large: { type: "string", default: "128" },
    workers: { type: "string", default: "1,2" },
  },
});
const [rounds, seconds, clients, cold] = [flags.rounds, flags.seconds, flags.clients, flags.cold].map(Number) as [
  number,
  number,
  number,
  number,
];
const programs = requirePrograms("wrk", "docker-registry");
const run = promisify(execFile);

const KiB = 1024;
const MiB = 1024 * KiB;
const SMALL_BYTES = 64 * KiB;
/** docker-registry answers 404 for an OCI manifest to those who do not name its type. */
const ACCEPT = "application/vnd.oci.image.manifest.v1+json";
const REPOSITORY = "library/bench";

interface Subject {
  readonly name: string;
  readonly peer: Peer;
}

interface Result {
  readonly what: string;
  readonly subject: string;
  readonly perSecond: number;
  readonly bytesPerSecond: number;
  /** Of the server's processes, for each second that passed. */
  readonly cpus: number;
}

const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
const peers: Peer[] = [];
const start = async (peer: Promise<Peer>): Promise<Peer> => {
  peers.push(await peer);
  return peer;
};
try {
  const image = smallImage("bench");
  const small = blobOf(SMALL_BYTES);
  const large = blobOf(Number(flags.large) * MiB);
  const coldBlobs = Array.from({ length: cold * (rounds + 1) }, () => blobOf(SMALL_BYTES));
  const origin = await start(startRegistry(folder, programs["docker-registry"]));
  await push(origin.base, REPOSITORY, "1", { ...image, blobs: [...image.blobs, small, large, ...coldBlobs] });
  const subjects: Subject[] = [{ name: "single process", peer: await start(startWeir(folder, origin.base)) }];
  for (const workers of flags.workers.split(",").map(Number)) {
    const peer = await start(startWeir(folder, origin.base, { workers }));
    subjects.push({ name: `workers ${workers}`, peer });
  }
  const hits = [
    { what: "manifest by tag", path: `/v2/${REPOSITORY}/manifests/1`, connections: clients },
    { what: "blob of 64 KiB", path: blobPath(small), connections: clients },
    { what: `blob of ${flags.large} MiB`, path: blobPath(large), connections: Math.min(8, clients) },
  ];
  for (const { peer } of subjects) {
    await answering(peer);
    for (const { path } of hits) await download(peer.base + path);
  }
  const results: Result[] = [];
  // The round before the first warms up.
  for (let round = 0; round <= rounds; round += 1) {
    const batch = coldBlobs.slice(round * cold, (round + 1) * cold).map(blobPath);
    for (const hit of hits) {
      for (const subject of subjects) keep(round, await measureHits(subject, hit));
    }
    for (const subject of subjects) keep(round, await measureMisses(subject, batch));
  }
  report(results, subjects);

  function keep(round: number, result: Result): void {
    if (round > 0) results.push(result);
  }
} finally {
  for (const peer of peers.reverse()) await stopServer(peer.child);
  await rm(folder, { recursive: true, force: true });
}

/** The admin listener of several workers answers, with 503, before any of them does. */
async function answering({ base }: Peer): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    if (
      await fetch(`${base}/v2/`).then(
        ({ ok }) => ok,
        () => false,
      )
    )
      return;
    await delay(50);
  }
  throw new Error(`nobody answers at ${base}`);
}

function blobOf(size: number): Content {
  const bytes = randomBytes(size);
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  return { mediaType: "application/octet-stream", digest, bytes };
}

function blobPath({ digest }: Content): string {
  return `/v2/${REPOSITORY}/blobs/${digest}`;
}

async function measureHits(
  { name, peer }: Subject,
  { what, path, connections }: { readonly what: string; readonly path: string; readonly connections: number },
): Promise<Result> {
  const cpu = cpuOf(peer);
  const load = ["-t1", `-c${connections}`, `-d${seconds}s`, "-H", `Accept: ${ACCEPT}`, peer.base + path];
  const { stdout } = await run(programs.wrk, load);
  const used = cpu();
  if (stdout.includes("Non-2xx")) throw new Error(`${name} refused requests:\n${stdout}`);
  const [, amount = "", unit = ""] = /Transfer\/sec:\s+([\d.]+)([KMG]?)B/.exec(stdout) ?? [];
  return {
    what,
    subject: name,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    bytesPerSecond: Number(amount) * ({ K: KiB, M: MiB, G: 1024 * MiB }[unit] ?? 1),
    cpus: used.cpus,
  };
}

async function measureMisses({ name, peer }: Subject, paths: readonly string[]): Promise<Result> {
  const left = [...paths];
  const cpu = cpuOf(peer);
  const client = async (): Promise<void> => {
    for (let path = left.pop(); path !== undefined; path = left.pop()) await download(peer.base + path);
  };
  await Promise.all(Array.from({ length: clients }, client));
  const used = cpu();
  const perSecond = paths.length / used.seconds;
  return {
    what: "cold blob of 64 KiB",
    subject: name,
    perSecond,
    bytesPerSecond: perSecond * SMALL_BYTES,
    cpus: used.cpus,
  };
}

/** Begins to look at what the peer's processes use; gives what it was since. */
function cpuOf({ child }: Peer): () => { readonly seconds: number; readonly cpus: number } {
  const pids = child.pid === undefined ? [] : processTree(child.pid);
  const [before, beganMs] = [cpuSeconds(pids), performance.now()];
  return () => {
    const passed = (performance.now() - beganMs) / 1000;
    return { seconds: passed, cpus: (cpuSeconds(pids) - before) / passed };
  };
}

function report(results: readonly Result[], subjects: readonly Subject[]): void {
  const [cpu] = cpus();
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  console.log(`\n${cpu?.model ?? "unknown processor"}, ${availableParallelism()} cores, ${memory}, Linux ${release()}`);
  console.log(`median (spread) of ${rounds} interleaved rounds, ${clients} clients on the same machine\n`);
  const rows: string[][] = [];
  for (const what of new Set(results.map((one) => one.what))) {
    const of = (name: string) => results.filter((one) => one.subject === name && one.what === what);
    const single = median(of("single process").map((one) => one.perSecond));
    for (const { name } of subjects) {
      const mine = of(name);
      const perSecond = mine.map((one) => one.perSecond);
      rows.push([
        what,
        name,
        `${median(perSecond).toFixed(1)} (${spread(perSecond)})`,
        `${(median(perSecond) / single).toFixed(2)}x`,
        (median(mine.map((one) => one.bytesPerSecond)) / 1e9).toFixed(3),
        median(mine.map((one) => one.cpus)).toFixed(2),
      ]);
    }
  }
  printTable(["what", "server", "requests/s", "of single", "GB/s", "CPUs"], rows);
}
