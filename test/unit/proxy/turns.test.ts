import { expect, test } from "vitest";
import { createTurns, type Turns } from "../../../src/proxy/turns.ts";
import { TestBoard } from "../../support/lease-board.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const o = { signal: new AbortController().signal };

function fleet(clock: ManualClock, board: TestBoard, cutOff?: () => boolean): Turns {
  return createTurns({ leases: board.member(undefined, cutOff), clock, random: () => 0.5 });
}

/** Lets whatever has been resolved run. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
}

test("C4 processes that want the same take turns, others do not wait", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  const order: string[] = [];
  const first = Promise.withResolvers<void>();
  const a = fleet(clock, board).run("tag x", o, async () => {
    order.push("a begins");
    await first.promise;
    order.push("a ends");
  });
  await settle();
  const b = fleet(clock, board).run("tag x", o, async () => void order.push("b"));
  await fleet(clock, board).run("tag y", o, async () => void order.push("y"));
  clock.advance(1_000);
  await settle();
  expect(order).toEqual(["a begins", "y"]);
  first.resolve();
  await a;
  clock.advance(1_000);
  await b;
  expect(order).toEqual(["a begins", "y", "a ends", "b"]);
});

test("C1 a process that never comes to an end holds the others up no longer than its patience", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  void fleet(clock, board).run("tag x", o, () => new Promise(() => {}));
  await settle();
  let done = false;
  const b = fleet(clock, board).run("tag x", o, async () => {
    done = true;
  });
  for (let ms = 0; ms < 11_000; ms += 100) {
    clock.advance(100);
    await settle();
  }
  expect(done).toBe(false);
  for (let ms = 0; ms < 2_000; ms += 100) {
    clock.advance(100);
    await settle();
  }
  await b;
  expect(done).toBe(true);
});

test("C2 without a board nobody waits", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  board.down = true;
  const held = Promise.withResolvers<void>();
  const a = fleet(clock, board).run("tag x", o, () => held.promise);
  await fleet(clock, board).run("tag x", o, async () => {});
  held.resolve();
  await a;
});

test("who leaves while waiting gets the reason, and what fails frees the turn", async () => {
  const clock = new ManualClock();
  const board = new TestBoard(clock);
  const held = Promise.withResolvers<void>();
  const a = fleet(clock, board).run("tag x", o, () => held.promise);
  await settle();
  const leaving = new AbortController();
  const b = fleet(clock, board).run("tag x", { signal: leaving.signal }, async () => {});
  const refused = expect(b).rejects.toThrow("gone");
  await settle();
  leaving.abort(new Error("gone"));
  await refused;
  held.reject(new Error("broken"));
  await expect(a).rejects.toThrow("broken");
  await fleet(clock, board).run("tag x", o, async () => {});
});
