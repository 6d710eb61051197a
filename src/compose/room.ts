import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { compilePin } from "../config/room.ts";
import type { Config } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { createRoom, type RoomObserver, type RunningRoom } from "../proxy/create-room.ts";
import type { Fills } from "../proxy/fills.ts";
import { createRemoteRoom, type RoomLine } from "../proxy/remote-room.ts";
import type { Room } from "../proxy/room.ts";
import type { Marks, RoomLimits } from "../proxy/room-eviction.ts";
import { RoomySmallObjects } from "../proxy/room-store.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import { sharesDevice } from "../storage/fs/device.ts";
import type { Storage } from "../storage/open-storage.ts";
import type { Repositories } from "../storage/repositories.ts";
import { createRepositories } from "../storage/repositories-store.ts";
import { createRoomRecords } from "../storage/room-records.ts";
import type { DiskRoom } from "../storage/tiered/carries.ts";

export interface RoomParts {
  readonly storage: Storage;
  /** Where downloads under way are. */
  readonly spoolDir: string;
  limits(): RoomLimits;
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
  /** For the fills: deleting blobs is of no use to a spool on another disk. */
  readonly fillRoom: Pick<Room, "reserve" | "emergency">;
}

export async function composeRoom(parts: RoomParts): Promise<ComposedRoom> {
  const { storage, spoolDir, clock, log, observer } = parts;
  const { blobs, objects, root, tiers } = storage;
  const shared = root !== undefined && (await sharesDevice(root.path, spoolDir));
  const running: { room?: RunningRoom } = {};
  const repositories = createRepositories(new RoomySmallObjects(objects, () => running.room), log, {
    linking: (repo, link) => running.room?.linked(repo, link),
  });
  if (parts.parent !== undefined) {
    const forget = (digest: Digest): void => parts.forget(digest);
    running.room = createRemoteRoom({ line: parts.parent, blobs, forget, clock });
  }
  const room =
    running.room ??
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
          }),
      limits: () => parts.limits(),
      graceMs: storage.graceMs,
      spooledBytes: () => (shared ? (parts.fills()?.leftoverBytes ?? 0) : 0),
      forget: (digest) => parts.forget(digest),
      clock,
      log,
      observer,
    });
  running.room = room;
  const diskRoom: DiskRoom = {
    reserve: (bytes, o) => room.reserve(bytes, o),
    emergency: (bytes, o) => room.emergency(bytes, o),
    limitBytes: () => parts.limits().total?.limit,
  };
  return {
    room,
    blobs: tiers === undefined ? room.blobs : tiers.over(room.blobs, diskRoom),
    repositories,
    fillRoom: {
      reserve: (bytes, o) => room.reserve(bytes, o),
      emergency: async (bytes, o) => shared && (await room.emergency(bytes, o)),
    },
  };
}

/** What the configuration says of room, in bytes. */
export function roomLimits({ storage, upstreams }: Config): RoomLimits {
  const { highWater, lowWater, maxAgeMs, pins } = storage.room;
  const maxSize = storage.driver === "s3" ? storage.s3?.maxSize : storage.room.maxSize;
  const marks = (limit: number): Marks => ({ limit, high: limit * highWater, low: limit * lowWater });
  return {
    total: maxSize === undefined ? undefined : marks(maxSize),
    upstreams: new Map(
      upstreams.flatMap(({ name, maxSize: limit }) => (limit === undefined ? [] : [[name, marks(limit)] as const])),
    ),
    maxAgeMs,
    pins: pins.map(compilePin),
  };
}
