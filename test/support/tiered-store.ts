/** A disk in front of the tests' bucket, as Weir opens it, without the rest of Weir. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import type { S3Config } from "../../src/config/types.ts";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import { LOCK_KEY, TEMPORARY_FOLDER } from "../../src/storage/layout.ts";
import { openStorage, type Storage, type Tiers } from "../../src/storage/open-storage.ts";
import type { DiskRoom } from "../../src/storage/tiered/carries.ts";
import { filesOpenBelow } from "./open-files.ts";
import { tempFolder } from "./processes.ts";
import { openTestBucket } from "./s3-store.ts";

/** As much room on the disk as anybody wants. */
export const boundlessDisk: DiskRoom = {
  reserve: async () => ({ keep: true, release() {} }),
  emergency: async () => false,
  used() {},
  limitBytes: () => undefined,
};

export interface TieredStore {
  readonly root: string;
  readonly storage: Storage;
  readonly tiers: Tiers;
  /** The disk's and the bucket's. */
  readonly blobs: BlobStore;
  /** Everything has been sent to the bucket. */
  sent(): Promise<void>;
  /** Temporary files, open files and unfinished uploads. */
  leftovers(): Promise<string[]>;
}

/** Closed with `stack`. */
export async function openTieredStore(
  stack: AsyncDisposableStack,
  s3: S3Config,
  o: { readonly root?: string; readonly room?: DiskRoom } = {},
): Promise<TieredStore> {
  const root = o.root ?? join(await tempFolder(stack), "data");
  const deps = { clock: systemClock, random: Math.random, log: silentLog };
  const storage = await openStorage({ driver: "tiered", filesystem: { root, shared: false }, s3 }, deps);
  stack.defer(() => storage.close());
  const { tiers } = storage;
  if (tiers === undefined) throw new Error("there is no bucket behind the disk");
  return {
    root,
    storage,
    tiers,
    blobs: tiers.over(storage.blobs, o.room ?? boundlessDisk),
    sent: () => allSent(tiers),
    async leftovers() {
      // Which stay open for a moment.
      await storage.blobs.close();
      const bucket = await openTestBucket(stack, s3);
      const uploads: string[] = [];
      for await (const { key } of bucket.uploads("", { signal: new AbortController().signal })) uploads.push(key);
      const open = (await filesOpenBelow(root)).filter((path) => path !== join(root, LOCK_KEY));
      return [...(await readdir(join(root, TEMPORARY_FOLDER))), ...open, ...uploads];
    },
  };
}

async function allSent({ queue }: Tiers): Promise<void> {
  while (queue.waiting.entries > 0) await new Promise((resolve) => setTimeout(resolve, 2));
}
