import { expect, test } from "vitest";
import type { Lease, Leases } from "../../../src/cluster/leases.ts";
import { TestBoard } from "../../support/lease-board.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const o = { signal: new AbortController().signal };

async function take(leases: Leases, name: string): Promise<Lease> {
  const acquired = await leases.acquire(name, o);
  if (!("lease" in acquired)) throw new Error(`${name} is held by ${acquired.holder}`);
  return acquired.lease;
}

/** Lets whatever has been resolved run. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
}

async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1_000) {
    clock.advance(1_000);
    await settle();
  }
}

test("C2 a board that is out for long takes no lease away", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  const lease = await take(board.member("a"), "fill x");
  board.down = true;
  await pass(clock, 60_000);
  expect(lease.lost.aborted).toBe(false);
  board.down = false;
  await pass(clock, 4_000);
  expect(lease.lost.aborted).toBe(false);
  expect(await board.member("b").acquire("fill x", o)).toEqual({ holder: "a" });
});

test("C1 who was frozen past its lease and cannot ask has lost it", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  const lease = await take(board.member("a"), "fill x");
  board.down = true;
  clock.advance(60_000);
  await settle();
  expect(lease.lost.aborted).toBe(true);
});

test("C1 who was frozen past its lease keeps it where nobody has taken it", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  const lease = await take(board.member("a"), "fill x");
  clock.advance(60_000);
  await settle();
  expect(lease.lost.aborted).toBe(false);
  expect(await board.member("b").acquire("fill x", o)).toEqual({ holder: "a" });
});

test("C1 who was frozen past its lease learns that somebody else has taken it", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  let cutOff = false;
  const lease = await take(
    board.member("a", () => cutOff),
    "fill x",
  );
  cutOff = true;
  await pass(clock, 10_000);
  await take(board.member("b"), "fill x");
  cutOff = false;
  await pass(clock, 4_000);
  expect(lease.lost.aborted).toBe(true);
});

test("C1 who was frozen past its lease is in doubt until the board was asked, and nobody else ever is", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  const lease = await take(board.member("a"), "fill x");
  await pass(clock, 30_000);
  expect(lease.doubt()).toBeUndefined();
  // What runs before the first timer, as it does in a process that goes on.
  clock.advance(60_000);
  const doubt = lease.doubt();
  expect(doubt).toBeInstanceOf(Promise);
  await doubt;
  expect(lease.doubt()).toBeUndefined();
  expect(lease.lost.aborted).toBe(false);
});

test("C1 who was frozen and has lost its lease knows it when the doubt is over", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  const thaw = Promise.withResolvers<void>();
  let frozen = Promise.resolve();
  const leases = board.member(
    "a",
    () => false,
    () => frozen,
  );
  const lease = await take(leases, "fill x");
  frozen = thaw.promise;
  clock.advance(60_000);
  await take(board.member("b"), "fill x");
  const doubt = lease.doubt();
  expect(lease.lost.aborted).toBe(false);
  thaw.resolve();
  await doubt;
  expect(lease.lost.aborted).toBe(true);
});
