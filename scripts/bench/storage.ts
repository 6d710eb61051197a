/**
 * The three drivers side by side, on a radosgw of their own: what hits cost a client, and what a large upload costs in memory.
 * `npm run bench:storage` (needs what the S3 tests need; everything is on 127.0.0.1 and in folders that are removed).
 *
 *   --blob MIB     size of the blob that is read (64)
 *   --readers N    readers at once (8)
 *   --reads N      reads of each (8)
 *   --upload GIB   size of the blob that is uploaded, 0 for none (5)
 */
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { parseArgs } from "node:util";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { createHasher, type Digest } from "../../src/oci/digest.ts";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import { openStorage } from "../../src/storage/open-storage.ts";
import { tempFolder } from "../../test/support/processes.ts";
import { startS3 } from "../../test/support/radosgw.ts";
import { s3Config } from "../../test/support/s3-store.ts";
import { boundlessDisk } from "../../test/support/tiered-store.ts";

const MiB = 2 ** 20;

const { values: flags } = parseArgs({
  options: {
    blob: { type: "string", default: "64" },
    readers: { type: "string", default: "8" },
    reads: { type: "string", default: "8" },
    upload: { type: "string", default: "5" },
  },
});
const readers = Number(flags.readers);
const reads = Number(flags.reads);
const call = { signal: new AbortController().signal };

/** A new file of so many bytes, and its digest. */
async function madeFile(path: string, bytes: number): Promise<Digest> {
  const hasher = createHasher("sha256");
  const file = createWriteStream(path);
  const block = Buffer.alloc(MiB);
  for (let at = 0; at < bytes; at += MiB) {
    block.writeDoubleLE(at, 0);
    hasher.update(block);
    if (!file.write(Buffer.from(block))) await once(file, "drain");
  }
  file.end();
  await finished(file);
  return hasher.digest();
}

/** Reads it whole; resolves with the milliseconds to its first byte. */
async function read(store: BlobStore, digest: Digest): Promise<number> {
  const startMs = performance.now();
  const blob = await store.open(digest, call);
  if (blob === undefined) throw new Error(`${store.name} does not hold ${digest}`);
  let firstMs: number | undefined;
  try {
    for await (const _ of blob.read(0, blob.size, call)) firstMs ??= performance.now() - startMs;
  } finally {
    await blob.close();
  }
  return firstMs ?? 0;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

/** The most memory that this process had while `work` ran, in MiB. */
async function memoryOf(work: () => Promise<unknown>): Promise<number> {
  let most = process.memoryUsage.rss();
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, 20);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return most / MiB;
}

await using stack = new AsyncDisposableStack();
const upload = Number(flags.upload) * 1024 * MiB;
// The server's own memory is its disk.
const server = await startS3(stack, { deviceBytes: 1.5 * upload + 4 * 1024 * MiB });
const size = Number(flags.blob) * MiB;
console.log(`${readers} readers, ${reads} reads each of ${flags.blob} MiB`);
for (const driver of ["filesystem", "s3", "tiered"] as const) {
  const folder = await tempFolder(stack);
  const config = { driver, filesystem: { root: join(folder, "data"), shared: false }, s3: s3Config(server) };
  const storage = await openStorage(config, { clock: systemClock, random: Math.random, log: silentLog });
  const store = storage.tiers?.over(storage.blobs, boundlessDisk) ?? storage.blobs;
  const path = join(folder, "blob");
  const digest = await madeFile(path, size);
  await store.ingest(digest, path, call);
  const firstMs: number[] = [];
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: readers }, async () => {
      for (let i = 0; i < reads; i += 1) firstMs.push(await read(store, digest));
    }),
  );
  const seconds = (performance.now() - startMs) / 1000;
  const rate = (readers * reads * Number(flags.blob)) / seconds;
  console.log(`${driver}: ${rate.toFixed(0)} MiB/s, first byte after ${median(firstMs).toFixed(1)} ms (median)`);
  if (driver === "s3" && upload > 0) {
    const large = await madeFile(path, upload);
    const before = process.memoryUsage.rss() / MiB;
    const memory = await memoryOf(() => store.ingest(large, path, call));
    console.log(
      `s3: an upload of ${flags.upload} GiB: the process had ${before.toFixed(0)} MiB before, and ${memory.toFixed(0)} MiB at most`,
    );
  }
  await storage.close();
  await rm(folder, { recursive: true, force: true });
}
