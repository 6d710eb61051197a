import { spawnSync } from "node:child_process";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { type Program, programPath } from "./bench.ts";
import type { Machine } from "./result.ts";

/** How each program is asked for its version. wrk ends with 1 when it is asked, and says it nevertheless. */
const ASKED: Readonly<Record<Program, string>> = {
  nginx: "-v",
  "docker-registry": "--version",
  wrk: "-v",
  python3: "--version",
};

/** What the figures were measured on. */
export function machine(date: Date): Machine {
  const versions: Record<string, string> = { Node: process.versions.node };
  for (const name of Object.keys(ASKED) as Program[]) {
    const path = programPath(name);
    if (path === undefined) continue;
    const { stdout, stderr } = spawnSync(path, [ASKED[name]], { encoding: "utf8" });
    versions[name] = versionIn(stdout + stderr) ?? "of an unknown version";
  }
  return {
    cpu: cpus()[0]?.model.trim() ?? "an unknown processor",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    versions,
    load: loadavg()[0] ?? 0,
    date: date.toISOString().slice(0, 10),
  };
}

/** The first thing that looks like a version. */
export function versionIn(text: string): string | undefined {
  return /\d+\.\d+(\.\d+)*/.exec(text)?.[0];
}
