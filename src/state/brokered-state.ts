import type { CallOptions } from "../base/call.ts";
import { lookNear, type Near } from "./near.ts";
import type { StateStore } from "./state-store.ts";

/** A parent that has not answered by then counts as not knowing: what is asked only saves work. */
const ANSWER_MS = 250;

const GET = "state.get";
const SET = "state.set";
const DELETE = "state.delete";

/** A line to another process; the channels of cluster/ are such lines. */
export interface StateLine {
  ask(what: string, data: unknown, o: CallOptions): Promise<unknown>;
  tell(what: string, data: unknown): void;
  onAsked(what: string, answer: (data: unknown, o: CallOptions) => Promise<unknown>): void;
  onTold(what: string, listener: (data: unknown) => void): void;
}

/**
 * A worker's state: the parent's, with this process's own memory in front of it unless what others write must be seen at
 * once.
 */
export function createBrokeredState<V>(
  line: StateLine,
  name: string,
  near: StateStore<Near<V>> | undefined,
): StateStore<V> {
  return {
    get: (key, o) =>
      lookNear(near, key, o, async () => {
        try {
          const value = await line.ask(GET, [name, key], { signal: AbortSignal.timeout(ANSWER_MS) });
          // What this process's own code has written, come back as it was.
          return { value: (value ?? undefined) as V | undefined };
        } catch {
          return undefined;
        }
      }),
    async set(key, value, ttlMs) {
      await near?.set(key, { value }, ttlMs);
      line.tell(SET, [name, key, value, ttlMs]);
    },
    async delete(key) {
      await near?.delete(key);
      line.tell(DELETE, [name, key]);
    },
  };
}

/** Lets a worker use the parent's stores. `store` gives the one of a name, always the same. */
export function brokerState(line: StateLine, store: (name: string) => StateStore<unknown>): void {
  line.onAsked(GET, async (data) => {
    const [name, key] = data as [string, string];
    return (await store(name).get(key)) ?? null;
  });
  line.onTold(SET, (data) => {
    const [name, key, value, ttlMs] = data as [string, string, unknown, number];
    void store(name).set(key, value, ttlMs);
  });
  line.onTold(DELETE, (data) => {
    const [name, key] = data as [string, string];
    void store(name).delete(key);
  });
}
