import { afterEach, beforeEach, expect } from "vitest";
import { expectStatus, hubUpstream } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { startRedis } from "../support/redis.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { toolTest } from "../support/tools.ts";
import type { WeirProcess } from "../support/weir.ts";
import { startWeirs } from "../support/weir-fleet.ts";

const WHOLE_TEST_MS = 240_000;
/** Longer than all of a test on a busy machine; the clocks are turned by six minutes. */
const TTL = "5m";

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
});

afterEach(() => stack.disposeAsync());

async function fleet(more: Readonly<Record<string, unknown>> = {}): Promise<readonly WeirProcess[]> {
  return await startWeirs(stack, {
    replicas: 3,
    redis: await startRedis(stack),
    nodeOptions: ["--import", new URL("../support/turned-clock.ts", import.meta.url).href],
    config: {
      upstreams: { "docker.io": { ...hubUpstream(hub), ...more } },
      freshness: { default: TTL, rules: [] },
    },
  });
}

/** Requests for manifests that reached the registry and got past its challenge. */
function asked(method: string, what: string): number {
  return hub.ledger.filter((entry) => entry.method === method && entry.path.endsWith(what) && entry.status !== 401)
    .length;
}

function get(weir: WeirProcess, path: string, method = "GET"): Promise<HttpReply> {
  return httpRequest(`${weir.url}/v2/docker.io/${path}`, { method });
}

toolTest(
  ["redis-server"],
  "C4 three replicas, many clients: one GET of a cold tag, then one HEAD in each period",
  async () => {
    const image = smallImage("c4");
    hub.add("library/app", image, ["1"]);
    const weirs = await fleet();
    const all = async (): Promise<readonly HttpReply[]> =>
      await Promise.all(
        weirs.flatMap((weir) => Array.from({ length: 10 }, () => get(weir, "library/app/manifests/1"))),
      );
    for (const reply of await all()) expectStatus(200, reply);
    expect([asked("HEAD", "/manifests/1"), asked("GET", "/manifests/1")]).toEqual([0, 1]);
    for (const weir of weirs) {
      weir.process.kill("SIGUSR2");
      await until("the tag to be past its time to live", () => weir.output().includes("is in force"));
    }
    for (const reply of await all()) expectStatus(200, reply);
    expect([asked("HEAD", "/manifests/1"), asked("GET", "/manifests/1")]).toEqual([1, 1]);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C4 a tag that one replica has found absent is asked for by none of the others",
  async () => {
    hub.add("library/app", smallImage("c4-absent"), ["1"]);
    const weirs = await fleet();
    for (const weir of weirs) expectStatus(404, await get(weir, "library/app/manifests/none", "HEAD"));
    expect(asked("HEAD", "/manifests/none")).toBe(1);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C4 a quota that one replica has found spent holds back all of them",
  async () => {
    hub.quota = { limit: 100, windowS: 21_600, remaining: 1 };
    const images = ["a", "b", "c"].map((name) => ({ name, image: smallImage(`c4-${name}`) }));
    for (const { name, image } of images) hub.add(`library/${name}`, image, ["1"]);
    const weirs = await fleet({ budgetStatus: 429 });
    const [first] = weirs;
    if (first === undefined) throw new Error("no replica");
    expectStatus(200, await get(first, "library/a/manifests/1"));
    expectStatus(429, await get(first, "library/b/manifests/1"));
    // What one has learnt reaches the others in passing, within seconds.
    await until("all of them to hold back", async () => {
      const before = asked("GET", "/manifests/1");
      for (const weir of weirs) expectStatus(429, await get(weir, "library/c/manifests/1"));
      return asked("GET", "/manifests/1") === before;
    });
    // Each has asked once at most before it knew.
    expect(asked("GET", "/manifests/1")).toBeLessThanOrEqual(2 + 2);
  },
  WHOLE_TEST_MS,
);
