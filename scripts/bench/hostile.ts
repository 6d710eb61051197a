/**
 * What others notice of hostile clients: held manifests, fetched over kept connections, before and while somebody holds
 * connections open, sends headers a byte at a time or without an end, or takes nothing of what was asked for.
 * `npm run bench:hostile` (needs Debian's wrk; Weir is taken from dist/). All of it on loopback; the hostile have addresses of their own.
 *
 *   --rounds N      counted rounds, each attack with a measurement before it (3)
 *   --seconds N     of each measurement (5)
 *   --clients N     connections of those who are measured (8)
 *   --only NAME     one attack
 */
import { execFile, fork } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { median, spread } from "./figures.ts";
import { cpuSeconds, download, printTable, stopServer } from "./measure.ts";
import { type Peer, requirePrograms, startWeir } from "./peers.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "5" },
    clients: { type: "string", default: "8" },
    only: { type: "string" },
    /** Port of the one attacked: makes this process the attacker. */
    attack: { type: "string" },
    path: { type: "string", default: "" },
  },
});

const IDLE_CONNECTIONS = 10_000;
const SLOW_CONNECTIONS = 2_000;
const SLOW_BYTE_MS = 1_000;
const ENDLESS_CONNECTIONS = 16;
const STALLED_CONNECTIONS = 200;

/** Connections begun at once: a listener's queue is not endless. */
const BATCH = 100;

/** Until what was asked for fills the buffers on the way to those who do not take it, milliseconds. */
const SETTLE_MS = 5_000;

/** Of the hostile: so many addresses, so that no limit on one of them does the work. */
const ADDRESSES = 20;

const BLOB = Buffer.alloc(16 * 1024 * 1024, "weir");
const CONFIG = Buffer.from("{}");
const digestOf = (bytes: Buffer): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(CONFIG), size: CONFIG.length },
    layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar", digest: digestOf(BLOB), size: BLOB.length }],
  }),
);
const MANIFEST_PATH = `/v2/library/bench/manifests/${digestOf(MANIFEST)}`;
const BLOB_PATH = `/v2/library/bench/blobs/${digestOf(BLOB)}`;

/** By name: resolves when everything is begun, and goes on until the process ends. */
const ATTACKS: Readonly<Record<string, (port: number, path: string) => Promise<void>>> = {
  "10,000 idle connections": (port) => many(IDLE_CONNECTIONS, (n) => hold(port, n)),
  "2,000 slow headers": (port) => many(SLOW_CONNECTIONS, (n) => dribble(port, n)),
  "16 endless headers": (port) => many(ENDLESS_CONNECTIONS, (n) => pour(port, n)),
  "200 stalled readers": (port, path) => many(STALLED_CONNECTIONS, (n) => stall(port, n, path)),
};

if (flags.attack === undefined) {
  await measure();
} else {
  const [port = "", name = ""] = flags.attack.split("/");
  await ATTACKS[name]?.(Number(port), flags.path);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  process.send?.("begun");
  // Sockets that nobody reads from do not keep a process.
  process.on("message", () => {});
}

async function many(count: number, begin: (n: number) => Promise<void>): Promise<void> {
  for (let n = 0; n < count; n += BATCH) {
    await Promise.all(Array.from({ length: Math.min(BATCH, count - n) }, (_, i) => begin(n + i)));
  }
}

/** Opens one, and again whenever it was ended. */
async function opened(port: number, n: number, use: (socket: Socket) => void): Promise<void> {
  const socket = connect({ port, host: "127.0.0.1", localAddress: `127.0.1.${1 + (n % ADDRESSES)}` });
  socket.on("error", () => {});
  socket.once("close", () => setTimeout(() => void opened(port, n, use), 100));
  await Promise.race([once(socket, "connect"), once(socket, "close")]);
  use(socket);
}

function hold(port: number, n: number): Promise<void> {
  return opened(port, n, (socket) => socket.resume());
}

