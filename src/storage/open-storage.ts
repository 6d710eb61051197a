import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { StorageConfig } from "../config/types.ts";
import { type BlobStore, StorageError } from "./blob-store.ts";
import { type BucketRecords, createBucketRecords } from "./bucket-records.ts";
import { createCachedObjects } from "./cached-objects.ts";
import { createFsBlobStore } from "./fs/fs-blob-store.ts";
import { createFsSmallObjects } from "./fs/fs-small-objects.ts";
import { type OpenRoot, openRoot, type RootUse } from "./fs/root.ts";
import { parseKey } from "./layout.ts";
import { type MeasureDeps, measuredBlobs, measuredObjects } from "./measured.ts";
import { openBucket } from "./s3/bucket.ts";
import { DISK_IN_FRONT } from "./s3/retrying.ts";
import { type BucketBlobStore, createS3BlobStore, PRESIGNED_S } from "./s3/s3-blob-store.ts";
import { createS3SmallObjects } from "./s3/s3-small-objects.ts";
import { UploadSweeper } from "./s3/upload-sweeper.ts";
import { MAX_OBJECT_BYTES, type SmallObjects } from "./small-objects.ts";
import type { DiskRoom } from "./tiered/carries.ts";
import { createTieredBlobStore, sendBlob } from "./tiered/tiered-blob-store.ts";
import { createTieredSmallObjects, sendObject } from "./tiered/tiered-small-objects.ts";
import { UploadQueue } from "./tiered/upload-queue.ts";

/** The part of the configuration that says where. */
export type StorageLocation = Pick<StorageConfig, "driver" | "filesystem" | "s3">;

/** Where everything is kept, whatever the driver. */
export interface Storage {
  readonly blobs: BlobStore;
  readonly objects: SmallObjects;
  /** The folder that this process alone writes to; undefined for a bucket, which several processes may use at once. */
  readonly root: OpenRoot | undefined;
  /** Where there is a bucket behind `blobs`, which then are the disk's. */
  readonly tiers: Tiers | undefined;
  /** The bucket itself, where there is one: other processes may use it, too. */
  readonly bucket: BucketSide | undefined;
  /**
   * To be called with the key of a small object that another process of this machine has written or deleted, or without where it
   * may have been any; undefined where not all who write can tell.
   */
  readonly heard: ((key?: string) => void) | undefined;
  close(): Promise<void>;
}

/** What looking after a bucket needs of it. */
export interface BucketSide {
  readonly blobs: BucketBlobStore;
  readonly records: BucketRecords;
  /** Links and records as they are there. */
  readonly objects: SmallObjects;
  /** How long clients may read a blob to which they were sent, in milliseconds. */
  readonly presignedMs: number;
}

/** A disk in front of a bucket. */
export interface Tiers {
  /** The disk's own links and records. */
  readonly diskObjects: SmallObjects;
  /** What is on the disk, and not yet in the bucket. */
  readonly queue: UploadQueue;
  /** Everything, once the disk's blobs are looked after. Closed with the storage. */
  over(disk: BlobStore, room: DiskRoom): BlobStore;
}

export interface StorageDeps {
  readonly clock: Clock;
  /** As `Math.random`; spreads the waiting times. */
  readonly random: () => number;
  readonly log: Log;
  /** Left out, nothing is reported. */
  readonly measure?: MeasureDeps;
  /** Told of each link or record that was written or deleted here, or may have been. */
  readonly written?: (key: string) => void;
  /** Who else writes to the folder; as the configuration says, if left out. */
  readonly use?: RootUse;
  /** Processes under this one write, too. */
  readonly hasChildren?: boolean;
}

/** Share of what the disk may hold that may wait for the bucket: the rest can make room for what is pulled meanwhile. */
const WAITING_SHARE = 0.8;

/** A pull reads the same few links and records several times; another Weir's writes to the bucket are seen after so long. */
export const SHARED_AGE_MS = 5_000;

/**
 * Opens what the configuration names. Rejects with a StorageError that says which key to change where it cannot be used,
 * and then holds nothing.
 */
export async function openStorage(config: StorageLocation, deps: StorageDeps): Promise<Storage> {
  switch (config.driver) {
    case "filesystem":
      return await openFolder(config, deps);
    case "s3":
      return await openS3(config, deps);
    case "tiered":
      return await openTiered(config, deps);
  }
}

async function openFolder(
  config: StorageLocation,
  { clock, log, use, measure, written }: StorageDeps,
): Promise<Storage> {
  const { shared } = config.filesystem;
  const root = await openRoot(config.filesystem.root, use ?? (shared ? "shared" : "alone"));
  try {
    if (root.full) {
      log.warn(
        { root: root.path },
        "the storage has no room, or no inode, left (see df and df -i): nothing can be kept",
      );
    }
    const store = await createFsBlobStore({ root: root.path, log, clock, remote: shared });
    const blobs = measured(store, measure, measuredBlobs);
    const age = shared || use === "under-parent" ? { clock, maxAgeMs: SHARED_AGE_MS } : undefined;
    const files = measured(await createFsSmallObjects({ root: root.path }), measure, measuredObjects);
    const objects = createCachedObjects(files, age, written);
    return {
      blobs,
      objects,
      root,
      tiers: undefined,
      bucket: undefined,
      heard: shared ? undefined : (key) => objects.forget(key),
      async close() {
        await blobs.close();
        await root.close();
      },
    };
  } catch (error) {
    await root.close();
    throw error;
  }
}

