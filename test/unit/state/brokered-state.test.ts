import { expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { brokerState, createBrokeredState } from "../../../src/state/brokered-state.ts";
import { createMemoryState } from "../../../src/state/memory-state.ts";
import type { Near } from "../../../src/state/near.ts";
import type { StateStore } from "../../../src/state/state-store.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { linePair } from "../../support/port-pair.ts";

function parentStores(clock: ManualClock): (name: string) => StateStore<unknown> {
  const stores = new Map<string, StateStore<unknown>>();
  return (name) => {
    const store = stores.get(name) ?? createMemoryState<unknown>({ clock, log: silentLog });
    stores.set(name, store);
    return store;
  };
}

test("C4 what one worker remembers, another knows; stores of two names never meet", async () => {
  const clock = new ManualClock();
  const stores = parentStores(clock);
  const lines = [linePair(), linePair()] as const;
  for (const { parent } of lines) brokerState(parent, stores);
  const [a, b] = lines.map(({ worker }) => createBrokeredState<{ n: number }>(worker, "x", undefined));
  await a?.set("tag a/b 1", { n: 1 }, 1000);
  expect(await a?.get("tag a/b 1")).toEqual({ n: 1 });
  expect(await b?.get("tag a/b 1")).toEqual({ n: 1 });
  expect(await createBrokeredState(lines[0].worker, "y", undefined).get("tag a/b 1")).toBeUndefined();
  clock.advance(1000);
  expect(await b?.get("tag a/b 1")).toBeUndefined();
  await a?.set("z", { n: 2 }, 1000);
  await a?.delete("z");
  expect(await a?.get("z")).toBeUndefined();
});

test("C2 without the parent a worker goes by its own memory", async () => {
  const clock = new ManualClock();
  const { parent, worker, die } = linePair();
  brokerState(parent, parentStores(clock));
  const near = createMemoryState<Near<number>>({ clock, log: silentLog });
  const state = createBrokeredState<number>(worker, "x", near);
  await state.set("a", 1, 60_000);
  die();
  expect(await state.get("a")).toBe(1);
  expect(await state.get("b")).toBeUndefined();
  await state.set("b", 2, 60_000);
  expect(await state.get("b")).toBe(2);
});

test("what another worker wrote is believed for a second, then looked up again", async () => {
  const clock = new ManualClock();
  const stores = parentStores(clock);
  const { parent, worker } = linePair();
  brokerState(parent, stores);
  const state = createBrokeredState<number>(worker, "x", createMemoryState<Near<number>>({ clock, log: silentLog }));
  await stores("x").set("a", 1, 60_000);
  expect(await state.get("a")).toBe(1);
  await stores("x").set("a", 2, 60_000);
  expect(await state.get("a")).toBe(1);
  clock.advance(1_000);
  expect(await state.get("a")).toBe(2);
});

test("a question that finds nothing is not put again for a while, unless the latest is wanted", async () => {
  const clock = new ManualClock();
  const [a, b] = [linePair(), linePair()];
  let asked = 0;
  const stores = parentStores(clock);
  brokerState(b.parent, stores);
  brokerState(a.parent, (name) => {
    asked += 1;
    return stores(name);
  });
  const near = createMemoryState<Near<number>>({ clock, log: silentLog });
  const state = createBrokeredState<number>(a.worker, "x", near);
  for (let i = 0; i < 100; i += 1) expect(await state.get("a")).toBeUndefined();
  expect(asked).toBe(1);
  await createBrokeredState<number>(b.worker, "x", undefined).set("a", 1, 10_000);
  expect(await createBrokeredState<number>(b.worker, "x", undefined).get("a")).toBe(1);
  expect(await state.get("a")).toBeUndefined();
  expect(await state.get("a", { latest: true })).toBe(1);
  expect(await state.get("a")).toBe(1);
  expect(asked).toBe(2);
  clock.advance(1_000);
  expect(await state.get("a")).toBe(1);
  expect(asked).toBe(3);
});

test("what a worker has written itself stays, though it was found absent a moment ago", async () => {
  const clock = new ManualClock();
  const { parent, worker } = linePair();
  brokerState(parent, parentStores(clock));
  const near = createMemoryState<Near<number>>({ clock, log: silentLog });
  const state = createBrokeredState<number>(worker, "x", near);
  const looking = state.get("a");
  await state.set("a", 1, 10_000);
  await looking;
  expect(await state.get("a")).toBe(1);
});
