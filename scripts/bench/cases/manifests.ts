import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Bench, BenchCase, Subject } from "../bench.ts";
import { ACCEPT, TAG_PATH } from "../content.ts";
import { download } from "../measure.ts";
import type { Peer } from "../peers.ts";
import { registries, statics } from "./held-blobs.ts";

/** One row of the table. */
interface Asked {
  readonly server: string;
  readonly peer: Peer;
  readonly path: string;
  readonly clients: readonly number[];
}

export const manifests: BenchCase = {
  name: "manifests",
  title: "A held manifest",
  needs: ["nginx", "wrk"],
  gib: 1,
  prepare: async (bench) => {
    const origin = await bench.origin();
    const digest = `/v2/library/bench/manifests/${bench.content.manifest.digest}`;
    const [two, one] = [await bench.weir(origin, { workers: 2 }), await bench.weir(origin, { workers: 1 })];
    const [nginx] = await statics(bench);
    const asked: Asked[] = [
      { server: "weir, 2 workers, by tag", peer: two, path: TAG_PATH, clients: [8, 64] },
      { server: "weir, 2 workers, by digest", peer: two, path: digest, clients: [8, 64] },
      { server: "weir, 1 worker, by tag", peer: one, path: TAG_PATH, clients: [8, 64] },
    ];
    if (nginx !== undefined) {
      asked.push({ server: nginx.name, peer: nginx.peer, path: TAG_PATH, clients: [8, 64] });
    }
    for (const { name, peer } of await registries(bench, [], undefined)) {
      asked.push({ server: `${name}, by tag`, peer, path: TAG_PATH, clients: [64] });
    }
    for (const { name, peer } of await registries(bench, [], origin)) {
      asked.push({ server: `${name}, by tag`, peer, path: TAG_PATH, clients: [64] });
      asked.push({ server: `${name}, by digest`, peer, path: digest, clients: [64] });
    }
    return { subjects: await requesting(bench, asked), control: { server: "nginx", metric: "requests/s" }, warmUps: 1 };
  },
};

export const instruments: BenchCase = {
  name: "instruments",
  title: "What telling about a held manifest costs",
  needs: ["nginx", "wrk"],
  gib: 1,
  prepare: async (bench) => {
    const origin = await bench.origin();
    const otlpEndpoint = await sink(bench);
    const traced = (sampleRatio: number) => ({ otlpEndpoint, sampleRatio });
    const variants = {
      "all off": {},
      "access log": { logLevel: "info" },
      "traces, 1 %": { telemetry: traced(0.01) },
      "traces, all": { telemetry: traced(1) },
      "access log and traces, 1 %": { logLevel: "info", telemetry: traced(0.01) },
      "access log and traces, all": { logLevel: "info", telemetry: traced(1) },
    };
    const asked: Asked[] = [];
    for (const [server, options] of Object.entries(variants)) {
      asked.push({ server, peer: await bench.weir(origin, { workers: 2, ...options }), path: TAG_PATH, clients: [64] });
    }
    bench.note(
      "Metrics are always counted, in all rows: there is no switch for them. `npm run bench:metrics` measures what they cost. " +
        "The log goes to /dev/null; spans go to a collector on the same machine that throws them away.",
    );
    return {
      subjects: await requesting(bench, asked),
      control: { server: "all off", metric: "requests/s" },
      warmUps: 1,
    };
  },
};

async function requesting(bench: Bench, asked: readonly Asked[]): Promise<readonly Subject[]> {
  for (const { peer, path } of asked) await download(peer.base + path, { accept: ACCEPT });
  const ms = bench.loadMs(asked.reduce((sum, { clients }) => sum + clients.length, 0));
  return [8, 64].flatMap((clients) =>
    asked
      .filter((one) => one.clients.includes(clients))
      .map(({ server, peer, path }) => ({
        server,
        load: `${clients} clients`,
        measure: () => bench.requests(peer, path, { clients, ms, accept: ACCEPT }),
      })),
  );
}

/** A collector for traces that takes everything; gives its address. */
async function sink(bench: Bench): Promise<string> {
  const server = createServer((request, response) => {
    request.resume().on("end", () => response.end());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  bench.atEnd(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