async function openS3(config: StorageLocation, deps: StorageDeps): Promise<Storage> {
  const { s3 } = config;
  const { measure } = deps;
  if (s3 === undefined) throw new RangeError("storage.s3 is missing");
  const bucket = await openBucket(s3, deps);
  try {
    await bucket.check({ signal: new AbortController().signal });
  } catch (error) {
    bucket.close();
    throw error;
  }
  const blobs = createS3BlobStore({ ...deps, bucket, redirect: s3.redirect });
  const sweeper = new UploadSweeper(blobs, deps);
  if (deps.use !== "under-parent") sweeper.start();
  const objects = measured(createS3SmallObjects(bucket), measure, measuredObjects);
  return {
    blobs: measured(blobs, measure, measuredBlobs),
    objects: createCachedObjects(objects, { clock: deps.clock, maxAgeMs: SHARED_AGE_MS }, deps.written),
    root: undefined,
    tiers: undefined,
    bucket: bucketSide(blobs, objects),
    heard: undefined,
    async close() {
      await sweeper.stop();
      await blobs.close();
      bucket.close();
    },
  };
}

/** The disk has to be there, the bucket need not: it may be back later. */
async function openTiered(config: StorageLocation, deps: StorageDeps): Promise<Storage> {
  const { s3 } = config;
  const { clock, random, log, measure, use, hasChildren = false } = deps;
  if (s3 === undefined) throw new RangeError("storage.s3 is missing");
  const front = await openFolder(config, deps);
  const { root } = front;
  if (root === undefined) throw new RangeError("a disk has a root");
  const stopping = new AbortController();
  const disk = front.blobs;
  const diskObjects = await createFsSmallObjects({ root: root.path });
  const bucket = await openBucket(s3, { clock, random, patience: DISK_IN_FRONT });
  const far = createS3BlobStore({ clock, random, log, bucket, redirect: false });
  const farObjects = createS3SmallObjects(bucket);
  let room: DiskRoom | undefined;
  const sends = use !== "under-parent";
  const queue = new UploadQueue({
    notes: diskObjects,
    async send(key, errand, o) {
      const parsed = parseKey(key);
      // Before it is looked for there: what is found is used by this.
      if (parsed?.kind === "blob" && errand === "keep") room?.used(parsed.digest);
      return parsed?.kind === "blob"
        ? await sendBlob(parsed.digest, errand, { disk, bucket: far, root: root.path }, o)
        : await sendObject(key, errand, { disk: diskObjects, bucket: farObjects }, o);
    },
    makeRoom: async (o) => (await room?.emergency(MAX_OBJECT_BYTES, o)) === true,
    async bytesOf(key, o) {
      const parsed = parseKey(key);
      return parsed?.kind === "blob" ? ((await disk.stat(parsed.digest, o))?.size ?? 0) : 0;
    },
    maxBytes() {
      const limit = room?.limitBytes();
      return limit && limit * WAITING_SHARE;
    },
    sends,
    hasOthers: hasChildren,
    clock,
    random,
    log,
  });
  const sweeper = new UploadSweeper(far, { clock, log });
  const objects = createTieredSmallObjects({ disk: diskObjects, bucket: farObjects, queue, clock, log });
  const over: BlobStore[] = [];
  const close = async (): Promise<void> => {
    stopping.abort(new StorageError("unavailable", "the store is closed"));
    await queue.stop();
    await sweeper.stop();
    for (const store of over) await store.close();
    bucket.close();
    await front.close();
  };
  if (sends) {
    try {
      await queue.load(stopping);
    } catch (error) {
      await close();
      throw error;
    }
    queue.start();
    sweeper.start();
    bucket.check(stopping).catch((error: unknown) => {
      if (!stopping.signal.aborted) log.warn({ err: error }, "S3 cannot be used now: there is what the disk has");
    });
  }
  return {
    blobs: disk,
    objects: createCachedObjects(
      measured(objects, measure, measuredObjects),
      { clock, maxAgeMs: SHARED_AGE_MS },
      deps.written,
    ),
    root,
    tiers: {
      diskObjects,
      queue,
      over(held, heldRoom) {
        room = heldRoom;
        const store = createTieredBlobStore({
          disk: held,
          bucket: measured<BlobStore>(far, measure, measuredBlobs),
          queue,
          root: root.path,
          room: heldRoom,
          log,
        });
        over.push(store);
        return store;
      },
    },
    bucket: bucketSide(far, farObjects),
    heard: undefined,
    close,
  };
}

function bucketSide(blobs: BucketBlobStore, objects: SmallObjects): BucketSide {
  return { blobs, records: createBucketRecords(objects), objects, presignedMs: PRESIGNED_S * 1000 };
}

function measured<T>(store: T, deps: MeasureDeps | undefined, measure: (store: T, deps: MeasureDeps) => T): T {
  return deps === undefined ? store : measure(store, deps);
}
