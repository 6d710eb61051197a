import { randomUUID } from "node:crypto";
import { BucketRoom } from "../proxy/bucket-room/bucket-room.ts";
import { Marks } from "../proxy/bucket-room/marks.ts";
import type { BucketSide } from "../storage/open-storage.ts";
import type { Repositories } from "../storage/repositories.ts";
import { createRoomRecords } from "../storage/room-records.ts";
import type { RoomParts } from "./room.ts";

/** The room of a bucket, behind a disk or by itself. */
export function composeBucketRoom(bucket: BucketSide, repositories: Repositories, parts: RoomParts): BucketRoom {
  const { storage, clock, log, observer } = parts;
  const { tiers } = storage;
  // What is read through the measured store counts among the storage's operations.
  const store = tiers === undefined ? storage.blobs : bucket.blobs;
  return new BucketRoom({
    bucket,
    store,
    repositories,
    records: createRoomRecords(bucket.objects, store),
    marks: bucketMarks(bucket, parts),
    limits: () => parts.bucketLimits(),
    morePins: (o) => parts.pins.read(o),
    onlyBounded: tiers !== undefined,
    evicted(digest, reason, bytes) {
      observer.evicted(tiers === undefined ? reason : "bucket", bytes);
      // A disk in front may still have it.
      if (tiers === undefined) parts.forget(digest);
    },
    newId: randomUUID,
    clock,
    log,
  });
}

/** What goes from the bucket, for whoever sends clients there. */
export function bucketMarks({ records }: BucketSide, { clock, log }: Pick<RoomParts, "clock" | "log">): Marks {
  return new Marks({ records, clock, log });
}
