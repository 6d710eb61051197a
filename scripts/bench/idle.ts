/**
 * A start and the idle process after it, without traces and with them: from the spawn to `/readyz`, and the memory that is in use
 * a while later. One variant after the other, in turns, on one machine. `npm run bench:idle` (Weir is taken from dist/).
 *
 *   --rounds N    counted rounds, after one that is not (7)
 *   --idle MS     from ready to the look at the memory (3000)
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { residentBytes } from "../../test/support/processes.ts";
import { freePort, median, printTable, spread, stopServer } from "./measure.ts";

const { values: flags } = parseArgs({
  options: { rounds: { type: "string", default: "7" }, idle: { type: "string", default: "3000" } },
});
const MAIN = new URL("../../dist/main.js", import.meta.url).pathname;
const POLL_MS = 2;
const GIVE_UP_MS = 60_000;
const MIB = 1024 * 1024;

interface Result {
  readonly startMs: number;
  readonly idleBytes: number;
}

const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
const collector = createServer((req, res) => req.resume().on("end", () => res.end())).listen(0, "127.0.0.1");
try {
  await once(collector, "listening");
  const otlpEndpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
  const variants = { "traces off": {}, "traces on": { otlpEndpoint } };
  const results = new Map<string, Result[]>(Object.keys(variants).map((name) => [name, []]));
  for (let round = 0; round <= Number(flags.rounds); round += 1) {
    for (const [name, telemetry] of Object.entries(variants)) {
      const result = await measured(telemetry);
      // The first brings the files into the system's cache.
      if (round > 0) results.get(name)?.push(result);
    }
  }
  console.log(
    `${flags.rounds} rounds, Node ${process.version}, Linux ${release()}, ${cpus().length} x ${cpus()[0]?.model}`,
  );
  const rows = [...results].map(([name, all]) => {
    const starts = all.map(({ startMs }) => startMs);
    const idle = all.map(({ idleBytes }) => idleBytes / MIB);
    return [name, median(starts).toFixed(0), spread(starts), median(idle).toFixed(1), spread(idle)];
  });
  printTable(["", "ready, ms", "from-to", "idle, MiB", "from-to"], rows);
} finally {
  collector.close();
  collector.closeAllConnections();
  await rm(folder, { recursive: true, force: true });
}

async function measured(telemetry: object): Promise<Result> {
  const root = await mkdtemp(join(folder, "weir-"));
  const [port, admin] = [await freePort(), await freePort()];
  const file = join(root, "weir.json");
  const config = {
    server: { listen: `127.0.0.1:${port}` },
    admin: { listen: `127.0.0.1:${admin}` },
    storage: { driver: "filesystem", filesystem: { root: join(root, "data") } },
    telemetry,
  };
  await writeFile(file, JSON.stringify(config));
  const startedMs = performance.now();
  // As `npm start` has it.
  const child = spawn(process.execPath, ["--max-semi-space-size=16", MAIN, "serve", "--config", file], {
    stdio: "ignore",
  });
  try {
    while (!(await isReady(admin))) {
      if (child.exitCode !== null || performance.now() - startedMs > GIVE_UP_MS) throw new Error("weir does not start");
      await delay(POLL_MS);
    }
    const startMs = performance.now() - startedMs;
    await delay(Number(flags.idle));
    return { startMs, idleBytes: residentBytes(child.pid ?? 0) };
  } finally {
    await stopServer(child);
  }
}

function isReady(admin: number): Promise<boolean> {
  return new Promise((resolve) => {
    get({ host: "127.0.0.1", port: admin, path: "/readyz", agent: false }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode === 200));
    }).on("error", () => resolve(false));
  });
}
