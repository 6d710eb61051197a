import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Digest } from "../../../src/oci/digest.ts";
import { OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { DAY, FRESHNESS, HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";

const NGINX = "docker.io/library/nginx";
const TTL = 10 * MINUTE;

let bench: ProxyBench;
let held: Digest;

const push = (n: number): Digest =>
  bench.hub.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2, config: { n } }, "1");

/** One of each; what is answered, how, and what it cost. */
async function both(): Promise<readonly unknown[]> {
  const head = await bench.head(`${NGINX}:1`);
  const get = await bench.get(`${NGINX}:1`);
  expect([get.digest, get.cache]).toEqual([head.digest, head.cache]);
  return [head.digest, head.cache.detail ?? head.cache.outcome, bench.hub.taken()];
}

beforeEach(async () => {
  bench = new ProxyBench();
  held = push(1);
  await bench.get(`${NGINX}:1`);
  bench.hub.lowOnBudget = ["GET"];
  bench.clock.advance(TTL);
  bench.hub.taken();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

describe("U6 with little quota left", () => {
  test("a tag that has not moved is fresh again by one HEAD", async () => {
    expect((await bench.get(`${NGINX}:1`)).cache).toEqual({ outcome: "revalidated", ttlS: 600 });
    expect(await both()).toEqual([held, "hit", ["HEAD library/nginx:1"]]);
    expect(bench.stale).toEqual([]);
  });

  test("a tag that has moved is answered as it is held, by HEAD and GET alike, at one HEAD in its time to live", async () => {
    push(2);
    expect(await both()).toEqual([held, "budget-low", ["HEAD library/nginx:1"]]);
    expect(bench.stale).toEqual(["budget-low", "budget-low"]);
    const { cache } = await bench.get(`${NGINX}:1`);
    expect(cache).toEqual({
      outcome: "stale",
      detail: "budget-low",
      warning: `${NGINX}:1 is answered as of 2026-01-01T00:00:00.000Z: little is left of the pull quota at docker.io, so that it is not asked for anything newer`,
    });
    bench.clock.advance(TTL - 1);
    expect(await both()).toEqual([held, "budget-low", []]);
    bench.clock.advance(1);
    expect(await both()).toEqual([held, "budget-low", ["HEAD library/nginx:1"]]);
  });

  test("fifty at once: one HEAD, and each stale answer is counted", async () => {
    push(2);
    const answers = await Promise.all(Array.from({ length: 50 }, () => bench.get(`${NGINX}:1`)));
    expect(new Set(answers.map(({ digest }) => digest))).toEqual(new Set([held]));
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
    expect(bench.stale).toHaveLength(50);
  });

  test("the moved tag is fetched as soon as there is quota again", async () => {
    const moved = push(2);
    await both();
    bench.hub.lowOnBudget = [];
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(moved);
    expect(bench.hub.taken()).toEqual([`GET library/nginx@${moved}`]);
    expect(await both()).toEqual([moved, "hit", []]);
  });

  test("a tag without a time to live is put off as well", async () => {
    bench.freshness = { ...FRESHNESS, defaultMs: 0 };
    push(2);
    expect(await both()).toEqual([held, "budget-low", ["HEAD library/nginx:1", "HEAD library/nginx:1"]]);
  });

  test("a tag that has moved to a manifest which is held costs nothing", async () => {
    const moved = bench.hub.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2, config: { n: 3 } }, "3");
    await bench.get(`${NGINX}:3`);
    bench.hub.taken();
    bench.hub.repository("library/nginx").tags.set("1", moved);
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(moved);
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
  });

  test("what is not held is fetched", async () => {
    const digest = bench.hub.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2, config: { n: 4 } }, "4");
    expect((await bench.head(`${NGINX}:4`)).digest).toBe(digest);
    expect((await bench.get(`${NGINX}:4`)).cache.outcome).toBe("miss");
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:4", `GET library/nginx@${digest}`]);
  });

  test("what is held and older than staleIfError is not good enough", async () => {
    bench.clock.advance(31 * DAY);
    const moved = push(2);
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(moved);
  });

  test("a registry whose HEAD names no digest: its GET is put off", async () => {
    bench.hub.namesDigest = false;
    push(2);
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(held);
    expect(bench.hub.taken()).toEqual(["HEAD library/nginx:1"]);
    expect(bench.stale).toEqual(["budget-low"]);
  });

  test("where HEADs count, nothing is asked of what is held", async () => {
    bench.hub.lowOnBudget = ["GET", "HEAD"];
    push(2);
    bench.clock.advance(29 * DAY);
    expect(await both()).toEqual([held, "budget-low", []]);
    bench.clock.advance(2 * DAY);
    expect((await bench.get(`${NGINX}:1`)).digest).not.toBe(held);
  });
});

describe("U6 with no quota left", () => {
  beforeEach(() => {
    bench.hub.onCall = (line) => {
      if (line.startsWith("GET ")) bench.hub.fail("quota", 429);
    };
  });

  test("a moved tag is answered as it is held, also where nothing is spared before", async () => {
    bench.hub.lowOnBudget = [];
    push(2);
    const { digest, cache } = await bench.get(`${NGINX}:1`);
    expect([digest, cache.detail, cache.fwdStatus]).toEqual([held, "stale-if-error", 429]);
    expect(bench.stale).toEqual(["stale-if-error"]);
  });

  test("private repositories: the HEAD proves that they may be read, and what is held is answered", async () => {
    bench.hub.credentialed.add("library/nginx");
    bench.hub.private.add("library/nginx");
    bench.privateToAnonymous = true;
    bench.clock.advance(2 * HOUR);
    push(2);
    expect((await bench.get(`${NGINX}:1`)).digest).toBe(held);
    expect(bench.stale).toEqual(["budget-low"]);
  });
});
