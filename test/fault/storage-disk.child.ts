/**
 * What storage does on odd disks, run by storage-disk.test.ts in a process (and mount namespace) of its own.
 * Arguments: a scenario's name and the folder to work in. Prints what happened as one line of JSON.
 */
import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { digestOf } from "../../src/oci/digest.ts";
import { StorageError } from "../../src/storage/blob-store.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import { openRoot } from "../../src/storage/fs/root.ts";
import { TEMPORARY_FOLDER } from "../../src/storage/layout.ts";
import { seededBytes } from "../support/images.ts";

const call = { signal: new AbortController().signal };

async function outcome(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "done";
  } catch (error) {
    return error instanceof StorageError ? `${error.fault}: ${error.message}` : `unexpected: ${String(error)}`;
  }
}

const scenarios: Readonly<Record<string, (folder: string) => Promise<unknown>>> = {
  async open(folder) {
    return outcome(async () => (await openRoot(folder)).close());
  },

  /** Until it is killed. */
  async hold(folder) {
    await openRoot(folder);
    setInterval(() => {}, 60_000);
    return "held";
  },

  /** The root's disk has room for less than the blob; the spool is elsewhere. */
  async full(folder) {
    const root = join(folder, "disk");
    const spool = join(folder, "spool");
    await mkdir(spool);
    const store = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
    const objects = await createFsSmallObjects({ root });
    const large = seededBytes("large", 2 << 20);
    const small = seededBytes("small", 10_000);
    await writeFile(join(spool, "large"), large);
    const filler = seededBytes("filler", 1 << 20);
    const put = await outcome(() => store.put(digestOf(large), large, call));
    const ingest = await outcome(() => store.ingest(digestOf(large), join(spool, "large"), call));
    const object = await outcome(() => objects.put("a/b", filler, call));
    const anotherObject = await outcome(() => objects.put("a/c", filler, call));
    return {
      put,
      ingest,
      object,
      anotherObject,
      temporary: await readdir(join(root, TEMPORARY_FOLDER)),
      spooled: (await stat(join(spool, "large"))).size,
      held: await store.stat(digestOf(large), call),
      afterwards: await outcome(() => store.put(digestOf(small), small, call)),
    };
  },

  /** The spool is on another device than the root. */
  async devices(folder) {
    const root = join(folder, "root");
    const spooled = join(folder, "disk/finished");
    const store = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
    const bytes = seededBytes("moved", 700_000);
    await writeFile(spooled, bytes);
    const leaving = new AbortController();
    const aborted = outcome(() => store.ingest(digestOf(bytes), spooled, { signal: leaving.signal }));
    leaving.abort(new Error("the client left"));
    const left = { aborted: await aborted, spooled: (await stat(spooled)).size };
    const ingest = await outcome(() => store.ingest(digestOf(bytes), spooled, call));
    const blob = await store.open(digestOf(bytes), call);
    const parts: Buffer[] = [];
    for await (const chunk of blob?.read(0, blob.size, call) ?? []) parts.push(Buffer.from(chunk));
    await blob?.close();
    return {
      left,
      ingest,
      same: Buffer.concat(parts).equals(bytes),
      spool: await readdir(join(folder, "disk")),
      temporary: await readdir(join(root, TEMPORARY_FOLDER)),
    };
  },

  /** Not one more file can be made. */
  async inodes(folder) {
    const root = join(folder, "disk");
    const store = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
    const blob = (index: number): Buffer => Buffer.from(`blob ${index}`);
    let kept = 0;
    let fault = "done";
    while (fault === "done") {
      fault = await outcome(() => store.put(digestOf(blob(kept)), blob(kept), call));
      if (fault === "done") kept += 1;
    }
    let held = 0;
    for await (const _ of store.list(call)) held += 1;
    while ((await outcome(() => writeFile(join(root, `filler-${Math.random()}`), ""))) === "done");
    return {
      fault,
      keptAll: held === kept && kept > 0,
      temporary: await readdir(join(root, TEMPORARY_FOLDER)),
      open: await outcome(() => openRoot(root)),
    };
  },
};

const [name = "", folder = ""] = process.argv.slice(2);
const scenario = scenarios[name];
if (scenario === undefined) throw new Error(`no scenario ${name}`);
process.stdout.write(`${JSON.stringify(await scenario(folder))}\n`);
