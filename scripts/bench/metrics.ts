/**
 * What counting costs: hits of a Weir with metrics and of one without, on one machine, in one run.
 * `npm run bench:metrics` (needs Debian's wrk and docker-registry).
 *
 *   --rounds N      counted rounds, interleaved (15)
 *   --seconds N     of each measurement (2)
 *   --clients N     connections (16)
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { push, smallImage } from "../../test/support/images.ts";
import { cpuSeconds, download, median, printTable, spread, stopServer } from "./measure.ts";
import { type Peer, requirePrograms, startRegistry, startWeir } from "./peers.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "15" },
    seconds: { type: "string", default: "2" },
    clients: { type: "string", default: "16" },
  },
});
const programs = requirePrograms("wrk", "docker-registry");
const run = promisify(execFile);

const SERVER = new URL("metrics-server.ts", import.meta.url).pathname;

interface Result {
  readonly perSecond: number;
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
  const on = await start(startWeir(folder, origin.base, "warn", [SERVER, "on"]));
  const off = await start(startWeir(folder, origin.base, "warn", [SERVER, "off"]));
  const smallest = image.blobs[0]?.digest ?? "";
  const rows: string[][] = [];
  for (const [what, path] of [
    ["manifest by tag", "/v2/library/bench/manifests/1"],
    ["small blob", `/v2/library/bench/blobs/${smallest}`],
  ] as const) {
    for (const { base } of [on, off]) await download(base + path);
    for (const peer of [on, off]) await measure(peer, path, 2);
    const results: { on: Result; off: Result }[] = [];
    for (let round = 0; round < Number(flags.rounds); round += 1) {
      // Whoever goes second has the warmer machine.
      const order = round % 2 === 0 ? [on, off] : [off, on];
      const measured = new Map<Peer, Result>();
      for (const peer of order) measured.set(peer, await measure(peer, path, Number(flags.seconds)));
      const [counted, uncounted] = [measured.get(on), measured.get(off)];
      if (counted !== undefined && uncounted !== undefined) results.push({ on: counted, off: uncounted });
    }
    const costs = results.map((pair) => (1 - pair.on.perSecond / pair.off.perSecond) * 100);
    const cpuCosts = results.map((pair) => (pair.on.cpuSecondsPerThousand / pair.off.cpuSecondsPerThousand - 1) * 100);
    rows.push([
      what,
      median(results.map((pair) => pair.on.perSecond)).toFixed(0),
      median(results.map((pair) => pair.off.perSecond)).toFixed(0),
      `${median(costs).toFixed(1)} % (${spread(costs)})`,
      `${median(cpuCosts).toFixed(1)} % (${spread(cpuCosts)})`,
    ]);
  }
  console.log(`\nhits, median (spread) of ${flags.rounds} interleaved rounds of ${flags.seconds} s\n`);
  printTable(["hit", "counted/s", "uncounted/s", "counting costs, requests/s", "counting costs, CPU"], rows);
} finally {
  for (const peer of peers.reverse()) await stopServer(peer.child);
  await rm(folder, { recursive: true, force: true });
}

async function measure({ base, child }: Peer, path: string, seconds: number): Promise<Result> {
  const pids = child.pid === undefined ? [] : [child.pid];
  const cpuBefore = cpuSeconds(pids);
  const { stdout } = await run(programs.wrk, ["-t1", `-c${flags.clients}`, `-d${seconds}s`, base + path]);
  if (stdout.includes("Non-2xx")) throw new Error(`requests were refused:\n${stdout}`);
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    cpuSecondsPerThousand: (cpuSeconds(pids) - cpuBefore) / (requests / 1000),
  };
}
