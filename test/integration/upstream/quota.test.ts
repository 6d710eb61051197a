import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import type { UpstreamConfig } from "../../../src/config/types.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { createMemoryState } from "../../../src/state/memory-state.ts";
import { smallImage } from "../../support/images.ts";
import { until } from "../../support/processes.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import { type Bench, byDigest, credential, failure, o, openUpstream, readAll, tag } from "./bench.ts";

const MINUTE = 60_000;
const image = smallImage("quota");
const digest = parseDigest(image.root.digest);
const PREVIEW = "ratelimitpreview/test";

let stack: AsyncDisposableStack;
let hub: HubDouble;
/** What is left by credential, as reported last. */
let remaining: Map<string, number>;
let limited: string[];

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const accounts = ["one", "two"].map((username) => ({ username, password: `${username}-pw` }));
  hub = await startHubDouble(stack, { accounts });
  hub.add("library/app", image, ["1"]);
  hub.add(PREVIEW, smallImage("preview"), ["latest"]);
  remaining = new Map();
  limited = [];
});

afterEach(() => stack.disposeAsync());

function open(labels: readonly string[] = [], over: Partial<UpstreamConfig> = {}): Bench {
  const credentials = labels.map((label) =>
    credential({ label, username: label, password: new Secret(`${label}-pw`) }),
  );
  const bench: Bench = openUpstream(
    new URL(hub.url),
    {
      name: "docker.io",
      type: "dockerhub",
      realms: ["127.0.0.2"],
      redirects: { allow: ["127.0.0.3"] },
      credentials,
      ...over,
    },
    {
      quotas: {
        shared: createMemoryState({ clock: { now: () => bench.clock.now(), sleep: async () => {} }, log: silentLog }),
        observer: {
          quota: (_, label, limit) => {
            if (limit === undefined) remaining.delete(label ?? "-");
            else remaining.set(label ?? "-", limit.remaining);
          },
          rateLimited: (_, label, reason) => limited.push(`${label ?? "-"} ${reason}`),
        },
        lowBelow: () => ({ share: 0.1 }),
      },
    },
  );
  return bench;
}

const quota = (left: number) => ({ limit: 100, windowS: 21_600, remaining: left });
const get = ({ upstream }: Bench) => upstream.getManifest("library/app", byDigest(digest), o());
const head = ({ upstream }: Bench) => upstream.headManifest("library/app", tag("1"), o());

async function blobs({ upstream }: Bench): Promise<void> {
  for (const blob of image.blobs) {
    const { body } = await upstream.getBlob("library/app", parseDigest(blob.digest), { ...o(), start: 0 });
    expect(await readAll(body)).toEqual(Buffer.from(blob.bytes));
  }
}

/** Statuses of the GETs of manifests that the registry has seen. */
const counted = (): readonly number[] =>
  hub.ledger
    .filter(
      ({ role, method, path, status }) =>
        role === "registry" && method === "GET" && /manifests/.test(path) && status !== 401,
    )
    .map(({ status }) => status);
const probes = (): number => hub.count({ method: "HEAD", path: /ratelimitpreview/, status: 200 });

describe("U6 a spent quota", () => {
  test("in the middle of a pull: HEADs and blobs go on, and nothing that counts goes out", async () => {
    const bench = open();
    hub.quota = quota(1);
    await head(bench);
    await get(bench);
    hub.retryAfterS = 30;
    expect(await failure(get(bench))).toMatchObject({ fault: "quota", status: 429, retryAfterMs: 30_000 });
    hub.clearLedger();
    for (let i = 0; i < 20; i += 1) {
      expect(await failure(get(bench))).toMatchObject({ fault: "quota", status: undefined, retryAfterMs: 30_000 });
    }
    await blobs(bench);
    await head(bench);
    await bench.upstream.listTags("library/app", {}, o());
    expect(counted()).toEqual([]);
    expect(hub.lines("registry")).toEqual([
      ...image.blobs.map((blob) => `registry GET /v2/library/app/blobs/${blob.digest} bearer 307`),
      "registry HEAD /v2/library/app/manifests/1 bearer 200",
      "registry GET /v2/library/app/tags/list bearer 200",
    ]);
    hub.quota = quota(100);
    bench.clock.turn(30_000);
    await get(bench);
    expect(counted()).toEqual([200]);
    expect(bench.breakers).toEqual([]);
  });

  test("a HEAD of whatever repository that shows quota again opens it", async () => {
    const bench = open();
    hub.quota = quota(0);
    await failure(get(bench));
    await head(bench);
    expect((await failure(get(bench))).status).toBeUndefined();
    hub.quota = quota(1);
    await head(bench);
    await get(bench);
    expect(counted()).toEqual([429, 200]);
    expect(remaining).toEqual(new Map([["-", 0]]));
  });

  test("nobody wants it: nothing is asked; somebody does: one free HEAD a minute, and then it is open", async () => {
    const bench = open();
    hub.quota = quota(0);
    await failure(get(bench));
    bench.clock.turn(MINUTE);
    await head(bench);
    expect(probes()).toBe(0);
    for (let minute = 1; minute <= 3; minute += 1) {
      for (let i = 0; i < 10; i += 1) await failure(get(bench));
      await until("the free question", () => probes() === minute);
      bench.clock.turn(MINUTE);
    }
    expect(counted()).toEqual([429]);
    hub.quota = quota(7);
    await failure(get(bench));
    await until("the free question", () => probes() === 4);
    await until("quota again", () => remaining.get("-") === 7);
    await get(bench);
    expect(counted()).toEqual([429, 200]);
  });
});

