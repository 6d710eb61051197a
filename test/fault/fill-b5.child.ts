/**
 * Case B5 in full size, in a process of its own so that its memory can be seen: 100 readers of one cold blob of 4 GiB.
 * Prints one line of JSON. Arguments: a folder to work in, the blob's size in MiB.
 */
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { createHasher } from "../../src/oci/digest.ts";
import { aloneTurns } from "../../src/proxy/fill-turn.ts";
import { createFills, type Fill } from "../../src/proxy/fills.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createSpool } from "../../src/storage/spool.ts";
import { type BlobContent, ScriptedSource, stampedBlob } from "../support/fill-sources.ts";
import { boundlessRoom } from "../support/rooms.ts";

const MiB = 1024 * 1024;
const FAST_READERS = 96;
const SAMPLE_BYTES = 64;
const SAMPLE_EVERY = 8;

/** Reads everything, comparing samples: comparing 400 GiB would take longer than the rest of the test. */
async function readSampled(fill: Fill, blob: BlobContent): Promise<number> {
  const { signal } = new AbortController();
  let at = 0;
  let chunks = 0;
  for await (const chunk of fill.read(0, undefined, { signal })) {
    const from = at;
    at += chunk.length;
    chunks += 1;
    if (chunks % SAMPLE_EVERY !== 0) continue;
    const sample = Math.min(SAMPLE_BYTES, chunk.length);
    const first = blob.read(from, from + sample);
    const last = blob.read(at - sample, at);
    if (!first.equals(chunk.subarray(0, sample)) || !last.equals(chunk.subarray(chunk.length - sample))) {
      throw new Error(`a wrong byte before ${at}`);
    }
  }
  return at;
}

async function readHashed(fill: Fill): Promise<string> {
  const { signal } = new AbortController();
  const hash = createHasher("sha256");
  for await (const chunk of fill.read(0, undefined, { signal })) hash.update(chunk);
  return hash.digest();
}

/** Stands still with its first bytes in hand until the others are done, and leaves. */
async function readOneChunk(fill: Fill): Promise<void> {
  const { signal } = new AbortController();
  for await (const chunk of fill.read(0, undefined, { signal })) {
    if (chunk.length === 0) throw new Error("an empty chunk");
    await fill.outcome;
    return;
  }
}

async function passed(fill: Fill, position: number): Promise<void> {
  while (fill.position < position) await nextTurn();
}

const [dir = "", sizeMiB = "4096"] = process.argv.slice(2);
const blob = stampedBlob("b5", Number(sizeMiB) * MiB);
const source = new ScriptedSource({ blob, chunkBytes: 256 * 1024 });
const spool = createSpool({ dir: join(dir, "spool"), log: silentLog });
const store = await createFsBlobStore({ root: join(dir, "store"), log: silentLog, clock: systemClock });
const fills = createFills({
  store,
  spool,
  clock: systemClock,
  random: Math.random,
  log: silentLog,
  room: boundlessRoom,
  turns: aloneTurns,
  download: { rangeWaitMs: 0, minRate: 0, stalledAttempts: 1, abandon: "never" },
  observer: { fillStarted() {}, fillEnded() {}, resumed() {}, mismatch() {}, readers() {} },
  committed: async () => {},
});
const startedAtMs = performance.now();
const { fill } = fills.join("public", blob.digest, source, {});
await fill.ready({ signal: new AbortController().signal });
const stuck = readOneChunk(fill);
const sizes = Array.from({ length: FAST_READERS }, () => readSampled(fill, blob));
const hashed = readHashed(fill);
await passed(fill, blob.size / 10);
sizes.push(readSampled(fill, blob));
await passed(fill, blob.size / 2);
sizes.push(readSampled(fill, blob));
const whole = (await Promise.all(sizes)).filter((size) => size === blob.size).length;
const digest = await hashed;
await stuck;
const report = {
  outcome: await fill.outcome,
  whole: digest === blob.digest ? whole + 1 : whole,
  requests: source.ledger.length,
  sent: source.sent,
  seconds: (performance.now() - startedAtMs) / 1000,
  peakRssMiB: process.resourceUsage().maxRSS / 1024,
};
await fills.stop({ signal: new AbortController().signal });
await spool.close();
await store.close();
process.stdout.write(`${JSON.stringify(report)}\n`);
