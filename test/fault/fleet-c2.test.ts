import { afterEach, beforeEach, expect } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob, stampedBlob } from "../support/fill-sources.ts";
import { expectStatus } from "../support/hub-weir.ts";
import { manifestOver } from "../support/images.ts";
import { metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { run, until } from "../support/processes.ts";
import { type RedisServer, type SlowLine, slowLine, startRedis, startSentinel } from "../support/redis.ts";
import { toolTest } from "../support/tools.ts";
import type { WeirProcess } from "../support/weir.ts";
import { startWeirs } from "../support/weir-fleet.ts";

const MiB = 1024 * 1024;
const WHOLE_TEST_MS = 240_000;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let made: number;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  made = 0;
});

afterEach(() => stack.disposeAsync());

function newBlob(bytes: number): BlobContent {
  made += 1;
  const blob = stampedBlob(`c2-${made}`, bytes);
  origin.add("app", blob);
  return blob;
}

function get(weir: WeirProcess, blob: BlobContent) {
  return getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
}

/** From every replica twice; right to the last byte. */
async function pulled(weirs: readonly WeirProcess[], blob: BlobContent): Promise<void> {
  const pulls = await Promise.all([...weirs, ...weirs].map((weir) => get(weir, blob)));
  const ends = await Promise.all(pulls.map((one) => one.compare(blob)));
  expect(ends).toEqual(pulls.map(() => ({ bytes: blob.size, complete: true })));
}

/** A tag that nobody has asked for, and its blobs. */
async function pulledImage(weirs: readonly WeirProcess[]): Promise<void> {
  made += 1;
  const tag = `v${made}`;
  const config = seededBlob(`c2-config-${made}`, 2_000);
  const layer = newBlob(2 * MiB);
  origin.add("app", config);
  const manifest = manifestOver(config, [layer]);
  origin.addManifest("app", tag, manifest);
  await Promise.all(
    weirs.map(async (weir) => {
      const url = `${weir.url}/v2/registry.example/app/manifests/${tag}`;
      const reply = expectStatus(200, await httpRequest(url));
      expect(reply.headers["docker-content-digest"]).toBe(manifest.digest);
    }),
  );
  await pulled(weirs, config);
  await pulled(weirs, layer);
}

/** One download for both again. */
async function untilShared(weirs: readonly WeirProcess[]): Promise<void> {
  await until("the replicas to share again", async () => {
    origin.forget();
    const blob = newBlob(4 * MiB);
    await pulled(weirs, blob);
    return origin.gets.length === 1;
  });
}

/**
 * Pulls that are under way when the trouble begins, pulls in the middle of it, and afterwards one transfer for all again.
 *
 * @param trouble begins it and gives what ends it
 */
async function noFailedPull(weirs: readonly WeirProcess[], trouble: () => Promise<() => Promise<void>>): Promise<void> {
  await untilShared(weirs);
  const blob = newBlob(24 * MiB);
  origin.sendUpTo(12 * MiB);
  const underWay = await Promise.all(weirs.map((weir) => get(weir, blob)));
  await Promise.all(underWay.map((one) => one.take(8 * MiB)));
  const end = await trouble();
  const cold = newBlob(8 * MiB);
  await pulled(weirs, cold);
  await pulledImage(weirs);
  origin.sendUpTo(Number.POSITIVE_INFINITY);
  const ends = await Promise.all(underWay.map((one) => one.compare(blob)));
  expect(ends).toEqual(weirs.map(() => ({ bytes: blob.size, complete: true })));
  await pulledImage(weirs);
  await end();
  await pulledImage(weirs);
  await untilShared(weirs);
}

async function fleet(redis: RedisServer, line?: SlowLine): Promise<readonly WeirProcess[]> {
  return await startWeirs(stack, {
    replicas: 2,
    redis: line === undefined ? redis : { url: `redis://127.0.0.1:${line.port}` },
    config: { upstreams: { "registry.example": origin.upstream } },
  });
}

toolTest(
  ["redis-server"],
  "C2 Redis is stopped and comes back empty: no failed pull",
  async () => {
    const redis = await startRedis(stack);
    await noFailedPull(await fleet(redis), async () => {
      await redis.kill();
      return () => redis.restart();
    });
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C2 Redis is flushed time and again: no failed pull",
  async () => {
    const redis = await startRedis(stack);
    const weirs = await fleet(redis);
    await noFailedPull(weirs, async () => {
      let flushing = true;
      const flushes = (async () => {
        while (flushing) await redis.command("FLUSHALL");
      })();
      return async () => {
        flushing = false;
        await flushes;
      };
    });
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C2 Redis takes two seconds for each answer: no failed pull",
  async () => {
    const redis = await startRedis(stack);
    const line = await slowLine(stack, redis.port);
    const weirs = await fleet(redis, line);
    await noFailedPull(weirs, async () => {
      line.delayMs = 2_000;
      return async () => {
        line.delayMs = 0;
      };
    });
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C2 Redis may not be written to (min-replicas-to-write): no failed pull",
  async () => {
    const redis = await startRedis(stack);
    const weirs = await fleet(redis);
    await noFailedPull(weirs, async () => {
      await redis.command("CONFIG", "SET", "min-replicas-to-write", "1");
      return async () => {
        await redis.command("CONFIG", "SET", "min-replicas-to-write", "0");
        for (const weir of weirs) expect(await metricOf(weir.adminUrl, "weir_state_errors_total")).toBeGreaterThan(0);
      };
    });
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C2 the master is killed and Sentinel promotes its replica: no failed pull",
  async () => {
    const master = await startRedis(stack);
    const replica = await startRedis(stack, ["--replicaof", "127.0.0.1", String(master.port)]);
    const sentinel = await startSentinel(stack, { name: "main", port: master.port });
    const ask = async (...words: string[]): Promise<string> =>
      (await run(["redis-cli", "-p", String(sentinel.port), "SENTINEL", ...words])).stdout;
    await ask("SET", "main", "down-after-milliseconds", "1000");
    await until("the replica to be known", async () => (await ask("REPLICAS", "main")).includes(String(replica.port)));
    await until("the replica to be linked", async () =>
      (await replica.command("INFO")).includes("master_link_status:up"),
    );
    const weirs = await startWeirs(stack, {
      replicas: 2,
      redis: master,
      config: {
        upstreams: { "registry.example": origin.upstream },
        state: { driver: "redis", redis: { url: `redis://127.0.0.1:${sentinel.port}`, sentinel: "main" } },
      },
    });
    await noFailedPull(weirs, async () => {
      await master.kill();
      return () =>
        until("the replica to be promoted", async () =>
          (await ask("GET-MASTER-ADDR-BY-NAME", "main")).includes(String(replica.port)),
        );
    });
    expect(await replica.command("ROLE")).toMatch(/^master/);
  },
  WHOLE_TEST_MS,
);
