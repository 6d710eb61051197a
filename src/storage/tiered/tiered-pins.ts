import type { Clock } from "../../base/clock.ts";
import { StorageError } from "../blob-store.ts";
import { createPinStore, type PinRecord, type PinStore } from "../pins.ts";
import type { SmallObjects } from "../small-objects.ts";

export interface TieredPinsDeps {
  readonly disk: SmallObjects;
  readonly bucket: SmallObjects;
  readonly clock: Clock;
}

/** A bucket that could not be asked is not asked again for so long: who makes room on the disk must not wait for it. */
const LEFT_ALONE_MS = 60_000;

/** The bucket's pins, which all that share it keep to, with a copy on the disk for when it cannot be asked. */
export function createTieredPins({ disk, bucket, clock }: TieredPinsDeps): PinStore {
  const near = createPinStore(disk);
  const far = createPinStore(bucket);
  let failedAtMs = Number.NEGATIVE_INFINITY;
  return {
    async read(o) {
      if (clock.now() - failedAtMs < LEFT_ALONE_MS) return await near.read(o);
      let pins: readonly PinRecord[];
      try {
        pins = await far.read(o);
      } catch (error) {
        o.signal.throwIfAborted();
        if (!(error instanceof StorageError)) throw error;
        failedAtMs = clock.now();
        return await near.read(o);
      }
      if (JSON.stringify(await near.read(o)) !== JSON.stringify(pins)) await near.write(pins, o);
      return pins;
    },
    async write(pins, o) {
      // What the bucket does not take would be forgotten when it is read next.
      await far.write(pins, o);
      failedAtMs = Number.NEGATIVE_INFINITY;
      await near.write(pins, o);
    },
  };
}
