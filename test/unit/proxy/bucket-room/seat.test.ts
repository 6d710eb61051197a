import { expect, test } from "vitest";
import { SEAT_MS, Seat } from "../../../../src/proxy/bucket-room/seat.ts";
import { createBucketRecords } from "../../../../src/storage/bucket-records.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../../support/memory-store.ts";

const call = { signal: new AbortController().signal };
const bounded = { ...call, isBounded: true };
const unbounded = { ...call, isBounded: false };

function seats() {
  const clock = new ManualClock();
  const records = createBucketRecords(createMemorySmallObjects());
  const [a, b] = ["a", "b"].map((token) => new Seat({ records, token, clock })) as [Seat, Seat];
  return { clock, records, a, b };
}

test("an empty seat is claimed, and then had; whoever has it keeps the others out", async () => {
  const { a, b } = seats();
  expect([await a.take(bounded), await a.take(bounded), await b.take(bounded), await a.take(bounded)]).toEqual([
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
  expect(await Promise.all([a.take(bounded), b.take(bounded)])).toEqual(["claimed", "claimed"]);
  expect([await a.take(bounded), await b.take(bounded)].sort()).toEqual(["mine", "taken"]);
});

test("whoever is silent for long loses it, and one that comes back finds it taken", async () => {
  const { clock, a, b } = seats();
  await a.take(bounded);
  await a.take(bounded);
  expect(await b.take(bounded)).toBe("taken");
  clock.advance(SEAT_MS - 1);
  expect(await b.take(bounded)).toBe("taken");
  await a.take(bounded);
  clock.advance(2);
  expect(await b.take(bounded)).toBe("taken");
  clock.advance(SEAT_MS);
  expect([await b.take(bounded), await b.take(bounded), await a.take(bounded)]).toEqual(["claimed", "mine", "taken"]);
});

test("it is given back by whoever has it, and by nobody else", async () => {
  const { a, b, records } = seats();
  await a.take(bounded);
  await b.leave(call);
  expect(await records.seat(call)).toMatchObject({ token: "a" });
  await a.leave(call);
  await a.leave(call);
  expect(await b.take(bounded)).toBe("claimed");
});

test("whoever knows of no limits gives way to one that does, and does not take it back", async () => {
  const { a, b } = seats();
  expect([await a.take(unbounded), await a.take(unbounded), await b.take(unbounded)]).toEqual([
    "claimed",
    "mine",
    "taken",
  ]);
  expect([await b.take(bounded), await b.take(bounded), await a.take(unbounded)]).toEqual(["claimed", "mine", "taken"]);
  expect(await a.take(bounded)).toBe("taken");
});

test("an earlier version's, which does not say, is let have it", async () => {
  const { a, records } = seats();
  await records.putSeat({ token: "c", beat: 1 }, call);
  expect(await a.take(bounded)).toBe("taken");
});
