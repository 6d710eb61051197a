import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { compilePin } from "../config/room.ts";
import type { Config, StorageConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import { createTieredRoom } from "../proxy/bucket-room/tiered-room.ts";
import { createRoom, type RoomObserver, type RunningRoom } from "../proxy/create-room.ts";
import type { Fills } from "../proxy/fills.ts";
import type { OperatorPins } from "../proxy/operator-pins.ts";
import { createRemoteRoom, type RoomLine } from "../proxy/remote-room.ts";
import type { Room, RoomUsage } from "../proxy/room.ts";
import type { Marks, RoomLimits } from "../proxy/room-eviction.ts";
import { RoomySmallObjects } from "../proxy/room-store.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import { sharesDevice } from "../storage/fs/device.ts";
import type { Storage } from "../storage/open-storage.ts";
import type { Repositories } from "../storage/repositories.ts";
import { createRepositories } from "../storage/repositories-store.ts";
import { createRoomRecords } from "../storage/room-records.ts";
import type { DiskRoom } from "../storage/tiered/carries.ts";
import { bucketMarks, composeBucketRoom } from "./bucket-room.ts";

export interface RoomParts {
  readonly storage: Storage;
  /** Where downloads under way are. */
  readonly spoolDir: string;
  limits(): RoomLimits;
  /** Of the bucket, where there is one. */
  bucketLimits(): RoomLimits;
  /** What an operator has pinned. */
  readonly pins: Pick<OperatorPins, "read">;
  /** Something of the repository was written (`came`), or is gone (`left`). */
  changed(repo: RepoRef, how: "came" | "left"): void;
  /** Undefined until there are any. */
  fills(): Fills | undefined;
  forget(digest: Digest): void;
  /** A worker's line to its parent, which keeps the account for all of them. */
  readonly parent: RoomLine | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: RoomObserver;
}

/** The room with what goes through it. */
export interface ComposedRoom {
  readonly room: RunningRoom;
  /** Everything that is held: what goes through it is counted. */
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  /** Of a bucket behind a disk. */
  readonly bucketUsage: (() => RoomUsage) | undefined;
  /** For the fills: deleting blobs is of no use to a spool on another disk. */
  readonly fillRoom: Pick<Room, "reserve" | "emergency">;
}

export async function composeRoom(parts: RoomParts): Promise<ComposedRoom> {
  const { storage, spoolDir, clock, log, observer } = parts;
  const { blobs, objects, root, tiers, bucket } = storage;
  const shared = root !== undefined && (await sharesDevice(root.path, spoolDir));
  const running: { room?: RunningRoom } = {};
  const repositories = createRepositories(new RoomySmallObjects(objects, () => running.room), log, {
    linking: (repo, link) => running.room?.linked(repo, link),
    changed: (repo, how) => parts.changed(repo, how),
  });
  if (parts.parent !== undefined) {
    const forget = (digest: Digest): void => parts.forget(digest);
    const redirects = bucket && bucketMarks(bucket, parts);
    running.room = createRemoteRoom({ line: parts.parent, blobs, redirects, forget, clock });
  }
  const bucketRoom =
    bucket === undefined || parts.parent !== undefined ? undefined : composeBucketRoom(bucket, repositories, parts);
  const diskRoom = (): RunningRoom =>
    createRoom({
      blobs,
      ...(tiers === undefined
        ? { repositories, records: createRoomRecords(objects, blobs) }
        : {
            // What only the bucket has takes no room here, and asking for it would cost requests.
            repositories: createRepositories(tiers.diskObjects, log),
            records: createRoomRecords(tiers.diskObjects, blobs),
            unsent: tiers.queue,
            isFront: true,
            behind: bucketRoom,
          }),
      limits: () => parts.limits(),
      morePins: (o) => parts.pins.read(o),
      spooledBytes: () => (shared ? (parts.fills()?.leftoverBytes ?? 0) : 0),
      forget: (digest) => parts.forget(digest),
      clock,
      log,
      observer,
    });
  const room =
    running.room ??
    (bucketRoom === undefined
      ? diskRoom()
      : tiers === undefined
        ? bucketRoom
        : createTieredRoom(diskRoom(), bucketRoom));
  running.room = room;
  const front: DiskRoom = {
    reserve: (bytes, o) => room.reserve(bytes, o),
    emergency: (bytes, o) => room.emergency(bytes, o),
    used: (digest) => void (bucketRoom ?? room).touch(digest),
    limitBytes: () => parts.limits().total?.limit,
  };
  return {
    room,
    blobs: tiers === undefined ? room.blobs : tiers.over(room.blobs, front),
    repositories,
    bucketUsage: bucketRoom && tiers && (() => bucketRoom.usage()),
    fillRoom: {
      reserve: (bytes, o) => room.reserve(bytes, o),
      emergency: async (bytes, o) => shared && (await room.emergency(bytes, o)),
    },
  };
}

/** What the configuration says of room, in bytes. */
export function roomLimits({ storage, upstreams }: Config): RoomLimits {
  const { maxAgeMs, pins, maxSize } = storage.room;
  return {
    total: marksOf(storage, storage.driver === "s3" ? storage.s3?.maxSize : maxSize),
    upstreams: new Map(
      upstreams.flatMap(({ name, maxSize: limit }) => {
        const marks = marksOf(storage, limit);
        return marks === undefined ? [] : [[name, marks] as const];
      }),
    ),
    maxAgeMs,
    pins: pins.map(compilePin),
  };
}

/** The same of the bucket. Behind a disk the caps of upstreams are the disk's. */
export function bucketLimits(config: Config): RoomLimits {
  const limits = roomLimits(config);
  const { storage } = config;
  return storage.driver === "s3"
    ? limits
    : { ...limits, total: marksOf(storage, storage.s3?.maxSize), upstreams: new Map() };
}

function marksOf({ room }: Pick<StorageConfig, "room">, limit: number | undefined): Marks | undefined {
  return limit === undefined ? undefined : { limit, high: limit * room.highWater, low: limit * room.lowWater };
}
