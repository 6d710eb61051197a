import { spawnSync } from "node:child_process";
import { mkdir, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { type Digest, digestHex, digestOf } from "../../src/oci/digest.ts";
import type { StoreLeftOver } from "../../src/storage/blob-store.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import { seededBytes } from "../support/images.ts";
import { tempFolder } from "../support/processes.ts";
import { call, RoomBench } from "../support/room-bench.ts";

const repo = { upstream: "a.example", repository: "app" };
const SIZES = [0, 1, 4095, 4096, 4097, 65_536, 1_000_000];

/** What `du` says that the blobs take up, with everything that holds them. */
function du(root: string): number {
  const { stdout } = spawnSync("du", ["-s", "-B1", join(root, "docker/registry/v2/blobs")], { encoding: "utf8" });
  return Number(stdout.split("\t")[0]);
}

async function openBench(root: string): Promise<RoomBench> {
  const store = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
  return new RoomBench({ store, objects: await createFsSmallObjects({ root }) });
}

/** Lets a minute pass, after which the folders have been measured again. */
async function minute(bench: RoomBench): Promise<void> {
  bench.clock.advance(60_000);
  // Asleep again when it has done its work.
  await bench.clock.sleeping();
}

test("S2 S8 the account agrees with du: for what comes, what goes, and what lay there", async () => {
  await using stack = new AsyncDisposableStack();
  const root = await tempFolder(stack);
  const first = await openBench(root);
  await first.started();
  const kept: Digest[] = [];
  for (const [n, size] of SIZES.entries()) {
    const path = join(root, `spooled-${n}`);
    const bytes = seededBytes(`du ${n}`, size);
    await writeFile(path, bytes);
    await first.room.blobs.ingest(digestOf(bytes), path, call);
    kept.push(digestOf(bytes));
  }
  for (let n = 0; n < 40; n += 1) kept.push(await first.keep(`small ${n}`, 100 + n, repo));
  await minute(first);
  expect(first.room.usage().bytes).toBe(du(root));
  for (const digest of kept.filter((_, n) => n % 3 === 0)) await first.room.blobs.delete(digest, call);
  await minute(first);
  expect(first.room.usage().bytes).toBe(du(root));
  await first.room.stop(call);

  // As an adopted store has it, with a copied file that kept its time.
  const bytes = seededBytes("adopted", 50_000);
  const folder = join(
    root,
    "docker/registry/v2/blobs/sha256",
    digestHex(digestOf(bytes)).slice(0, 2),
    digestHex(digestOf(bytes)),
  );
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "data"), bytes);
  await utimes(join(folder, "data"), 1, 1);
  await using second = await openBench(root);
  await second.started();
  expect(second.room.usage().bytes).toBe(du(root));
  const storedAtMs = (await second.store.stat(digestOf(bytes), call))?.storedAtMs ?? 0;
  expect(storedAtMs).toBeGreaterThan(Date.UTC(2020));
});

test("what never became anything is found: temporary files, and folders in which nothing is left", async () => {
  await using stack = new AsyncDisposableStack();
  const root = await tempFolder(stack);
  await using bench = await openBench(root);
  const digest = await bench.keep("held", 100, repo);
  await bench.keepImage(repo, "v1", { blobs: [digest] });
  await writeFile(join(root, "weir/v1/tmp/left"), "half a blob");
  const empty = "docker/registry/v2/repositories/a.example/gone/_manifests/tags/";
  await mkdir(join(root, empty), { recursive: true });
  await mkdir(join(root, "docker/registry/v2/blobs/sha256/00"), { recursive: true });
  const found: StoreLeftOver[] = [];
  for await (const leftOver of bench.store.leftOvers(call)) found.push(leftOver);
  expect(found.map(({ key }) => key).sort()).toEqual([
    "docker/registry/v2/blobs/sha256/00/",
    empty,
    "weir/v1/tmp/left",
  ]);
  await writeFile(join(root, empty, "now in use"), "");
  const removed = await Promise.all(found.map(async ({ key, remove }) => [key, await remove(call)]));
  expect(Object.fromEntries(removed)).toEqual({
    "docker/registry/v2/blobs/sha256/00/": true,
    [empty]: false,
    "weir/v1/tmp/left": true,
  });
  await rm(join(root, empty, "now in use"));
  // Young ones may be somebody's work: the clock of the bench is behind the files' own.
  expect((await bench.collect({ dryRun: true })).filter(({ reason }) => reason === "left-over")).toEqual([]);
});
