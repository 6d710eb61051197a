import { afterEach, beforeEach, expect } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { type BlobContent, stampedBlob } from "../support/fill-sources.ts";
import { until } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { heldBlobs } from "../support/store-files.ts";
import { toolTest } from "../support/tools.ts";
import type { WeirProcess } from "../support/weir.ts";
import { startWeirs } from "../support/weir-fleet.ts";

const MiB = 1024 * 1024;
const WHOLE_TEST_MS = 240_000;

/** A take-over asks again for no more than what was on its way: socket buffers and a few chunks. */
const BUFFERS = 4 * MiB;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
});

afterEach(() => stack.disposeAsync());

async function fleet(
  redis: RedisServer | undefined,
  replicas = 3,
): Promise<[WeirProcess, WeirProcess, ...WeirProcess[]]> {
  const config = { upstreams: { "registry.example": origin.upstream } };
  const [one, two, ...others] = await startWeirs(stack, { replicas, redis, config });
  if (one === undefined || two === undefined) throw new Error("a fleet has at least two");
  return [one, two, ...others];
}

function pull(weir: WeirProcess, blob: BlobContent) {
  return getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
}

function bytesSent(): number {
  return origin.ledger.reduce((sum, [, sent]) => sum + sent, 0);
}

toolTest(
  ["redis-server"],
  "C1 three replicas, 30 clients, one cold blob: its bytes cross the wire once",
  async () => {
    const weirs = await fleet(await startRedis(stack));
    const blob = stampedBlob("c1", 48 * MiB);
    origin.add("app", blob);
    // Nobody comes when it is over.
    origin.sendUpTo(MiB);
    const pulls = await Promise.all(weirs.flatMap((weir) => Array.from({ length: 10 }, () => pull(weir, blob))));
    origin.sendUpTo(blob.size);
    const ends = await Promise.all(pulls.map((one) => one.compare(blob)));
    expect(ends).toEqual(Array(30).fill({ bytes: blob.size, complete: true }));
    expect(origin.ledger).toEqual([[0, blob.size]]);
    await until("the blob to be kept", async () => (await heldBlobs(weirs[0].root)).length === 1);
    // Each of them serves what one of them has kept.
    for (const weir of weirs) expect(await (await pull(weir, blob)).compare(blob)).toMatchObject({ complete: true });
    expect(origin.ledger).toHaveLength(1);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C1 the downloading replica is killed: clients of the others see one unbroken body, and few bytes are asked again",
  async () => {
    const weirs = await fleet(await startRedis(stack));
    const blob = stampedBlob("c1-killed", 32 * MiB);
    origin.add("app", blob);
    origin.sendUpTo(16 * MiB);
    const [first, ...others] = weirs;
    const lost = await pull(first, blob);
    await lost.take(8 * MiB);
    const living = await Promise.all(others.map((weir) => pull(weir, blob)));
    const starts = await Promise.all(living.map((one) => one.take(12 * MiB)));
    expect(starts.every((start) => start.equals(blob.read(0, 12 * MiB)))).toBe(true);
    await first.kill();
    origin.sendUpTo(blob.size);
    const ends = await Promise.all(living.map((one) => one.compare(blob)));
    expect(ends).toEqual(Array(2).fill({ bytes: blob.size, complete: true }));
    expect(bytesSent()).toBeLessThanOrEqual(blob.size + BUFFERS);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C1 the downloading replica is frozen past its lease and goes on: the others take over, and it follows them",
  async () => {
    const weirs = await fleet(await startRedis(stack));
    const blob = stampedBlob("c1-frozen", 32 * MiB);
    origin.add("app", blob);
    origin.sendUpTo(16 * MiB);
    const [first, ...others] = weirs;
    const frozen = await pull(first, blob);
    await frozen.take(8 * MiB);
    const living = await Promise.all(others.map((weir) => pull(weir, blob)));
    await Promise.all(living.map((one) => one.take(12 * MiB)));
    first.process.kill("SIGSTOP");
    origin.sendUpTo(24 * MiB);
    // Only who has taken over can have got further.
    await Promise.all(living.map((one) => one.take(8 * MiB)));
    first.process.kill("SIGCONT");
    // Until it has seen that its lease is lost it takes what comes.
    await until("one of them to leave its download to the other", () => origin.open === 1);
    origin.sendUpTo(blob.size);
    const ends = await Promise.all([...living, frozen].map((one) => one.compare(blob)));
    expect(ends).toEqual(Array(3).fill({ bytes: blob.size, complete: true }));
    // What had been sent to the frozen one is sent again, to the other.
    expect(bytesSent()).toBeLessThanOrEqual(blob.size + 8 * MiB + BUFFERS);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C2 Redis is killed in the middle of a download, and is gone for the next: every client gets its blob",
  async () => {
    const redis = await startRedis(stack);
    const weirs = await fleet(redis);
    const blob = stampedBlob("c2", 16 * MiB);
    const next = stampedBlob("c2-next", 16 * MiB);
    origin.add("app", blob, next);
    origin.sendUpTo(8 * MiB);
    const pulls = await Promise.all(weirs.map((weir) => pull(weir, blob)));
    await Promise.all(pulls.map((one) => one.take(4 * MiB)));
    await redis.kill();
    origin.sendUpTo(Number.POSITIVE_INFINITY);
    expect(await Promise.all(pulls.map((one) => one.compare(blob)))).toEqual(
      Array(3).fill({ bytes: blob.size, complete: true }),
    );
    const without = await Promise.all(weirs.map((weir) => pull(weir, next)));
    expect(await Promise.all(without.map((one) => one.compare(next)))).toEqual(
      Array(3).fill({ bytes: next.size, complete: true }),
    );
  },
  WHOLE_TEST_MS,
);

toolTest(
  [],
  "replicas over one folder without Redis each ask for themselves, and every byte is right",
  async () => {
    const weirs = await fleet(undefined, 2);
    const blob = stampedBlob("no-redis", 16 * MiB);
    origin.add("app", blob);
    const pulls = await Promise.all(weirs.map((weir) => pull(weir, blob)));
    expect(await Promise.all(pulls.map((one) => one.compare(blob)))).toEqual(
      Array(2).fill({ bytes: blob.size, complete: true }),
    );
    expect(bytesSent()).toBe(2 * blob.size);
    await until("the blob to be kept", async () => (await heldBlobs(weirs[0].root)).length === 1);
    expect(await (await pull(weirs[1], blob)).compare(blob)).toMatchObject({ complete: true });
    expect(bytesSent()).toBe(2 * blob.size);
  },
  WHOLE_TEST_MS,
);
