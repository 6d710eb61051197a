import { expect, test } from "vitest";
import { createCachedObjects } from "../../../src/storage/cached-objects.ts";
import type { SmallObjects } from "../../../src/storage/small-objects.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../support/memory-store.ts";

const o = { signal: new AbortController().signal };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Counts the reads that reach the store, and lets a test hold one back. */
function watched(): { objects: SmallObjects; reads: string[]; hold(): () => void } {
  const store = createMemorySmallObjects();
  const reads: string[] = [];
  let gate = Promise.resolve();
  return {
    reads,
    hold() {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    },
    objects: {
      async get(key, call) {
        reads.push(key);
        const found = await store.get(key, call);
        await gate;
        return found;
      },
      put: (key, value, call) => store.put(key, value, call),
      stat: (key, call) => store.stat(key, call),
      delete: (key, call) => store.delete(key, call),
      list: (prefix, call) => store.list(prefix, call),
    },
  };
}

test("what was read once is not read again, until it is written or deleted", async () => {
  const { objects, reads } = watched();
  const cached = createCachedObjects(objects);
  await cached.put("a", bytes("1"), o);
  expect(await cached.get("a", o)).toEqual(bytes("1"));
  expect(await cached.get("a", o)).toEqual(bytes("1"));
  expect(reads).toEqual(["a"]);
  await cached.put("a", bytes("2"), o);
  expect(await cached.get("a", o)).toEqual(bytes("2"));
  await cached.delete("a", o);
  expect(await cached.get("a", o)).toBeUndefined();
  expect(reads).toEqual(["a", "a", "a"]);
});

test("what is absent is not looked for again, until it is written", async () => {
  const { objects, reads } = watched();
  const cached = createCachedObjects(objects);
  expect(await cached.get("a", o)).toBeUndefined();
  expect(await cached.get("a", o)).toBeUndefined();
  expect(reads).toEqual(["a"]);
  await cached.put("a", bytes("1"), o);
  expect(await cached.get("a", o)).toEqual(bytes("1"));
});

test("any number of absent names pushes out nothing that is held", async () => {
  const { objects, reads } = watched();
  const cached = createCachedObjects(objects);
  await cached.put("held", bytes("1"), o);
  await cached.get("held", o);
  for (let n = 0; n < 50_000; n += 1) await cached.get(`made-up-${n}`, o);
  reads.length = 0;
  expect(await cached.get("held", o)).toEqual(bytes("1"));
  expect(reads).toEqual([]);
});

test("a read of nothing that a write overtakes does not hide what was written", async () => {
  const { objects, hold } = watched();
  const cached = createCachedObjects(objects);
  const release = hold();
  const slow = cached.get("a", o);
  await cached.put("a", bytes("new"), o);
  release();
  expect(await slow).toBeUndefined();
  expect(await cached.get("a", o)).toEqual(bytes("new"));
});

test("a read that a write overtakes does not bring the old content back", async () => {
  const { objects, hold } = watched();
  const cached = createCachedObjects(objects);
  await cached.put("a", bytes("old"), o);
  const release = hold();
  const slow = cached.get("a", o);
  await cached.put("a", bytes("new"), o);
  release();
  expect(await slow).toEqual(bytes("old"));
  expect(await cached.get("a", o)).toEqual(bytes("new"));
});

test("of what others write too, nothing is older than it may be, absence included", async () => {
  const { objects, reads } = watched();
  const clock = new ManualClock();
  const cached = createCachedObjects(objects, { clock, maxAgeMs: 5_000 });
  await objects.put("a", bytes("1"), o);
  expect(await cached.get("a", o)).toEqual(bytes("1"));
  expect(await cached.get("b", o)).toBeUndefined();
  await objects.put("a", bytes("2"), o);
  await objects.put("b", bytes("2"), o);
  clock.advance(5_000);
  expect(await cached.get("a", o)).toEqual(bytes("1"));
  expect(reads).toEqual(["a", "b"]);
  clock.advance(1);
  expect(await cached.get("a", o)).toEqual(bytes("2"));
  expect(await cached.get("b", o)).toEqual(bytes("2"));
});

test("what another process is known to have written is read again, and nothing else", async () => {
  const { objects, reads } = watched();
  const cached = createCachedObjects(objects);
  for (const key of ["a", "b"]) await objects.put(key, bytes("old"), o);
  for (const key of ["a", "b", "c"]) await cached.get(key, o);
  for (const key of ["a", "b", "c"]) await objects.put(key, bytes("new"), o);
  reads.length = 0;
  cached.forget("a");
  cached.forget("c");
  expect(await cached.get("a", o)).toEqual(bytes("new"));
  expect(await cached.get("b", o)).toEqual(bytes("old"));
  expect(await cached.get("c", o)).toEqual(bytes("new"));
  expect(reads).toEqual(["a", "c"]);
});

test("where anything may have been written, everything is read again, also what was being read meanwhile", async () => {
  const { objects, reads, hold } = watched();
  const cached = createCachedObjects(objects);
  await objects.put("a", bytes("old"), o);
  await cached.get("a", o);
  await cached.get("absent", o);
  const release = hold();
  const slow = cached.get("b", o);
  cached.forget();
  release();
  await slow;
  for (const key of ["a", "b", "absent"]) await objects.put(key, bytes("new"), o);
  reads.length = 0;
  for (const key of ["a", "b", "absent"]) expect(await cached.get(key, o)).toEqual(bytes("new"));
  expect(reads).toEqual(["a", "b", "absent"]);
});
