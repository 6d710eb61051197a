/**
 * HTTP/2 beside HTTP/1.1 towards an upstream: 64 manifests while 8 blobs of 64 MiB come, over TLS on loopback, with the client
 * that Weir uses (undici) and a server that speaks both. `node scripts/bench/http2.ts` (needs openssl).
 *
 *   --rounds N      counted rounds, interleaved, after one that is not (5)
 *   --blobs N       at once (8)
 *   --mib N         of each (64)
 *   --manifests N   at once (64)
 *   --rtt MS        there and back, by a relay in between (0: none); what windows are too small for shows only then
 *   --warm          connections are there already
 */
import { execFile, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createSecureServer } from "node:http2";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { parseArgs, promisify } from "node:util";
import { Agent } from "undici";
import { median, spread } from "./figures.ts";
import { printTable } from "./measure.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    blobs: { type: "string", default: "8" },
    mib: { type: "string", default: "64" },
    manifests: { type: "string", default: "64" },
    rtt: { type: "string", default: "0" },
    warm: { type: "boolean", default: false },
    /** Folder of the certificate: makes this process the server. */
    serve: { type: "string" },
  },
});

const MIB = 1024 * 1024;
const MANIFEST_BYTES = 2048;

/** As Weir has them: manifests and blobs on connections of their own, up to 64 each. */
const VARIANTS = [
  { name: "HTTP/1.1, up to 64 connections", allowH2: false, connections: 64 },
  { name: "HTTP/2, 1 connection", allowH2: true, connections: 1 },
  { name: "HTTP/2, up to 64 connections", allowH2: true, connections: 64 },
] as const;

type Variant = (typeof VARIANTS)[number];

interface Result {
  readonly variant: Variant;
  readonly mibPerSecond: number;
  readonly manifestMedianMs: number;
  readonly manifestMaxMs: number;
  /** Of this process, for all of it. */
  readonly cpuSeconds: number;
}

if (flags.serve === undefined) {
  await measure();
} else {
  await serve(flags.serve);
}

async function serve(folder: string): Promise<void> {
  const key = await readFile(join(folder, "key.pem"));
  const cert = await readFile(join(folder, "cert.pem"));
  const chunk = Buffer.alloc(256 * 1024, 7);
  const manifest = Buffer.alloc(MANIFEST_BYTES, 32);
  const server = createSecureServer({ key, cert, allowHTTP1: true }, async (request, response) => {
    const mib = /^\/blob\/(\d+)$/.exec(request.url)?.[1];
    if (mib === undefined) {
      response.writeHead(200, { "content-length": manifest.length });
      response.end(manifest);
      return;
    }
    const chunks = (Number(mib) * MIB) / chunk.length;
    response.writeHead(200, { "content-length": chunks * chunk.length });
    // A client that leaves ends its own stream only.
    await pipeline(Readable.from(repeated(chunk, chunks)), response).catch(() => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  process.send?.(flags.rtt === "0" ? port : await relay(port, Number(flags.rtt) / 2));
}

/** A way to `port` on which everything takes so long each way, and as much as likes to is on its way at once. */
async function relay(port: number, delayMs: number): Promise<number> {
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (chunk) => setTimeout(() => to.write(chunk), delayMs));
      from.on("close", () => setTimeout(() => to.destroy(), delayMs));
      from.on("error", () => {});
      from.setNoDelay(true);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

function* repeated(chunk: Buffer, times: number): Generator<Buffer> {
  for (let i = 0; i < times; i += 1) yield chunk;
}

async function measure(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
  try {
    await promisify(execFile)("openssl", [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
      ...["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"],
      ...["-keyout", join(folder, "key.pem"), "-out", join(folder, "cert.pem")],
    ]);
    const ca = await readFile(join(folder, "cert.pem"), "utf8");
    const server = fork(import.meta.filename, ["--serve", folder, "--rtt", flags.rtt]);
    try {
      const [port] = (await once(server, "message")) as [number];
      const results: Result[] = [];
      for (let round = 0; round <= Number(flags.rounds); round += 1) {
        for (const variant of VARIANTS) {
          const result = await pull(variant, `https://127.0.0.1:${port}`, ca);
          // The first round warms up.
          if (round > 0) results.push(result);
        }
      }
      report(results);
    } finally {
      server.kill();
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function pull(variant: Variant, origin: string, ca: string): Promise<Result> {
  const { allowH2, connections } = variant;
  const agent = (): Agent =>
    new Agent({ allowH2, connections, ...(allowH2 ? {} : { pipelining: 1 }), connect: { ca, allowH2 } });
  const [documents, bodies] = [agent(), agent()];
  if (flags.warm) {
    const some = (lane: Agent, count: string): Promise<unknown> =>
      Promise.all(Array.from({ length: Number(count) }, () => get(lane, origin, "/manifest/0")));
    await Promise.all([some(documents, flags.manifests), some(bodies, flags.blobs)]);
  }
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  const blobs = Array.from({ length: Number(flags.blobs) }, () => get(bodies, origin, `/blob/${flags.mib}`));
  const manifests = await Promise.all(
    Array.from({ length: Number(flags.manifests) }, async (_, i) => {
      const askedMs = performance.now();
      await get(documents, origin, `/manifest/${i}`);
      return performance.now() - askedMs;
    }),
  );
  const bytes = (await Promise.all(blobs)).reduce((sum, size) => sum + size, 0);
  const seconds = (performance.now() - startedMs) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  await Promise.all([documents.destroy(), bodies.destroy()]);
  return {
    variant,
    mibPerSecond: bytes / MIB / seconds,
    manifestMedianMs: median(manifests),
    manifestMaxMs: Math.max(...manifests),
    cpuSeconds: (user + system) / 1e6,
  };
}

/** Bytes of the body. */
async function get(agent: Agent, origin: string, path: string): Promise<number> {
  const { body, statusCode } = await agent.request({ origin, path, method: "GET" });
  if (statusCode !== 200) throw new Error(`${path}: ${statusCode}`);
  let size = 0;
  for await (const chunk of body) size += chunk.length;
  return size;
}

function report(results: readonly Result[]): void {
  const shown = (numbers: readonly number[], digits: number): string =>
    `${median(numbers).toFixed(digits)} (${spread(numbers)})`;
  printTable(
    ["", "blobs MiB/s", "manifest median ms", "manifest max ms", "client CPU s"],
    VARIANTS.map((variant) => {
      const of = results.filter((result) => result.variant === variant);
      return [
        variant.name,
        shown(
          of.map(({ mibPerSecond }) => mibPerSecond),
          0,
        ),
        shown(
          of.map(({ manifestMedianMs }) => manifestMedianMs),
          1,
        ),
        shown(
          of.map(({ manifestMaxMs }) => manifestMaxMs),
          1,
        ),
        shown(
          of.map(({ cpuSeconds }) => cpuSeconds),
          2,
        ),
      ];
    }),
  );
}
