import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { ObjectStat, SmallObjects } from "./small-objects.ts";

/** Links and records of some hundred thousand tags; a held tag is then answered without touching the disk. */
const MAX_BYTES = 64 << 20;

/** What an entry costs beyond its key and bytes, about. */
const ENTRY_OVERHEAD = 200;

/** Keys known to be absent. Apart from the rest: clients can make up any number of names, and must not push out what is held. */
const MAX_ABSENT = 20_000;

/** Other processes write the objects too: what was read is read again after so many milliseconds. */
export interface SharedObjects {
  readonly clock: Clock;
  readonly maxAgeMs: number;
}

/** Small objects of which some are in memory. */
export interface CachedObjects extends SmallObjects {
  /** Another process has written or deleted it, or anything where nothing is named: what is in memory of it is read again. */
  forget(key?: string): void;
}

/**
 * `objects` with what was read lately kept in memory. Without `shared`, only for what nobody but this process writes.
 *
 * @param written told of each key that was written or deleted, or may have been, since that failed
 */
export function createCachedObjects(
  objects: SmallObjects,
  shared?: SharedObjects,
  written?: (key: string) => void,
): CachedObjects {
  return new RememberedObjects(objects, shared, written);
}

class RememberedObjects implements CachedObjects {
  readonly #objects: SmallObjects;
  readonly #held: LRUCache<string, Uint8Array>;
  readonly #absent: LRUCache<string, true>;
  readonly #written: (key: string) => void;
  /** Grows with every write. What was read while it grew may be older than what was written, and is not kept. */
  #writes = 0;

  constructor(objects: SmallObjects, shared: SharedObjects | undefined, written: (key: string) => void = () => {}) {
    this.#objects = objects;
    this.#written = written;
    const age = shared === undefined ? {} : { ttl: shared.maxAgeMs, ttlResolution: 0, perf: shared.clock };
    this.#held = new LRUCache({
      maxSize: MAX_BYTES,
      sizeCalculation: (bytes, key) => bytes.length + key.length + ENTRY_OVERHEAD,
      ...age,
    });
    this.#absent = new LRUCache({ ...atMost(MAX_ABSENT), ...age });
  }

  async get(key: string, o: CallOptions): Promise<Uint8Array | undefined> {
    const held = this.#held.get(key);
    if (o.latest !== true && (held !== undefined || this.#absent.has(key))) return held;
    const writes = this.#writes;
    const bytes = await this.#objects.get(key, o);
    if (writes === this.#writes) {
      if (bytes === undefined) {
        this.#absent.set(key, true);
        this.#held.delete(key);
      } else {
        this.#held.set(key, bytes);
        this.#absent.delete(key);
      }
    }
    return bytes;
  }

  async put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void> {
    this.forget(key);
    try {
      await this.#objects.put(key, bytes, o);
    } finally {
      this.forget(key);
      this.#written(key);
    }
  }

  stat(key: string, o: CallOptions): Promise<ObjectStat | undefined> {
    return this.#objects.stat(key, o);
  }

  async delete(key: string, o: CallOptions): Promise<boolean> {
    this.forget(key);
    try {
      return await this.#objects.delete(key, o);
    } finally {
      this.forget(key);
      this.#written(key);
    }
  }

  list(prefix: string, o: CallOptions): AsyncIterable<string> {
    return this.#objects.list(prefix, o);
  }

  /** Also when a write is over: a failed one leaves the old or the new content, and two at once leave either's. */
  forget(key?: string): void {
    this.#writes += 1;
    if (key === undefined) {
      this.#held.clear();
      this.#absent.clear();
    } else {
      this.#held.delete(key);
      this.#absent.delete(key);
    }
  }
}
