import KeyvRedis from "@keyv/redis";
import { Keyv } from "keyv";
import { lookNear, type Near } from "./near.ts";
import type { RedisConnection } from "./redis-connection.ts";
import type { StateStore } from "./state-store.ts";

export interface RedisStateDeps<V> {
  readonly connection: RedisConnection;
  /** In front of every key; two stores over one Redis have two. */
  readonly namespace: string;
  /**
   * This process's own memory: asked first, and all there is while Redis is out. Left out where what other processes write
   * must be seen at once.
   */
  readonly near?: StateStore<Near<V>>;
}

/** State that several processes share. */
export function createRedisState<V>({ connection, namespace, near }: RedisStateDeps<V>): StateStore<V> {
  // The adapter names the concrete classes of node-redis, all of which have what RedisClient says.
  const adapter = new KeyvRedis(connection.client as ConstructorParameters<typeof KeyvRedis>[0], {
    namespace,
    throwOnErrors: true,
  });
  // The connection has a listener of its own, which counts them.
  adapter.on("error", () => {});
  const keyv = new Keyv<V>(adapter, { namespace, useKeyPrefix: false, throwOnErrors: true });
  keyv.on("error", () => {});
  return {
    get: (key, o) => lookNear(near, key, o, () => connection.run(() => keyv.get(key))),
    async set(key, value, ttlMs) {
      await near?.set(key, { value }, ttlMs);
      await connection.run(() => keyv.set(key, value, Math.ceil(ttlMs)));
    },
    async delete(key) {
      await near?.delete(key);
      await connection.run(() => keyv.delete(key));
    },
  };
}