function dribble(port: number, n: number): Promise<void> {
  return opened(port, n, (socket) => {
    socket.resume();
    socket.write("GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    const timer = setInterval(() => socket.write("x"), SLOW_BYTE_MS);
    socket.once("close", () => clearInterval(timer));
  });
}

function pour(port: number, n: number): Promise<void> {
  const part = Buffer.from(`X-Endless: ${"x".repeat(1000)}\r\n`.repeat(16));
  return opened(port, n, (socket) => {
    socket.resume();
    const more = (): void => {
      while (!socket.destroyed && socket.write(part));
    };
    socket.on("drain", more);
    socket.write("GET /v2/ HTTP/1.1\r\nHost: a\r\n");
    more();
  });
}

function stall(port: number, n: number, path: string): Promise<void> {
  return opened(port, n, (socket) => {
    socket.pause();
    socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
  });
}

interface Load {
  readonly perSecond: number;
  readonly p99Ms: number;
}

interface Result {
  readonly attack: string;
  readonly before: Load;
  readonly during: Load;
  readonly connections: number;
  readonly rssMiB: number;
  /** Of Weir, a second, while the attack goes on. */
  readonly cpu: number;
}

async function measure(): Promise<void> {
  const { wrk } = requirePrograms("wrk");
  const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
  const origin = createServer((req, res) => {
    const body = req.url === MANIFEST_PATH ? MANIFEST : req.url === BLOB_PATH ? BLOB : undefined;
    res.writeHead(body === undefined ? 404 : 200, {
      "content-type": MANIFEST_TYPE,
      "content-length": body?.length ?? 0,
    });
    res.end(req.method === "HEAD" ? undefined : body);
  });
  origin.listen(0, "127.0.0.1");
  await once(origin, "listening");
  let weir: Peer | undefined;
  try {
    weir = await startWeir(folder, `http://127.0.0.1:${(origin.address() as AddressInfo).port}`, { logLevel: "error" });
    await download(weir.base + MANIFEST_PATH);
    await download(weir.base + BLOB_PATH);
    await load(wrk, weir);
    const results: Result[] = [];
    const names = Object.keys(ATTACKS).filter((name) => flags.only === undefined || name === flags.only);
    for (let round = 0; round < Number(flags.rounds); round += 1) {
      for (const name of names) {
        const result = await attacked(wrk, weir, name);
        results.push(result);
        console.log(`${name}: p99 ${result.before.p99Ms} ms before, ${result.during.p99Ms} ms during`);
      }
    }
    report(results, names);
  } finally {
    if (weir !== undefined) await stopServer(weir.child);
    origin.close();
    origin.closeAllConnections();
    await rm(folder, { recursive: true, force: true });
  }
}

async function attacked(wrk: string, weir: Peer, attack: string): Promise<Result> {
  const before = await load(wrk, weir);
  const attacker = fork(import.meta.filename, [
    "--attack",
    `${new URL(weir.base).port}/${attack}`,
    "--path",
    BLOB_PATH,
  ]);
  const exited = once(attacker, "exit");
  try {
    await once(attacker, "message");
    const pid = weir.child.pid ?? 0;
    const cpuBefore = cpuSeconds([pid]);
    const during = await load(wrk, weir);
    const cpu = (cpuSeconds([pid]) - cpuBefore) / Number(flags.seconds);
    const connections = readdirSync(`/proc/${pid}/fd`).length;
    const rss = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return { attack, before, during, connections, rssMiB: Number(rss) / 1024, cpu };
  } finally {
    attacker.kill("SIGKILL");
    await exited;
  }
}

async function load(wrk: string, { base }: Peer): Promise<Load> {
  const { stdout } = await promisify(execFile)(wrk, [
    ...["-t1", `-c${flags.clients}`, `-d${flags.seconds}s`, "--timeout", "10s", "--latency", base + MANIFEST_PATH],
  ]);
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(`requests failed:\n${stdout}`);
  const [, p99 = "", unit = ""] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? [];
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    p99Ms: Number(p99) * ({ us: 0.001, ms: 1, s: 1000 }[unit] ?? Number.NaN),
  };
}

function report(results: readonly Result[], names: readonly string[]): void {
  console.log(
    `held manifests, ${flags.clients} clients: median (spread) of ${flags.rounds} rounds of ${flags.seconds} s\n`,
  );
  printTable(
    ["attack", "p99 ms before", "during", "requests/s before", "during", "Weir's open files", "MiB", "CPU"],
    names.map((name) => {
      const of = results.filter(({ attack }) => attack === name);
      const shown = (numbers: readonly number[], digits: number): string =>
        `${median(numbers).toFixed(digits)} (${spread(numbers)})`;
      return [
        name,
        shown(
          of.map(({ before }) => before.p99Ms),
          2,
        ),
        shown(
          of.map(({ during }) => during.p99Ms),
          2,
        ),
        shown(
          of.map(({ before }) => before.perSecond),
          0,
        ),
        shown(
          of.map(({ during }) => during.perSecond),
          0,
        ),
        median(of.map(({ connections }) => connections)).toFixed(0),
        median(of.map(({ rssMiB }) => rssMiB)).toFixed(0),
        median(of.map(({ cpu }) => cpu)).toFixed(2),
      ];
    }),
  );
}
