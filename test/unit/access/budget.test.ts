import { describe, expect, test } from "vitest";
import { FetchBudgets, type SpentBudget } from "../../../src/access/budget.ts";
import { anonymous, type Identity } from "../../../src/access/identity.ts";
import { silentLog } from "../../../src/base/log.ts";
import { createMemoryState } from "../../../src/state/memory-state.ts";
import { lookNear, type Near } from "../../../src/state/near.ts";
import type { StateStore } from "../../../src/state/state-store.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const HOUR = 3_600_000;
const REPO = { upstream: "docker.io", repository: "team/app" };
const CI: Identity = { ...anonymous("192.0.2.7"), account: "ci", via: "password" };
const CONFIG = { bytes: 1000, repositories: 2, perMs: 24 * HOUR };

function bench() {
  const clock = new ManualClock();
  const store = createMemoryState<SpentBudget>({ clock, log: silentLog });
  return { clock, store, budgets: new FetchBudgets({ store, clock }) };
}

/** Resolves when what has been added before is written. */
async function settled(store: StateStore<SpentBudget>, key: string, bytes: number): Promise<void> {
  await expect.poll(async () => (await store.get(key))?.bytes).toBe(bytes);
}

describe("one process", () => {
  test("the budget is spent when as much has come, and whole again when its time is over", async () => {
    const { clock, store, budgets } = bench();
    const ci = budgets.of(CONFIG, CI);
    expect(await ci.spent(REPO)).toBeUndefined();
    ci.add(REPO, 600);
    await settled(store, "account ci", 600);
    clock.advance(HOUR);
    ci.add(REPO, 399);
    await settled(store, "account ci", 999);
    expect(await ci.spent(REPO)).toBeUndefined();
    ci.add(REPO, 1);
    await settled(store, "account ci", 1000);
    const refusal = await ci.spent(REPO);
    expect(refusal).toMatchObject({
      code: "TOOMANYREQUESTS",
      status: 429,
      reason: "budget",
      detail: { key: "access.fetchBudget.bytes" },
      headers: { "retry-after": String(23 * 3600) },
    });
    expect(await budgets.of(CONFIG, { ...CI, account: "other" }).spent(REPO)).toBeUndefined();
    expect(await budgets.of(CONFIG, anonymous("192.0.2.7")).spent(REPO)).toBeUndefined();
    clock.advance(23 * HOUR);
    expect(await ci.spent(REPO)).toBeUndefined();
  });

  test("additions that come at the same time are all counted, and corrections taken back", async () => {
    const { store, budgets } = bench();
    const ci = budgets.of(CONFIG, CI);
    for (let i = 0; i < 20; i += 1) ci.add(REPO, 10);
    ci.add(REPO, -50);
    await settled(store, "account ci", 150);
  });

  test("a limit that is made smaller counts at once", async () => {
    const { store, budgets } = bench();
    budgets.of(CONFIG, CI).add(REPO, 600);
    await settled(store, "account ci", 600);
    expect(await budgets.of({ ...CONFIG, bytes: 500 }, CI).spent(REPO)).toMatchObject({ status: 429 });
  });

  test("the list of repositories is no longer than the limit", async () => {
    const { store, budgets } = bench();
    const ci = budgets.of(CONFIG, CI);
    for (let i = 1; i <= 5; i += 1) ci.add({ upstream: "docker.io", repository: `team/app${i}` }, 1);
    await settled(store, "account ci", 5);
    expect((await store.get("account ci"))?.repositories).toHaveLength(2);
    expect(await ci.spent({ upstream: "docker.io", repository: "team/app1" })).toBeUndefined();
    expect(await ci.spent({ upstream: "docker.io", repository: "team/app5" })).toMatchObject({
      detail: { key: "access.fetchBudget.repositories" },
    });
  });
});

describe("several processes", () => {
  test("C2 that share their state count together", async () => {
    const { clock, store, budgets } = bench();
    const beside = new FetchBudgets({ store, clock });
    budgets.of(CONFIG, CI).add(REPO, 600);
    await settled(store, "account ci", 600);
    beside.of(CONFIG, CI).add(REPO, 600);
    await settled(store, "account ci", 1200);
    expect(await budgets.of(CONFIG, CI).spent(REPO)).toMatchObject({ status: 429 });
    expect(await beside.of(CONFIG, CI).spent(REPO)).toMatchObject({ status: 429 });
  });

  test("C2 one that has counted itself hears within a second of what others count, and asks no more often", async () => {
    const { clock, store: shared } = bench();
    const deps = { clock, log: silentLog };
    let asked = 0;
    const near = createMemoryState<Near<SpentBudget>>(deps);
    // As a store over Redis is for one of several.
    const store: StateStore<SpentBudget> = {
      get: (key, o) =>
        lookNear(near, key, o, async () => {
          asked += 1;
          return { value: await shared.get(key) };
        }),
      async set(key, value, ttlMs) {
        await near.set(key, { value }, ttlMs);
        await shared.set(key, value, ttlMs);
      },
      delete: async () => {},
    };
    const ci = new FetchBudgets({ store, clock }).of(CONFIG, CI);
    ci.add(REPO, 600);
    await settled(shared, "account ci", 600);
    new FetchBudgets({ store: shared, clock }).of(CONFIG, CI).add(REPO, 600);
    await settled(shared, "account ci", 1200);
    clock.advance(1_000);
    asked = 0;
    expect(await ci.spent(REPO)).toMatchObject({ status: 429 });
    expect(await ci.spent(REPO)).toMatchObject({ status: 429 });
    expect(asked).toBe(1);
    clock.advance(1_000);
    expect(await ci.spent(REPO)).toMatchObject({ status: 429 });
    expect(asked).toBe(2);
  });

  test("C2 a state that is gone leaves each with what it has counted itself", async () => {
    const clock = new ManualClock();
    const gone: StateStore<SpentBudget> = {
      get: async () => undefined,
      set: async () => {},
      delete: async () => {},
    };
    const budgets = new FetchBudgets({ store: gone, clock });
    const ci = budgets.of(CONFIG, CI);
    ci.add(REPO, 1000);
    await expect.poll(async () => (await ci.spent(REPO))?.status).toBe(429);
    expect(await new FetchBudgets({ store: gone, clock }).of(CONFIG, CI).spent(REPO)).toBeUndefined();
  });
});

test("a client of IPv6 is its network, and who has no address is one with all others", async () => {
  const { store, budgets } = bench();
  budgets.of(CONFIG, anonymous("2001:db8::1")).add(REPO, 1000);
  budgets.of(CONFIG, anonymous(undefined)).add(REPO, 1000);
  await settled(store, "address 2001:db8::/64", 1000);
  expect(await budgets.of(CONFIG, anonymous("2001:db8::ffff")).spent(REPO)).toMatchObject({ status: 429 });
  expect(await budgets.of(CONFIG, anonymous("2001:db8:0:1::1")).spent(REPO)).toBeUndefined();
  expect(await budgets.of(CONFIG, anonymous(undefined)).spent(REPO)).toMatchObject({ status: 429 });
});
