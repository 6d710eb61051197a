import { expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { createMemoryState } from "../../../src/state/memory-state.ts";
import { ManualClock } from "../../support/manual-clock.ts";

test("keeps a value until its time is over", async () => {
  const clock = new ManualClock();
  const state = createMemoryState<{ n: number }>({ clock, log: silentLog });
  expect(await state.get("a b:c")).toBeUndefined();
  await state.set("a b:c", { n: 1 }, 1000);
  clock.advance(999);
  expect(await state.get("a b:c")).toEqual({ n: 1 });
  clock.advance(1);
  expect(await state.get("a b:c")).toBeUndefined();
});

test("a later value replaces an earlier one, with its own time", async () => {
  const clock = new ManualClock();
  const state = createMemoryState<number>({ clock, log: silentLog });
  await state.set("a", 1, 1000);
  await state.set("a", 2, 5000);
  clock.advance(2000);
  expect(await state.get("a")).toBe(2);
});

test("forgets what it is told to", async () => {
  const state = createMemoryState<number>({ clock: new ManualClock(), log: silentLog });
  await state.set("a", 1, 1000);
  await state.delete("a");
  expect(await state.get("a")).toBeUndefined();
});

test("M13 a million names do not make it grow: the least recently used go first", async () => {
  const state = createMemoryState<number>({ clock: new ManualClock(), log: silentLog, maxEntries: 1000 });
  await state.set("used", 1, 60_000);
  for (let i = 0; i < 1_000_000; i += 1) {
    await state.set(`name-${i}`, i, 60_000);
    if (i % 500 === 0) {
      expect(await state.get("used")).toBe(1);
    }
  }
  expect(await state.get("name-0")).toBeUndefined();
  expect(await state.get("name-998999")).toBeUndefined();
  expect(await state.get("name-999999")).toBe(999_999);
});
