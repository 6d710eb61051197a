import { Keyv } from "keyv";
import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { StateStore } from "./state-store.ts";

export interface MemoryStateDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly maxEntries?: number;
}

/** About 40 MB with the longest keys; far above the tags of a large fleet, far below what a client that makes names up could fill. */
const MAX_ENTRIES = 50_000;

interface Entry<V> {
  readonly value: V;
  readonly expiresAtMs: number;
}

/** State in this process: bounded, the least recently used entry goes first. */
export function createMemoryState<V>(deps: MemoryStateDeps): StateStore<V> {
  const entries = new LRUCache<string, object>(atMost(deps.maxEntries ?? MAX_ENTRIES));
  // As a Map: Keyv hands `set` a bare number as its third argument, where lru-cache expects options.
  const store = {
    get: (key: string) => entries.get(key),
    set: (key: string, value: object) => entries.set(key, value),
    delete: (key: string) => entries.delete(key),
    clear: () => entries.clear(),
    has: (key: string) => entries.has(key),
  };
  const keyv = new Keyv<Entry<V>>({ store });
  // Values stay in this process.
  keyv.serialize = undefined;
  keyv.deserialize = undefined;
  // Keyv turns a failing store into a miss; without a listener nobody would ever know.
  keyv.on("error", (error: unknown) => deps.log.warn({ err: error }, "the state store failed"));
  return {
    async get(key) {
      const entry = await keyv.get(key);
      // Expiry is kept with the value as well: Keyv reads the system's clock, and tests turn another.
      return entry !== undefined && deps.clock.now() < entry.expiresAtMs ? entry.value : undefined;
    },
    async set(key, value, ttlMs) {
      await keyv.set(key, { value, expiresAtMs: deps.clock.now() + ttlMs }, ttlMs);
    },
    async delete(key) {
      await keyv.delete(key);
    },
  };
}
