import { expect, test } from "vitest";
import { SEAT_MS, Seat } from "../../../../src/proxy/bucket-room/seat.ts";
import { createBucketRecords } from "../../../../src/storage/bucket-records.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../../support/memory-store.ts";

const call = { signal: new AbortController().signal };

function seats() {
  const clock = new ManualClock();
  const records = createBucketRecords(createMemorySmallObjects());
  const [a, b] = ["a", "b"].map((token) => new Seat({ records, token, clock })) as [Seat, Seat];
  return { clock, records, a, b };
}

test("an empty seat is claimed, and then had; whoever has it keeps the others out", async () => {
  const { a, b } = seats();
  expect([await a.take(call), await a.take(call), await b.take(call), await a.take(call)]).toEqual([
    "claimed",
    "mine",
    "taken",
    "mine",
  ]);
});

test("of two who claim it at once one has it", async () => {
  const { a, b, records } = seats();
  const seen = records.seat;
  // Both look before either writes.
  const both = Promise.withResolvers<void>();
  let looking = 0;
  records.seat = async (o) => {
    const found = await seen(o);
    looking += 1;
    if (looking === 2) both.resolve();
    await both.promise;
    return found;
  };
  expect(await Promise.all([a.take(call), b.take(call)])).toEqual(["claimed", "claimed"]);
  expect([await a.take(call), await b.take(call)].sort()).toEqual(["mine", "taken"]);
});

test("whoever is silent for long loses it, and one that comes back finds it taken", async () => {
  const { clock, a, b } = seats();
  await a.take(call);
  await a.take(call);
  expect(await b.take(call)).toBe("taken");
  clock.advance(SEAT_MS - 1);
  expect(await b.take(call)).toBe("taken");
  await a.take(call);
  clock.advance(2);
  expect(await b.take(call)).toBe("taken");
  clock.advance(SEAT_MS);
  expect([await b.take(call), await b.take(call), await a.take(call)]).toEqual(["claimed", "mine", "taken"]);
});

test("it is given back by whoever has it, and by nobody else", async () => {
  const { a, b, records } = seats();
  await a.take(call);
  await b.leave(call);
  expect(await records.seat(call)).toMatchObject({ token: "a" });
  await a.leave(call);
  await a.leave(call);
  expect(await b.take(call)).toBe("claimed");
});
