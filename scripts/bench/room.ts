/**
 * The storage's room with very many small blobs: how long until everything is counted, what a blob costs in memory, and how
 * long an eviction pass takes. `npm run bench:room` (works in a folder of its own, with about 16 KiB a blob).
 *
 *   --blobs N    (1000000)
 *   --folder F   where to make the store (the system's folder for temporary files)
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { digestOf } from "../../src/oci/digest.ts";
import { createRoom } from "../../src/proxy/create-room.ts";
import type { RoomLimits } from "../../src/proxy/room-eviction.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import { blobKey, formatLink, layerLinkKey } from "../../src/storage/layout.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import { createRoomRecords } from "../../src/storage/room-records.ts";

/** Blobs of one image, about. */
const PER_REPOSITORY = 20;

const { values: flags } = parseArgs({
  options: { blobs: { type: "string", default: "1000000" }, folder: { type: "string", default: tmpdir() } },
});
const count = Number(flags.blobs);
const root = mkdtempSync(join(flags.folder, "weir-bench-room-"));
const call = { signal: new AbortController().signal };

function write(key: string, bytes: Uint8Array): void {
  const path = join(root, key);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, bytes);
}

/** Bytes that this process uses, after everything that nobody needs has been collected. */
function memory(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return (performance.now() - startMs) / 1000;
}

try {
  for (let n = 0; n < count; n += 1) {
    const bytes = Buffer.from(`blob ${n}`);
    const digest = digestOf(bytes);
    const repo = { upstream: "registry.example", repository: `app/${Math.floor(n / PER_REPOSITORY)}` };
    write(blobKey(digest), bytes);
    write(layerLinkKey(repo, digest), formatLink(digest));
  }
  const blobs = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
  const objects = await createFsSmallObjects({ root });
  const repositories = createRepositories(objects, silentLog);
  let limits: RoomLimits = { total: undefined, upstreams: new Map(), maxAgeMs: undefined, pins: [] };
  let evicted = 0;
  const room = createRoom({
    blobs,
    repositories,
    records: createRoomRecords(objects, blobs),
    limits: () => limits,
    spooledBytes: () => 0,
    forget: () => {
      evicted += 1;
    },
    clock: systemClock,
    log: silentLog,
    observer: { evicted() {} },
  });
  const before = memory();
  const until = async (done: () => boolean): Promise<void> => {
    while (!done()) await new Promise((resolve) => setTimeout(resolve, 5));
  };
  let longestMs = 0;
  let lastMs = performance.now();
  const beat = setInterval(() => {
    longestMs = Math.max(longestMs, performance.now() - lastMs);
    lastMs = performance.now();
  }, 1);
  const started = await seconds(async () => room.start());
  const counted = await seconds(() => until(() => !room.usage().counting));
  const perBlob = (memory() - before) / count;
  const { bytes } = room.usage();
  limits = { ...limits, total: { limit: bytes, high: bytes * 0.95, low: bytes * 0.85 } };
  const pass = await seconds(async () => {
    room.limitsChanged();
    await until(() => room.usage().bytes <= bytes * 0.85);
  });
  const saved = await seconds(() => room.stop(call));
  clearInterval(beat);
  console.log(`${count} blobs, ${bytes} bytes on disk`);
  console.log(`until requests can be served   ${(started * 1000).toFixed(1)} ms`);
  console.log(`until everything is counted    ${counted.toFixed(1)} s`);
  console.log(`memory                         ${perBlob.toFixed(0)} bytes a blob`);
  console.log(`eviction pass of ${evicted} blobs   ${pass.toFixed(1)} s`);
  console.log(`writing down the recency       ${saved.toFixed(2)} s`);
  console.log(`longest pause of the process   ${longestMs.toFixed(0)} ms`);
} finally {
  rmSync(root, { recursive: true, force: true });
}
