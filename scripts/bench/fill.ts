/**
 * Cold blobs: Weir beside a direct download and beside docker-registry in proxy mode, from one nginx origin, in one run.
 * `npm run bench:fill` (needs Debian's nginx and docker-registry; builds are taken from dist/).
 *
 *   --size MiB     of the blob (256)
 *   --rounds N     counted rounds, interleaved (3)
 *   --rate MB/s    of each origin connection; 0 = as fast as it goes (200)
 *   --clients A,B  (1,50)
 */
import type { ChildProcess } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  cpuSeconds,
  type Download,
  download,
  findProgram,
  freePort,
  median,
  printTable,
  processTree,
  spread,
  startServer,
  stopServer,
  writeRandomFile,
} from "./measure.ts";

const { values: flags } = parseArgs({
  options: {
    size: { type: "string", default: "256" },
    rounds: { type: "string", default: "3" },
    rate: { type: "string", default: "200" },
    clients: { type: "string", default: "1,50" },
  },
});
const size = Number(flags.size) * 1024 * 1024;
const rounds = Number(flags.rounds);

interface Subject {
  readonly name: string;
  /** Starts it with an empty cache; undefined for the direct download. */
  start(): Promise<{ base: string; child: ChildProcess | undefined }>;
}

interface Result {
  readonly subject: string;
  readonly clients: number;
  readonly firstByteMs: number;
  readonly totalMs: number;
  readonly upstreamBytes: number;
  readonly cpuPerGb: number;
}

const nginx = findProgram("nginx");
const registry = findProgram("docker-registry");
if (nginx === undefined || registry === undefined) {
  console.error("bench:fill needs nginx and docker-registry (Debian packages nginx-light, docker-registry)");
  process.exit(1);
}

const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
const children: ChildProcess[] = [];
try {
  const origin = await startOrigin();
  const subjects: Subject[] = [
    { name: "direct", start: async () => ({ base: origin.url, child: undefined }) },
    { name: "weir", start: () => startWeir(origin.url) },
    { name: "docker-registry proxy", start: () => startRegistry(origin.url) },
  ];
  const results: Result[] = [];
  for (const clients of flags.clients.split(",").map(Number)) {
    for (let round = 0; round < rounds; round += 1) {
      for (const subject of subjects) results.push(await measure(subject, clients, origin));
    }
  }
  report(results, subjects);
} finally {
  for (const child of children) await stopServer(child);
  await rm(folder, { recursive: true, force: true });
}

interface Origin {
  readonly url: string;
  /** Of the blob that is measured. */
  readonly path: string;
  /** Of a small blob, asked for before the measurement: code is compiled and connections are open. */
  readonly warmUpPath: string;
  readonly log: string;
}

async function startOrigin(): Promise<Origin> {
  const root = join(folder, "origin");
  await mkdir(join(root, "v2/bench/blob/blobs"), { recursive: true });
  await writeFile(join(root, "v2/index.html"), "{}");
  const hex = await writeRandomFile(join(root, "blob"), size);
  const path = `/v2/bench/blob/blobs/sha256:${hex}`;
  const warmUpHex = await writeRandomFile(join(root, "warm-up"), 4 * 1024 * 1024);
  const warmUpPath = `/v2/bench/blob/blobs/sha256:${warmUpHex}`;
  const port = await freePort();
  const log = join(folder, "origin.log");
  const rate = Number(flags.rate) > 0 ? `limit_rate ${Number(flags.rate)}m;` : "";
  // Started by root, its workers would be somebody else, who may not look into the temporary folder.
  const user = process.getuid?.() === 0 ? "user root;" : "";
  await writeFile(
    join(folder, "nginx.conf"),
    `${user} worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.err;
     events { worker_connections 1024; }
     http {
       log_format bytes '$request_method $body_bytes_sent'; access_log ${log} bytes;
       client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2; fastcgi_temp_path ${folder}/t3;
       uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
       sendfile on;
       server {
         listen 127.0.0.1:${port};
         location = /v2/ { default_type application/json; return 200 '{}'; }
         location = ${path} { default_type application/octet-stream; ${rate} alias ${root}/blob;
           add_header Docker-Content-Digest sha256:${hex}; }
         location = ${warmUpPath} { default_type application/octet-stream; alias ${root}/warm-up;
           add_header Docker-Content-Digest sha256:${warmUpHex}; }
       }
     }`,
  );
  const url = `http://127.0.0.1:${port}`;
  children.push(await startServer(nginx as string, ["-c", join(folder, "nginx.conf"), "-p", folder], `${url}/v2/`));
  return { url, path, warmUpPath, log };
}

