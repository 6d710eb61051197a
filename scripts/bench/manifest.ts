/**
 * Held manifests: Weir beside docker-registry (plain and proxy) and nginx proxy_cache, on one machine, in one run.
 * `npm run bench:manifest` (needs Debian's wrk, nginx and docker-registry; Weir is taken from dist/).
 *
 *   --rounds N      counted rounds, interleaved (5)
 *   --seconds N     of each measurement (2)
 *   --clients A,B   connections (8,64)
 *   --log LEVEL     of Weir (warn: no access log)
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { push, smallImage } from "../../test/support/images.ts";
import { cpuSeconds, median, printTable, processTree, spread, stopServer } from "./measure.ts";
import { type Peer, requirePrograms, startNginx, startRegistry, startWeir } from "./peers.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
    clients: { type: "string", default: "8,64" },
    log: { type: "string", default: "warn" },
  },
});
const programs = requirePrograms("wrk", "nginx", "docker-registry");
const run = promisify(execFile);

/** docker-registry answers 404 for an OCI manifest to those who do not name its type. */
const ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

interface Subject {
  readonly name: string;
  readonly peer: Peer;
  readonly path: string;
}

interface Result {
  readonly subject: string;
  readonly clients: number;
  readonly perSecond: number;
  readonly p99Ms: number;
  /** Of the server's processes. */
  readonly cpuSecondsPerThousand: number;
}

const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
const peers: Peer[] = [];
const start = async (peer: Promise<Peer>): Promise<Peer> => {
  peers.push(await peer);
  return peer;
};
try {
  const image = smallImage("bench");
  const origin = await start(startRegistry(folder, programs["docker-registry"]));
  await push(origin.base, "library/bench", "1", image);
  const weir = await start(startWeir(folder, origin.base, { logLevel: flags.log }));
  const proxy = await start(startRegistry(folder, programs["docker-registry"], origin.base));
  const nginx = await start(
    startNginx(
      folder,
      programs.nginx,
      2,
      `proxy_cache_path ${folder}/cache keys_zone=manifests:1m;
       server { listen 127.0.0.1:PORT;
         location /v2/ { proxy_pass ${origin.base}; proxy_cache manifests; proxy_cache_valid 200 10m; } }`,
    ),
  );
  const tag = "/v2/library/bench/manifests/1";
  const digest = `/v2/library/bench/manifests/${image.root.digest}`;
  const subjects: Subject[] = [
    { name: "weir by tag", peer: weir, path: tag },
    { name: "weir by digest", peer: weir, path: digest },
    { name: "nginx proxy_cache by tag", peer: nginx, path: tag },
    { name: "docker-registry by tag", peer: origin, path: tag },
    { name: "docker-registry proxy by tag", peer: proxy, path: tag },
    { name: "docker-registry proxy by digest", peer: proxy, path: digest },
  ];
  for (const subject of subjects) await measure(subject, 8, 1);
  const results: Result[] = [];
  for (const clients of flags.clients.split(",").map(Number)) {
    for (let round = 0; round < Number(flags.rounds); round += 1) {
      for (const subject of subjects) results.push(await measure(subject, clients, Number(flags.seconds)));
    }
  }
  report(results, subjects);
} finally {
  for (const peer of peers.reverse()) await stopServer(peer.child);
  await rm(folder, { recursive: true, force: true });
}

async function measure({ name, peer, path }: Subject, clients: number, seconds: number): Promise<Result> {
  const pids = peer.child.pid === undefined ? [] : processTree(peer.child.pid);
  const cpuBefore = cpuSeconds(pids);
  const load = ["-t1", `-c${clients}`, `-d${seconds}s`, "--latency", "-H", `Accept: ${ACCEPT}`, peer.base + path];
  const { stdout } = await run(programs.wrk, load);
  const cpu = cpuSeconds(pids) - cpuBefore;
  if (stdout.includes("Non-2xx")) throw new Error(`${name} refused requests:\n${stdout}`);
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  const [, p99 = "", unit = ""] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? [];
  return {
    subject: name,
    clients,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p99Ms: Number(p99) * ({ us: 0.001, ms: 1, s: 1000 }[unit] ?? Number.NaN),
    cpuSecondsPerThousand: cpu / (requests / 1000),
  };
}

function report(results: readonly Result[], subjects: readonly Subject[]): void {
  console.log(`\nheld manifest, median (spread) of ${flags.rounds} interleaved rounds of ${flags.seconds} s\n`);
  const rows: string[][] = [];
  for (const clients of new Set(results.map((one) => one.clients))) {
    const of = (name: string) => results.filter((one) => one.subject === name && one.clients === clients);
    const weir = median(of("weir by tag").map((one) => one.perSecond));
    for (const { name } of subjects) {
      const mine = of(name);
      const perSecond = mine.map((one) => one.perSecond);
      rows.push([
        String(clients),
        name,
        `${median(perSecond).toFixed(0)} (${spread(perSecond)})`,
        `${(weir / median(perSecond)).toFixed(2)}x`,
        median(mine.map((one) => one.p99Ms)).toFixed(2),
        median(mine.map((one) => one.cpuSecondsPerThousand)).toFixed(3),
      ]);
    }
  }
  printTable(["clients", "server", "requests/s", "weir by tag is", "p99 ms", "CPU s/1,000"], rows);
}
