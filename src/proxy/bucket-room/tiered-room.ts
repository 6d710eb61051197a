import type { RunningRoom } from "../create-room.ts";
import type { BucketRoom } from "./bucket-room.ts";

/** The room of a disk, where room is made, and with it that of the bucket behind it, which the disk's tells of what is used. */
export function createTieredRoom(disk: RunningRoom, bucket: BucketRoom): RunningRoom {
  return {
    get blobs() {
      return disk.blobs;
    },
    touch: (digest) => disk.touch(digest),
    added: (digest, occupied) => disk.added(digest, occupied),
    removed: (digest) => disk.removed(digest),
    linked: (repo, link) => disk.linked(repo, link),
    glance: (digest) => disk.glance(digest),
    reserve: (bytes, o) => disk.reserve(bytes, o),
    emergency: (bytes, o) => disk.emergency(bytes, o),
    async *collect(o) {
      yield* disk.collect(o);
      yield* bucket.collect(o);
    },
    usage: () => disk.usage(),
    prospect: (digests, o) => disk.prospect(digests, o),
    start() {
      disk.start();
      bucket.start();
    },
    limitsChanged() {
      disk.limitsChanged();
      bucket.limitsChanged();
    },
    async stop(o) {
      await Promise.all([disk.stop(o), bucket.stop(o)]);
    },
  };
}
