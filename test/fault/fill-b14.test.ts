import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { run, tempFolder } from "../support/processes.ts";
import { toolTest } from "../support/tools.ts";

const CHILD = fileURLToPath(new URL("fill-b14.child.ts", import.meta.url));

/** Runs a scenario in a new folder with a tmpfs of 8 MiB at `disk` that only the scenario sees. */
async function onSmallDisk(scenario: string): Promise<unknown> {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  const disk = join(folder, "disk");
  await mkdir(disk);
  const script = 'mount -t tmpfs -o size=8m tmpfs "$1" && shift && exec "$@"';
  const shell = ["unshare", "--mount", "sh", "-c", script, "sh", disk];
  const { stdout } = await run([...shell, process.execPath, CHILD, scenario, folder]);
  return JSON.parse(stdout);
}

const streamed = { outcome: "streamed", whole: 20, requests: 1, held: false };
const committed = { outcome: "committed", whole: 20, requests: 1, held: true };

toolTest(["mount"], "B14 the disk gets full in mid-fill: passed on by one request, and what fits is kept", async () => {
  expect(await onSmallDisk("middle")).toEqual({ pulls: [streamed, committed], left: [], open: [] });
});

toolTest(
  ["mount"],
  "B14 the disk is full before: passed on by one request, and kept again once there is room",
  async () => {
    expect(await onSmallDisk("before")).toEqual({ pulls: [streamed, committed], left: [], open: [] });
  },
);

toolTest(["mount"], "B14 the store is full: served from the spool, which is empty afterwards", async () => {
  expect(await onSmallDisk("store")).toEqual({ pulls: [streamed, committed], left: [], open: [] });
});
