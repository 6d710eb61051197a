import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { StateConfig } from "../config/types.ts";
import { createBrokeredState, type StateLine } from "./brokered-state.ts";
import { createMemoryState } from "./memory-state.ts";
import type { Near } from "./near.ts";
import { connectRedis, type RedisConnection, type StateObserver } from "./redis-connection.ts";
import type { StateStore } from "./state-store.ts";

interface Sharing {
  readonly shared: "soon" | "at-once";
}

const SOON: Sharing = { shared: "soon" };

export interface OpenState {
  /**
   * A store of its own for each `name`. With `shared: "at-once"` what another process writes counts from that moment on;
   * otherwise this process may go on for a while with what it knows, and asks Redis less often.
   */
  store<V>(name: string, o?: Sharing): StateStore<V>;
  /** Undefined where the processes share nothing. */
  readonly redis: RedisConnection | undefined;
  /** Repeatable. */
  close(): Promise<void>;
}

export interface OpenStateDeps {
  /** A worker's line to its parent, whose state it shares where there is no Redis. */
  readonly parent?: StateLine | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: StateObserver;
}

/** State as the configuration has it. Nothing waits for Redis: one that is down counts as empty. */
export async function openState(config: StateConfig, deps: OpenStateDeps): Promise<OpenState> {
  const memory = <V>(): StateStore<V> => createMemoryState<V>(deps);
  const { parent } = deps;
  if (config.driver === "memory" && parent !== undefined) {
    return {
      store<V>(name: string, { shared }: Sharing = SOON): StateStore<V> {
        return createBrokeredState<V>(parent, name, shared === "soon" ? memory<Near<V>>() : undefined);
      },
      redis: undefined,
      close: async () => {},
    };
  }
  if (config.driver === "memory") {
    return { store: memory, redis: undefined, close: async () => {} };
  }
  const [connection, { createRedisState }] = await Promise.all([
    connectRedis(config.redis, deps),
    import("./redis-state.ts"),
  ]);
  return {
    store<V>(name: string, { shared }: Sharing = SOON): StateStore<V> {
      const namespace = `${config.redis.prefix}${name}`;
      return createRedisState<V>({ connection, namespace, ...(shared === "soon" ? { near: memory<Near<V>>() } : {}) });
    },
    redis: connection,
    close: () => connection.close(),
  };
}
