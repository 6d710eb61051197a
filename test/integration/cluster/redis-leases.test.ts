import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { createLeases } from "../../../src/cluster/board-leases.ts";
import type { Lease, Leases } from "../../../src/cluster/leases.ts";
import { createRedisBoard } from "../../../src/cluster/redis-board.ts";
import { connectRedis } from "../../../src/state/redis-connection.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { until } from "../../support/processes.ts";
import { type RedisServer, startRedis } from "../../support/redis.ts";
import { toolTest } from "../../support/tools.ts";

const RENEW_MS = 3_000;

/** What a call that nobody aborts travels with. */
const o = { signal: new AbortController().signal };

/** One process's leases. The clock decides when it renews; Redis has its own. */
async function member(
  stack: AsyncDisposableStack,
  redis: RedisServer,
  name: string,
): Promise<{ leases: Leases; clock: ManualClock }> {
  const store = await connectRedis(
    {
      at: { kind: "url", url: new URL(redis.url) },
      username: undefined,
      password: undefined,
      tls: undefined,
      prefix: "",
    },
    { clock: systemClock, log: silentLog, observer: { stateAsked: () => {}, stateFailed: () => {} } },
  );
  stack.defer(() => store.close());
  await until("Redis to be connected", async () => (await store.run(async () => true)) !== undefined);
  const clock = new ManualClock();
  const board = createRedisBoard(store, "test:");
  const leases = createLeases({ board, address: name, clock, log: silentLog, newToken: randomUUID });
  stack.defer(() => leases.close());
  return { leases, clock };
}

async function take(leases: Leases, name: string): Promise<Lease> {
  const acquired = await leases.acquire(name, o);
  if (!("lease" in acquired)) throw new Error(`${name} is held by ${acquired.holder}`);
  return acquired.lease;
}

toolTest(["redis-server"], "C1 one has the lease, the others learn where its holder is", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const a = await member(stack, redis, "a:1");
  const b = await member(stack, redis, "b:1");
  const lease = await take(a.leases, "fill x");
  expect(await b.leases.acquire("fill x", o)).toEqual({ holder: "a:1" });
  // Its own other work is no exception.
  expect(await a.leases.acquire("fill x", o)).toEqual({ holder: "a:1" });
  await take(b.leases, "fill y");
  await lease.release();
  await lease.release();
  await take(b.leases, "fill x");
});

toolTest(["redis-server"], "C1 a lease runs out unless it is renewed, and is given back at the end", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const a = await member(stack, redis, "a:1");
  await take(a.leases, "fill x");
  const [key = ""] = (await redis.command("KEYS", "*")).split("\n");
  await redis.command("PEXPIRE", key, "60000");
  a.clock.advance(RENEW_MS);
  await until("the renewal", async () => Number(await redis.command("PTTL", key)) <= 10_000);
  expect(Number(await redis.command("PTTL", key))).toBeGreaterThan(0);
  await a.leases.close();
  expect(await redis.command("EXISTS", key)).toBe("0");
});

toolTest(
  ["redis-server"],
  "C1 who was too slow to renew learns that somebody else has it, and leaves it to them",
  async () => {
    await using stack = new AsyncDisposableStack();
    const redis = await startRedis(stack);
    const a = await member(stack, redis, "a:1");
    const b = await member(stack, redis, "b:1");
    const lost = await take(a.leases, "fill x");
    await redis.command("FLUSHALL");
    const taken = await take(b.leases, "fill x");
    a.clock.advance(RENEW_MS);
    await until("the loss to be noticed", () => lost.lost.aborted);
    await lost.release();
    expect(await a.leases.acquire("fill x", o)).toEqual({ holder: "b:1" });
    expect(taken.lost.aborted).toBe(false);
  },
);

toolTest(["redis-server"], "C2 a flushed lease that nobody took meanwhile is its holder's again", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const a = await member(stack, redis, "a:1");
  const b = await member(stack, redis, "b:1");
  const lease = await take(a.leases, "fill x");
  await redis.command("FLUSHALL");
  a.clock.advance(RENEW_MS);
  await until("the renewal", async () => (await redis.command("DBSIZE")) === "1");
  expect(await b.leases.acquire("fill x", o)).toEqual({ holder: "a:1" });
  expect(lease.lost.aborted).toBe(false);
});

toolTest(["redis-server"], "C2 without Redis everybody gets what they ask for", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const a = await member(stack, redis, "a:1");
  const b = await member(stack, redis, "b:1");
  await redis.kill();
  const [one, other] = [await take(a.leases, "fill x"), await take(b.leases, "fill x")];
  expect([one.lost.aborted, other.lost.aborted]).toEqual([false, false]);
});
