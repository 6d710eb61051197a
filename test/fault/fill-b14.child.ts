/**
 * What fills do on a disk that is really full, run by fill-b14.test.ts in a mount namespace of its own. Arguments: a
 * scenario's name, and the folder to work in, whose `disk` is a small tmpfs. Prints what happened as one line of JSON.
 */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { aloneTurns } from "../../src/proxy/fill-turn.ts";
import { createFills, type Fill } from "../../src/proxy/fills.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createSpool } from "../../src/storage/spool.ts";
import { type BlobContent, ScriptedSource, seededBlob } from "../support/fill-sources.ts";
import { filesOpenBelow } from "../support/open-files.ts";
import { boundlessRoom } from "../support/rooms.ts";

const MiB = 1024 * 1024;
const READERS = 20;
const { signal } = new AbortController();

async function isWhole(fill: Fill, blob: BlobContent): Promise<boolean> {
  await fill.ready({ signal });
  let at = 0;
  for await (const chunk of fill.read(0, undefined, { signal })) {
    if (!blob.read(at, at + chunk.length).equals(chunk)) return false;
    at += chunk.length;
  }
  return at === blob.size;
}

async function pull(spoolDir: string, root: string, blobs: readonly BlobContent[], between: () => Promise<void>) {
  const spool = createSpool({ dir: spoolDir, log: silentLog });
  const store = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
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
  await fills.open();
  const pulls = [];
  for (const blob of blobs) {
    const source = new ScriptedSource({ blob, chunkBytes: 64 * 1024 });
    const { fill } = fills.join("public", blob.digest, source, {});
    const whole = await Promise.all(Array.from({ length: READERS }, () => isWhole(fill, blob)));
    const outcome = await fill.outcome;
    const held = (await store.stat(blob.digest, { signal })) !== undefined;
    pulls.push({ outcome, whole: whole.filter(Boolean).length, requests: source.ledger.length, held });
    await between();
  }
  const left = (await readdir(spoolDir, { recursive: true })).filter((name) => /\.(part|json)/.test(name));
  const open = (await filesOpenBelow(spoolDir)).filter((name) => name.includes(".part"));
  await fills.stop({ signal });
  await spool.close();
  await store.close();
  return { pulls, left, open };
}

const scenarios: Readonly<Record<string, (disk: string, elsewhere: string) => Promise<unknown>>> = {
  /** The spool's disk has room for a part of the first blob, and for all of the second. */
  async middle(disk, elsewhere) {
    const blobs = [seededBlob("large", 40 * MiB), seededBlob("fits", 3 * MiB)];
    return pull(join(disk, "spool"), elsewhere, blobs, async () => {});
  },

  /** Not a byte of room at first. */
  async before(disk, elsewhere) {
    await mkdir(join(disk, "spool"));
    const filler = join(disk, "filler");
    await writeFile(filler, Buffer.alloc(16 * MiB)).catch(() => {});
    const blobs = [seededBlob("large", 40 * MiB), seededBlob("fits", 3 * MiB)];
    return pull(join(disk, "spool"), elsewhere, blobs, () => rm(filler, { force: true }));
  },

  /** The spool has all the room, the store has not. */
  async store(disk, elsewhere) {
    const blobs = [seededBlob("large", 40 * MiB), seededBlob("fits", 3 * MiB)];
    return pull(elsewhere, disk, blobs, async () => {});
  },
};

const [name = "", folder = ""] = process.argv.slice(2);
const elsewhere = join(folder, "elsewhere");
await mkdir(elsewhere);
process.stdout.write(`${JSON.stringify(await scenarios[name]?.(join(folder, "disk"), elsewhere))}\n`);