async function startWeir(origin: string): Promise<{ base: string; child: ChildProcess }> {
  const root = await mkdtemp(join(folder, "weir-"));
  const [port, admin] = [await freePort(), await freePort()];
  const file = join(root, "weir.json");
  await writeFile(
    file,
    JSON.stringify({
      server: { listen: `127.0.0.1:${port}` },
      admin: { listen: `127.0.0.1:${admin}` },
      routing: { default: "origin.test" },
      upstreams: { "origin.test": { type: "generic", endpoints: [origin] } },
      storage: { driver: "filesystem", filesystem: { root: join(root, "data") } },
      telemetry: { logLevel: "warn" },
    }),
  );
  const main = new URL("../../dist/main.js", import.meta.url).pathname;
  const child = await startServer(
    process.execPath,
    [main, "serve", "--config", file],
    `http://127.0.0.1:${admin}/readyz`,
  );
  return { base: `http://127.0.0.1:${port}`, child };
}

async function startRegistry(origin: string): Promise<{ base: string; child: ChildProcess }> {
  const root = await mkdtemp(join(folder, "registry-"));
  const port = await freePort();
  const file = join(root, "config.yml");
  await writeFile(
    file,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ${root}/data}}
http: {addr: "127.0.0.1:${port}"}
proxy: {remoteurl: "${origin}"}
`,
  );
  const base = `http://127.0.0.1:${port}`;
  return { base, child: await startServer(registry as string, ["serve", file], `${base}/v2/`) };
}

async function measure(subject: Subject, clients: number, origin: Origin): Promise<Result> {
  const { base, child } = await subject.start();
  try {
    await download(base + origin.warmUpPath);
    await truncate(origin.log);
    const pids = child?.pid === undefined ? [] : processTree(child.pid);
    const cpuBefore = cpuSeconds(pids);
    const downloads = await Promise.all(Array.from({ length: clients }, () => download(base + origin.path)));
    const cpu = cpuSeconds(pids) - cpuBefore;
    for (const one of downloads)
      if (one.bytes !== size) throw new Error(`${subject.name}: ${one.bytes} of ${size} bytes`);
    // docker-registry goes on downloading for its store after the client has been served; what it asks for counts.
    if (child !== undefined) await stopServer(child);
    const log = (await readFile(origin.log, "utf8")).trim().split("\n");
    const upstreamBytes = log.reduce((sum, line) => sum + Number(line.split(" ")[1] ?? 0), 0);
    const slowest = (pick: (d: Download) => number) => Math.max(...downloads.map(pick));
    return {
      subject: subject.name,
      clients,
      firstByteMs: median(downloads.map((d) => d.firstByteMs)),
      totalMs: slowest((d) => d.totalMs),
      upstreamBytes,
      cpuPerGb: cpu / ((clients * size) / 1e9),
    };
  } finally {
    if (child !== undefined) await stopServer(child);
  }
}

function report(results: readonly Result[], subjects: readonly Subject[]): void {
  console.log(
    `\ncold blob of ${flags.size} MiB, origin nginx at ${Number(flags.rate) > 0 ? `${flags.rate} MB/s a connection` : "full speed"}, median of ${rounds} interleaved rounds\n`,
  );
  const rows: string[][] = [];
  for (const clients of new Set(results.map((r) => r.clients))) {
    const of = (name: string) => results.filter((r) => r.subject === name && r.clients === clients);
    const direct = median(of("direct").map((r) => r.totalMs));
    for (const { name } of subjects) {
      const mine = of(name);
      const total = mine.map((r) => r.totalMs);
      rows.push([
        String(clients),
        name,
        `${median(mine.map((r) => r.firstByteMs)).toFixed(1)} (${spread(mine.map((r) => r.firstByteMs))})`,
        `${median(total).toFixed(0)} (${spread(total)})`,
        `${(median(total) / direct).toFixed(2)}x`,
        `${(median(mine.map((r) => r.upstreamBytes)) / size).toFixed(2)}x`,
        name === "direct" ? "-" : median(mine.map((r) => r.cpuPerGb)).toFixed(2),
      ]);
    }
  }
  printTable(["clients", "through", "first byte ms", "total ms", "vs direct", "upstream bytes", "CPU s/GB"], rows);
}
