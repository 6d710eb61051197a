import { beforeEach, expect, test } from "vitest";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { createPinStore, type PinStore } from "../../../src/storage/pins.ts";
import type { SmallObjects } from "../../../src/storage/small-objects.ts";
import { createTieredPins } from "../../../src/storage/tiered/tiered-pins.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../support/memory-store.ts";

const call = { signal: new AbortController().signal };
const PINS = [{ pin: "docker.io/library/app", sinceMs: 1 }];

let clock: ManualClock;
let disk: SmallObjects;
let bucket: SmallObjects;
let down: boolean;
let asked: number;
let pins: PinStore;

beforeEach(() => {
  clock = new ManualClock();
  disk = createMemorySmallObjects();
  bucket = createMemorySmallObjects();
  down = false;
  asked = 0;
  const failing: SmallObjects = {
    ...bucket,
    async get(key, o) {
      asked += 1;
      if (down) throw new StorageError("unavailable", "down");
      return await bucket.get(key, o);
    },
    async put(key, bytes, o) {
      if (down) throw new StorageError("unavailable", "down");
      await bucket.put(key, bytes, o);
    },
  };
  pins = createTieredPins({ disk, bucket: failing, clock });
});

test("what one Weir has pinned all that share the bucket keep", async () => {
  await pins.write(PINS, call);
  expect(await createPinStore(bucket).read(call)).toEqual(PINS);
  expect(await pins.read(call)).toEqual(PINS);
  await createPinStore(bucket).write([], call);
  expect(await pins.read(call)).toEqual([]);
  expect(await createPinStore(disk).read(call)).toEqual([]);
});

test("while the bucket cannot be asked the disk's copy counts, and it is not asked for each eviction", async () => {
  await pins.write(PINS, call);
  down = true;
  for (let i = 0; i < 5; i += 1) expect(await pins.read(call)).toEqual(PINS);
  expect(asked).toBe(1);
  await expect(pins.write([], call)).rejects.toThrow(StorageError);
  expect(await pins.read(call)).toEqual(PINS);
  down = false;
  await createPinStore(bucket).write([], call);
  clock.advance(60_000);
  expect(await pins.read(call)).toEqual([]);
});
