import { expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { Savings } from "../../../src/proxy/upkeep/savings.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import {
  createSavingsStore,
  parseSavings,
  type SavingsRecord,
  type SavingsStore,
} from "../../../src/storage/savings.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../support/memory-store.ts";

const call = { signal: new AbortController().signal };
const OK = { status: 200, bytesSent: 100 } as const;

interface Bench {
  readonly savings: Savings;
  readonly clock: ManualClock;
  /** What was written, each time. */
  readonly writes: SavingsRecord[];
}

function bench(read?: SavingsRecord): Bench {
  const writes: SavingsRecord[] = [];
  const clock = new ManualClock();
  const store: SavingsStore = {
    read: async () => read,
    async write(record) {
      writes.push(structuredClone(record));
    },
  };
  return { savings: new Savings({ store, clock, log: silentLog }), clock, writes };
}

test("what no upstream was asked for is saved; what one was only asked about has saved its bytes", () => {
  const { savings } = bench();
  for (const cache of ["hit", "miss", "collapsed", "revalidated", "stale", "bypass"] as const) {
    savings.served("docker.io", "library/app", { ...OK, cache });
  }
  savings.served("docker.io", "library/none", { status: 404, bytesSent: 50, cache: "negative" });
  savings.served("docker.io", undefined, { ...OK, cache: "none" });
  savings.served(undefined, undefined, { ...OK, cache: "none" });
  expect(savings.record().upstreams).toEqual({
    "docker.io": {
      requests: 7,
      savedRequests: 4,
      bytes: 650,
      savedBytes: 400,
      // What a client has made up is no repository.
      repositories: { "library/app": { requests: 6, savedRequests: 3, bytes: 600, savedBytes: 400 } },
    },
  });
});

test("it is written once a minute while something is served, and at the end", async () => {
  const { savings, clock, writes } = bench();
  savings.served("quay.io", "a", { ...OK, cache: "hit" });
  savings.served("quay.io", "a", { ...OK, cache: "hit" });
  clock.advance(59_999);
  await Promise.resolve();
  expect(writes).toEqual([]);
  clock.advance(1);
  await expect.poll(() => writes.length).toBe(1);
  expect(writes[0]?.upstreams["quay.io"]?.requests).toBe(2);
  expect(clock.sleepers).toBe(0);
  savings.served("quay.io", "a", { ...OK, cache: "hit" });
  expect(clock.sleepers).toBe(1);
  await savings.stop(call);
  await savings.stop(call);
  expect(writes.map(({ upstreams }) => upstreams["quay.io"]?.requests)).toEqual([2, 3]);
  expect(clock.sleepers).toBe(0);
});

test("it goes on where it was, through the store", async () => {
  const objects = createMemorySmallObjects();
  const store = createSavingsStore(objects);
  const clock = new ManualClock();
  const before = new Savings({ store, clock, log: silentLog });
  await before.load(call);
  before.served("quay.io", "a", { ...OK, cache: "hit" });
  await before.stop(call);
  const since = before.record().sinceMs;
  clock.advance(86_400_000);
  const after = new Savings({ store, clock, log: silentLog });
  await after.load(call);
  after.served("quay.io", "a", { ...OK, cache: "miss" });
  expect(after.record()).toEqual({
    sinceMs: since,
    upstreams: {
      "quay.io": {
        requests: 2,
        savedRequests: 1,
        bytes: 200,
        savedBytes: 100,
        repositories: { a: { requests: 2, savedRequests: 1, bytes: 200, savedBytes: 100 } },
      },
    },
  });
});

test("upstreams and repositories are bounded; the largest stay, and the sums of the others", () => {
  const { savings } = bench();
  for (let i = 0; i < 3000; i += 1) {
    savings.served("docker.io", `repository-${i}`, { status: 200, bytesSent: i, cache: "hit" });
  }
  for (let i = 0; i < 500; i += 1) savings.served(`host-${i}.example`, "a", { ...OK, cache: "hit" });
  const { upstreams } = savings.record();
  expect(Object.keys(upstreams)).toHaveLength(200);
  const names = Object.values(upstreams).flatMap(({ repositories }) => Object.keys(repositories));
  expect(names).toHaveLength(1000);
  expect(names).toContain("repository-1999");
  expect(names).not.toContain("repository-1");
  expect(upstreams["docker.io"]?.requests).toBe(3000);
});

test("a store that fails costs the counts, and no request", async () => {
  const store: SavingsStore = {
    read: () => Promise.reject(new StorageError("unavailable", "down")),
    write: () => Promise.reject(new StorageError("no-space", "full")),
  };
  const savings = new Savings({ store, clock: new ManualClock(), log: silentLog });
  await savings.load(call);
  savings.served("quay.io", "a", { ...OK, cache: "hit" });
  await savings.stop(call);
});

test.each([
  ["{"],
  ["[]"],
  ['{"sinceMs":-1,"upstreams":{}}'],
  ['{"sinceMs":1,"upstreams":{"a":{"requests":1}}}'],
  ['{"sinceMs":1,"upstreams":{"a":{"requests":1,"savedRequests":"x","bytes":1,"savedBytes":1}}}'],
])("%s is no such record", (text) => {
  expect(parseSavings(Buffer.from(text))).toBeUndefined();
});