describe("U6 two credentials", () => {
  beforeEach(() => {
    hub.quotas.set("one", quota(50));
    hub.quotas.set("two", quota(20));
  });

  test("the one with most left is used", async () => {
    const bench = open(["two", "one"]);
    // Nothing is known at first: as configured.
    await get(bench);
    expect([remaining.get("two"), remaining.get("one")]).toEqual([19, undefined]);
    await get(bench);
    expect([remaining.get("two"), remaining.get("one")]).toEqual([19, 49]);
    await get(bench);
    expect([remaining.get("two"), remaining.get("one")]).toEqual([19, 48]);
    hub.quotas.set("one", quota(10));
    await head(bench);
    await get(bench);
    expect([remaining.get("two"), remaining.get("one")]).toEqual([18, 10]);
  });

  test("one is spent: the same request goes on with the other; both: refused; and back by the free HEAD", async () => {
    const bench = open(["one", "two"]);
    await get(bench);
    await get(bench);
    hub.quotas.set("one", quota(0));
    hub.clearLedger();
    await get(bench);
    expect(counted()).toEqual([429, 200]);
    expect(limited).toEqual(["one quota"]);
    await get(bench);
    await get(bench);
    expect(counted()).toEqual([429, 200, 200, 200]);

    hub.quotas.set("two", quota(0));
    expect(await failure(get(bench))).toMatchObject({ fault: "quota" });
    expect(counted()).toEqual([429, 200, 200, 200, 429]);
    for (let i = 0; i < 5; i += 1) await failure(get(bench));
    expect(counted()).toHaveLength(5);
    await blobs(bench);
    expect(bench.upstream.budgetLow("library/app")).toBe(true);

    hub.quotas.set("one", quota(30));
    hub.quotas.set("two", quota(30));
    bench.clock.turn(MINUTE);
    await until("the free question", () => probes() > 0);
    await until("quota again", () => !bench.upstream.budgetLow("library/app"));
    await get(bench);
    expect(counted().slice(5)).toEqual([200]);
  });

  test("by schedule: one free HEAD a credential, and its numbers", async () => {
    const bench = open(["one", "two"], { quotaProbeMs: 10 * MINUTE });
    bench.clock.turn(60 * MINUTE);
    await head(bench);
    expect(probes()).toBe(0);
    hub.quotas.set("two", quota(3));
    bench.clock.turn(10 * MINUTE);
    await until("both", () => remaining.size === 2);
    expect(probes()).toBe(2);
    expect(remaining).toEqual(
      new Map([
        ["one", 50],
        ["two", 3],
      ]),
    );
    expect(counted()).toEqual([]);
  });

  test("by schedule: through the breaker like anything else, and no more when the upstream has gone", async () => {
    const bench = open(["one"], { quotaProbeMs: 10 * MINUTE });
    await head(bench);
    await hub.close();
    for (let i = 0; i < 5; i += 1) await failure(head(bench));
    expect(bench.breakers).toHaveLength(1);
    const asked = bench.exchanges.length;
    bench.clock.turn(10 * MINUTE);
    // By then the breaker wants to know, too, and lets one through.
    await until("the free question", () => bench.exchanges.length === asked + 1);
    expect(remaining.size).toBe(1);
    bench.upstream.retire();
    expect(remaining.size).toBe(0);
    bench.clock.turn(60 * MINUTE);
    expect(bench.exchanges).toHaveLength(asked + 1);
  });
});

describe("U6 a limit on all requests", () => {
  test("nothing at all is asked until the pause is over, which grows, and starts anew after an answer", async () => {
    const bench = open();
    await head(bench);
    hub.abuse = true;
    const refusal = await failure(head(bench));
    expect(refusal).toMatchObject({ fault: "quota", status: 429 });
    for (const pauseMs of [750, 1_500, 3_000, 6_000]) {
      hub.clearLedger();
      for (const ask of [head, get, blobs]) {
        const { fault, status, retryAfterMs } = await failure(ask(bench));
        // Half a second so that those who wait do not come back together.
        expect([fault, status, retryAfterMs]).toEqual(["quota", undefined, pauseMs + 500]);
      }
      expect(hub.ledger).toEqual([]);
      bench.clock.turn(pauseMs);
      await failure(blobs(bench));
      expect(hub.lines()).toHaveLength(1);
    }
    hub.abuse = false;
    bench.clock.turn(12_000);
    await blobs(bench);
    hub.abuse = true;
    await failure(head(bench));
    expect((await failure(head(bench))).retryAfterMs).toBe(750 + 500);
    expect(new Set(limited)).toEqual(new Set(["- abuse"]));
    expect(bench.breakers).toEqual([]);
  });
});

test("an account without a limit: the headers come no more, and the numbers go", async () => {
  const bench = open();
  hub.quota = quota(9);
  await get(bench);
  expect([remaining.size, bench.upstream.budgetLow("library/app")]).toEqual([1, true]);
  expect(bench.upstream.quotaStatus()).toMatchObject([{ credential: undefined, source: "203.0.113.7", remaining: 8 }]);
  hub.quota = undefined;
  await head(bench);
  expect([remaining.size, bench.upstream.budgetLow("library/app")]).toEqual([0, false]);
});
