/**
 * What counting costs: hits of one Weir that counts and does not count by turns, so that nothing else differs.
 * `npm run bench:metrics` (needs Debian's docker-registry).
 *
 *   --rounds N      of two bursts each, one counted and one not (60)
 *   --requests N    of a burst (1500)
 *   --clients N     connections (16)
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { push, smallImage } from "../../test/support/images.ts";
import { Bursts } from "./bursts.ts";
import { median, quartiles } from "./figures.ts";
import { download, printTable, stopServer } from "./measure.ts";
import type { Order } from "./metrics-server.ts";
import { type Peer, requirePrograms, startRegistry, startWeir } from "./peers.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "60" },
    requests: { type: "string", default: "1500" },
    clients: { type: "string", default: "16" },
  },
});
const [rounds, requests, clients] = [flags.rounds, flags.requests, flags.clients].map(Number) as [
  number,
  number,
  number,
];
const programs = requirePrograms("docker-registry");

const SERVER = new URL("metrics-server.ts", import.meta.url).pathname;

/** So that everything is compiled as well as it will be. */
const WARMING_REQUESTS = 40_000;

interface Result {
  /** Of the server, for each request. */
  readonly cpuMicroseconds: number;
  readonly perSecond: number;
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
  const weir = await start(startWeir(folder, origin.base, { main: [SERVER], workers: 1, channel: true }));
  const rows: string[][] = [];
  for (const [what, path] of [
    ["manifest by tag", "/v2/library/bench/manifests/1"],
    ["manifest by digest", `/v2/library/bench/manifests/${image.root.digest}`],
    ["small blob", `/v2/library/bench/blobs/${image.blobs[0]?.digest}`],
  ] as const) {
    await download(weir.base + path);
    const bursts = await Bursts.open(weir.base + path, clients);
    await bursts.run(WARMING_REQUESTS);
    const results: Record<"counted" | "uncounted", Result>[] = [];
    for (let round = 0; round < rounds; round += 1) {
      // Whoever goes second has the warmer machine.
      const first = round % 2 === 0;
      const one = await measure(weir.child, bursts, first);
      const other = await measure(weir.child, bursts, !first);
      results.push(first ? { counted: one, uncounted: other } : { counted: other, uncounted: one });
    }
    bursts.close();
    const percent = (value: (result: Result) => number) =>
      results.map(({ counted, uncounted }) => (value(counted) / value(uncounted) - 1) * 100);
    const costs = percent(({ cpuMicroseconds }) => cpuMicroseconds);
    const slower = percent(({ perSecond }) => 1 / perSecond);
    rows.push([
      what,
      median(results.map(({ counted }) => counted.cpuMicroseconds)).toFixed(1),
      median(results.map(({ uncounted }) => uncounted.cpuMicroseconds)).toFixed(1),
      `${median(costs).toFixed(1)} % (${quartiles(costs)})`,
      median(results.map(({ counted }) => counted.perSecond)).toFixed(0),
      `${median(slower).toFixed(1)} % (${quartiles(slower)})`,
    ]);
  }
  console.log(`\nhits, median (quartiles) of ${rounds} interleaved rounds of ${requests} requests\n`);
  printTable(["hit", "counted, CPU us", "uncounted", "counting costs", "counted/s", "counting takes time"], rows);
} finally {
  for (const peer of peers.reverse()) await stopServer(peer.child);
  await rm(folder, { recursive: true, force: true });
}

async function measure(server: ChildProcess, bursts: Bursts, counting: boolean): Promise<Result> {
  server.send((counting ? "count" : "do not count") satisfies Order);
  const before = await cpuMicroseconds(server);
  const tookMs = await bursts.run(requests);
  const used = (await cpuMicroseconds(server)) - before;
  return { cpuMicroseconds: used / requests, perSecond: (requests / tookMs) * 1000 };
}

async function cpuMicroseconds(server: ChildProcess): Promise<number> {
  const told = once(server, "message");
  server.send("tell" satisfies Order);
  return Number((await told)[0]);
}
