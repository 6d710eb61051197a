import { expect } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import type { RedisConfig } from "../../../src/config/types.ts";
import { type OpenState, openState } from "../../../src/state/open-state.ts";
import { until } from "../../support/processes.ts";
import { slowLine, startRedis, startSentinel } from "../../support/redis.ts";
import { toolTest } from "../../support/tools.ts";

interface Value {
  readonly n: number;
}

/** An hour: nothing in these tests is to expire by itself. */
const LONG_MS = 3_600_000;

async function open(
  stack: AsyncDisposableStack,
  port: number,
  more: Partial<RedisConfig> = {},
): Promise<{ state: OpenState; failures(): number }> {
  let failures = 0;
  const redis: RedisConfig = {
    at: { kind: "url", url: new URL(`redis://127.0.0.1:${port}`) },
    username: undefined,
    password: undefined,
    tls: undefined,
    prefix: "test:",
    ...more,
  };
  const observer = { stateAsked: () => {}, stateFailed: () => (failures += 1) };
  const state = await openState({ driver: "redis", redis }, { clock: systemClock, log: silentLog, observer });
  stack.defer(() => state.close());
  return { state, failures: () => failures };
}

async function connected({ state }: { state: OpenState }): Promise<OpenState> {
  await until("Redis to be connected", async () => (await state.redis?.run(async () => true)) !== undefined);
  return state;
}

toolTest(["redis-server"], "C2 what one process remembers, another knows", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const a = await connected(await open(stack, redis.port));
  const b = await connected(await open(stack, redis.port));
  await a.store<Value>("x").set("tag a/b 1", { n: 1 }, LONG_MS);
  expect(await b.store<Value>("x").get("tag a/b 1")).toEqual({ n: 1 });
  expect(await b.store<Value>("y").get("tag a/b 1")).toBeUndefined();
  const at = Number(await redis.command("PTTL", "test:x::tag a/b 1"));
  expect(at).toBeGreaterThan(LONG_MS / 2);
  await a.store<Value>("x", { shared: "at-once" }).delete("tag a/b 1");
  expect(await b.store<Value>("x", { shared: "at-once" }).get("tag a/b 1")).toBeUndefined();
});

toolTest(["redis-server"], "C2 Redis is killed: memory serves, and Redis is used again when it is back", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const opened = await open(stack, redis.port);
  const state = await connected(opened);
  const store = state.store<Value>("x");
  await store.set("a", { n: 1 }, LONG_MS);
  await redis.kill();
  await until("the loss to be noticed", () => opened.failures() > 0);
  expect(await store.get("a")).toEqual({ n: 1 });
  await store.set("b", { n: 2 }, LONG_MS);
  expect(await store.get("b")).toEqual({ n: 2 });
  expect(await state.store<Value>("x", { shared: "at-once" }).get("a")).toBeUndefined();
  await redis.restart();
  await until("Redis to be used again", async () => {
    await store.set("c", { n: 3 }, LONG_MS);
    return (await redis.command("EXISTS", "test:x::c")) === "1";
  });
});

toolTest(["redis-server"], "C2 a Redis that is flushed is empty, and nothing fails", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const opened = await open(stack, redis.port);
  const state = await connected(opened);
  const store = state.store<Value>("x", { shared: "at-once" });
  await store.set("a", { n: 1 }, LONG_MS);
  await redis.command("FLUSHALL");
  expect(await store.get("a")).toBeUndefined();
  await store.set("a", { n: 2 }, LONG_MS);
  expect(await store.get("a")).toEqual({ n: 2 });
  expect(opened.failures()).toBe(0);
});

toolTest(
  ["redis-server"],
  "C2 a Redis that may not be written to still answers, and its refusals are counted",
  async () => {
    await using stack = new AsyncDisposableStack();
    const redis = await startRedis(stack);
    const opened = await open(stack, redis.port);
    const state = await connected(opened);
    const store = state.store<Value>("x", { shared: "at-once" });
    await store.set("a", { n: 1 }, LONG_MS);
    await redis.command("CONFIG", "SET", "min-replicas-to-write", "1");
    await store.set("a", { n: 2 }, LONG_MS);
    expect(opened.failures()).toBe(1);
    await until("Redis to be asked again", async () => (await store.get("a")) !== undefined);
    expect(await store.get("a")).toEqual({ n: 1 });
  },
);

toolTest(["redis-server"], "C2 of a Redis that takes two seconds, only the first question waits", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const line = await slowLine(stack, redis.port);
  const opened = await open(stack, line.port);
  const state = await connected(opened);
  const store = state.store<Value>("x", { shared: "at-once" });
  await store.set("a", { n: 1 }, LONG_MS);
  line.delayMs = 2_000;
  expect(await store.get("a")).toBeUndefined();
  expect(opened.failures()).toBe(1);
  // None of these is sent: each would add a failure of its own.
  for (let i = 0; i < 100; i += 1) expect(await store.get("a")).toBeUndefined();
  expect(opened.failures()).toBe(1);
  line.delayMs = 0;
  await until("Redis to be used again", async () => (await store.get("a")) !== undefined);
});

toolTest(["redis-server"], "a start without Redis waits for nothing, and Redis is used once it is there", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  await redis.kill();
  const opened = await open(stack, redis.port);
  const store = opened.state.store<Value>("x", { shared: "at-once" });
  expect(await store.get("a")).toBeUndefined();
  await until("the failure to be counted", () => opened.failures() > 0);
  await redis.restart();
  await until("Redis to be used", async () => {
    await store.set("a", { n: 1 }, LONG_MS);
    return (await store.get("a")) !== undefined;
  });
});

toolTest(["redis-server"], "signs in with the password, and a wrong one counts as no Redis", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack, ["--requirepass", "open-sesame"]);
  const right = await connected(await open(stack, redis.port, { password: new Secret("open-sesame") }));
  await right.store<Value>("x").set("a", { n: 1 }, LONG_MS);
  const wrong = await open(stack, redis.port, { password: new Secret("sesame-open") });
  await until("the refusal to be counted", () => wrong.failures() > 0);
  expect(await wrong.state.store<Value>("x").get("a")).toBeUndefined();
});

toolTest(["redis-server"], "finds the master by Sentinel", async () => {
  await using stack = new AsyncDisposableStack();
  const redis = await startRedis(stack);
  const sentinel = await startSentinel(stack, { name: "main", port: redis.port });
  const opened = await open(stack, 0, {
    at: { kind: "sentinel", name: "main", nodes: [{ host: "127.0.0.1", port: sentinel.port }] },
  });
  const state = await connected(opened);
  await state.store<Value>("x").set("a", { n: 1 }, LONG_MS);
  expect(await redis.command("EXISTS", "test:x::a")).toBe("1");
});

toolTest(
  ["redis-server"],
  "C2 a process that was too busy or frozen to read an answer does not blame Redis",
  async () => {
    await using stack = new AsyncDisposableStack();
    const redis = await startRedis(stack);
    const opened = await open(stack, redis.port);
    const state = await connected(opened);
    const store = state.store<Value>("x", { shared: "at-once" });
    await store.set("a", { n: 1 }, LONG_MS);
    const asked = store.get("a");
    // Until it has been sent.
    await new Promise((resolve) => setImmediate(resolve));
    const untilMs = Date.now() + 400;
    while (Date.now() < untilMs);
    expect(await asked).toEqual({ n: 1 });
    expect(opened.failures()).toBe(0);
  },
);
