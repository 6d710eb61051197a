import { expect, test } from "vitest";
import { Rate, RateFloor } from "../../../src/proxy/fill-rate.ts";
import { ManualClock } from "../../support/manual-clock.ts";

test("the rate follows what has been measured of late, pauses included", () => {
  const clock = new ManualClock();
  const rate = new Rate(clock);
  expect(rate.get()).toBe(0);
  for (let tenth = 0; tenth < 100; tenth += 1) {
    rate.add(1_000);
    clock.advance(100);
  }
  expect(rate.get()).toBeCloseTo(10, 0);
  clock.advance(2_000);
  expect(rate.get()).toBeCloseTo(10 / Math.E, 0);
  clock.advance(60_000);
  expect(rate.get()).toBeLessThan(0.001);
});

/** Whether the floor of 100 bytes/s is found to be breached after what `feed` does. */
async function breached(feed: (floor: RateFloor, clock: ManualClock) => void): Promise<boolean> {
  const clock = new ManualClock();
  const floor = new RateFloor(clock, 100);
  const over = new AbortController();
  let found = false;
  const watching = floor.breached(over.signal).then(
    () => {
      found = true;
    },
    () => {},
  );
  const step = clock.advance.bind(clock);
  const turns: Promise<void>[] = [];
  clock.advance = (ms) => {
    step(ms);
    turns.push(Promise.resolve());
  };
  feed(floor, clock);
  for (let turn = 0; turn < 200; turn += 1) {
    await Promise.resolve();
    // Sleeps that were asked for meanwhile and are over already.
    step(0);
  }
  over.abort();
  await watching;
  return found;
}

test.for([
  ["nothing in 30 s of waiting", 30_000, 0, true],
  ["nothing in less", 29_999, 0, false],
  ["less than the floor", 30_000, 2_999, true],
  ["as much as the floor", 30_000, 3_000, false],
] as const)("the floor: %s", async ([, waitedMs, bytes, is]) => {
  expect(
    await breached((floor, clock) => {
      floor.asked();
      clock.advance(waitedMs / 2);
      floor.got(bytes);
      floor.asked();
      clock.advance(waitedMs - waitedMs / 2);
    }),
  ).toBe(is);
});

test("the floor: time in which nobody asks does not count", async () => {
  expect(
    await breached((floor, clock) => {
      floor.asked();
      clock.advance(10);
      floor.got(1);
      clock.advance(600_000);
    }),
  ).toBe(false);
});
