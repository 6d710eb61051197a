import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Bench, BenchCase, Subject } from "../bench.ts";
import { MIB } from "../content.ts";
import { freePort, residentBytes, stopServer, tracked } from "../measure.ts";
import { weirArguments } from "../peers.ts";
import type { Sample } from "../result.ts";

const POLL_MS = 2;
const GIVE_UP_MS = 30_000;
/** From ready to the look at the memory. */
const IDLE_MS = 2000;

export const start: BenchCase = {
  name: "start",
  title: "From the start to the first answer, and the idle memory then",
  needs: [],
  gib: 1,
  prepare: async (bench) => {
    const collector = createServer((req, res) => req.resume().on("end", () => res.end())).listen(0, "127.0.0.1");
    await once(collector, "listening");
    bench.atEnd(() => {
      collector.close();
      collector.closeAllConnections();
    });
    const otlpEndpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
    const variants: Readonly<Record<string, object>> = {
      "1 worker": { server: { workers: 1 } },
      "no key of server": {},
      "1 worker, traces": { server: { workers: 1 }, telemetry: { otlpEndpoint } },
    };
    // The first brings the files into the system's cache, and fills the compile cache where there is one.
    for (const config of Object.values(variants)) await measured(bench, config, 0);
    const subjects = Object.entries(variants).map(
      ([server, config]): Subject => ({ server, load: "idle", measure: () => measured(bench, config, IDLE_MS) }),
    );
    return { subjects, warmUps: 0 };
  },
};

async function measured(bench: Bench, more: object, idleMs: number): Promise<Sample> {
  const root = await mkdtemp(join(bench.folder, "start-"));
  const [port, admin] = [await freePort(), await freePort()];
  const file = join(root, "weir.json");
  const { server = {}, ...rest } = more as { readonly server?: object };
  const config = {
    server: { listen: `127.0.0.1:${port}`, ...server },
    admin: { listen: `127.0.0.1:${admin}` },
    storage: { driver: "filesystem", filesystem: { root: join(root, "data") } },
    ...rest,
  };
  await writeFile(file, JSON.stringify(config));
  const startedMs = performance.now();
  const args = [...weirArguments(), "serve", "--config", file];
  const child = tracked(spawn(process.execPath, args, { stdio: "ignore" }));
  try {
    while (!(await answers(port))) {
      if (child.exitCode !== null || performance.now() - startedMs > GIVE_UP_MS) throw new Error("weir does not start");
      await delay(POLL_MS);
    }
    const listeningMs = performance.now() - startedMs;
    await delay(idleMs);
    return { values: { "listening ms": listeningMs, "idle MiB": residentBytes(child) / MIB } };
  } finally {
    await stopServer(child);
    await rm(root, { recursive: true, force: true });
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    get({ host: "127.0.0.1", port, path: "/v2/", agent: false }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode === 200));
    }).on("error", () => resolve(false));
  });
}
