import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { createCachedObjects } from "../../src/storage/cached-objects.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import { TEMPORARY_FOLDER } from "../../src/storage/layout.ts";
import { filesOpenBelow } from "../support/open-files.ts";
import { blobStoreContract } from "./blob-store.contract.ts";
import { smallObjectsContract } from "./small-objects.contract.ts";

blobStoreContract({
  name: "filesystem",
  async create() {
    const { root, ...rest } = await emptyRoot();
    return { store: await createFsBlobStore({ root, log: silentLog, clock: systemClock }), ...rest };
  },
});

smallObjectsContract({
  name: "filesystem",
  async create() {
    const { root, ...rest } = await emptyRoot();
    return { objects: await createFsSmallObjects({ root }), ...rest };
  },
});

smallObjectsContract({
  name: "filesystem, kept in memory",
  async create() {
    const { root, ...rest } = await emptyRoot();
    return { objects: createCachedObjects(await createFsSmallObjects({ root })), ...rest };
  },
});

async function emptyRoot() {
  const root = await mkdtemp(join(tmpdir(), "weir-storage-"));
  return {
    root,
    leftovers: async () => [...(await readdir(join(root, TEMPORARY_FOLDER))), ...(await filesOpenBelow(root))],
    dispose: () => rm(root, { recursive: true }),
  };
}
