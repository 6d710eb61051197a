import { LRUCache } from "lru-cache";
import { expect, test } from "vitest";
import { atMost } from "../../../src/base/at-most.ts";

test("as many entries as said, and the least recently used goes first", () => {
  const cache = new LRUCache<string, number>(atMost(2));
  cache.set("a", 1).set("b", 2);
  cache.get("a");
  cache.set("c", 3).set("c", 4);
  expect([...cache.entries()].sort()).toEqual([
    ["a", 1],
    ["c", 4],
  ]);
});

test("entries that ran out or were deleted make room", () => {
  let nowMs = 1;
  const cache = new LRUCache<string, number>({ ...atMost(2), ttl: 10, ttlResolution: 0, perf: { now: () => nowMs } });
  cache.set("a", 1).set("b", 2);
  cache.delete("a");
  nowMs = 12;
  expect(cache.get("b")).toBeUndefined();
  cache.set("c", 3).set("d", 4);
  expect([cache.get("c"), cache.get("d"), cache.size]).toEqual([3, 4, 2]);
});
