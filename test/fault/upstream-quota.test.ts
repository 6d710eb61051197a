import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { multiArchImage, smallImage } from "../support/images.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { type HubDouble, type PullQuota, startHubDouble } from "../support/registries/dockerhub.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const WINDOW_S = 21_600;

const HELD = multiArchImage("held");
const MOVED = multiArchImage("moved");
const NEW = multiArchImage("new");

let stack: AsyncDisposableStack;
let clock: PausingClock;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  clock = new PausingClock();
  const accounts = ["one", "two"].map((username) => ({ username, password: `${username}-pw` }));
  hub = await startHubDouble(stack, { now: () => clock.now(), accounts });
  hub.add("library/held", HELD, ["1"]);
  hub.add("library/new", NEW, ["1"]);
  hub.add("ratelimitpreview/test", smallImage("preview"), ["latest"]);
});

afterEach(() => stack.disposeAsync());

async function app(upstream: object = {}, freshness: object = {}): Promise<TestApp> {
  return await startTestApp(stack, {
    clock,
    config: {
      upstreams: { "docker.io": { ...hubUpstream(hub), ...upstream } },
      freshness: { default: "1h", rules: [], ...freshness },
    },
  });
}

/** An app that holds an image whose tag was checked an hour ago. */
async function holding(upstream: object = {}, freshness: object = {}): Promise<TestApp> {
  const weir = await app(upstream, freshness);
  await pullByHead(weir.url, "library/held", "1", HELD);
  clock.advance(HOUR);
  hub.clearLedger();
  return weir;
}

const quota = (remaining: number): PullQuota => ({ limit: 100, windowS: WINDOW_S, remaining });

function ask(weir: TestApp, path: string, { query = "", method = "GET" } = {}): Promise<HttpReply> {
  return httpRequest(`${weir.url}/v2/docker.io/library/${path}${query}`, { method });
}

/** Manifests that the registry was asked for by GET, with a token. */
const counted = (): readonly number[] =>
  hub.ledger
    .filter(
      ({ role, method, path, status }) =>
        role === "registry" && method === "GET" && /manifests/.test(path) && status !== 401,
    )
    .map(({ status }) => status);

async function gauges(weir: TestApp, credential = "anonymous"): Promise<readonly number[]> {
  const labels = { upstream: "docker.io", credential };
  const names = ["limit", "remaining", "window_seconds"];
  return await Promise.all(names.map((name) => weir.metric(`weir_upstream_ratelimit_${name}`, labels)));
}

const limited = (weir: TestApp, reason: string, credential = "anonymous"): Promise<number> =>
  weir.metric("weir_upstream_ratelimited_total", { upstream: "docker.io", credential, reason });

const stale = (weir: TestApp, reason: string): Promise<number> =>
  weir.metric("weir_stale_served_total", { upstream: "docker.io", reason });

describe("U6 the quota is spent", () => {
  test("U6 in the middle of a pull: the pull finishes, what is held is served, and nothing more that counts is asked", async () => {
    const weir = await holding();
    hub.quota = quota(NEW.manifests.length);
    hub.retryAfterS = 600;
    const root = `new/manifests/${NEW.root.digest}`;
    expectStatus(200, await ask(weir, "new/manifests/1", { method: "HEAD" }));
    expectStatus(200, await ask(weir, root));
    for (const { digest } of NEW.manifests.filter((manifest) => manifest !== NEW.root)) {
      expectStatus(200, await ask(weir, `new/manifests/${digest}`));
    }
    expect(await gauges(weir)).toEqual([100, 0, WINDOW_S]);

    // Somebody else finds out.
    hub.add("library/other", smallImage("other"), ["1"]);
    const refused = await ask(weir, "other/manifests/1");
    expect([refused.status, refused.headers["retry-after"]]).toEqual([429, "600"]);
    expect(JSON.parse(refused.body.toString())).toMatchObject({ errors: [{ code: "TOOMANYREQUESTS" }] });
    hub.clearLedger();

    for (const blob of NEW.blobs) {
      expect(expectStatus(200, await ask(weir, `new/blobs/${blob.digest}`)).body.equals(blob.bytes)).toBe(true);
    }
    await pullByHead(weir.url, "library/new", "1", NEW);
    hub.add("library/held", MOVED, ["1"]);
    const old = expectStatus(200, await ask(weir, "held/manifests/1"));
    expect(old.headers["docker-content-digest"]).toBe(HELD.root.digest);
    expect(old.headers["cache-status"]).toBe("weir; fwd=stale; detail=budget-low");
    expect(old.headers.warning).toContain("little is left of the pull quota at docker.io");
    const again = await ask(weir, "other/manifests/1");
    expect([again.status, again.headers["retry-after"], again.headers["cache-status"]]).toEqual([
      429,
      "600",
      "weir; fwd=miss; detail=quota",
    ]);
    const containerd = await ask(weir, "other/manifests/1", { query: "?ns=docker.io" });
    expect([containerd.status, containerd.headers["retry-after"]]).toEqual([503, "600"]);
    expect(counted()).toEqual([]);
    expect(hub.lines("registry").filter((line) => line.includes("manifests"))).toEqual([
      "registry HEAD /v2/library/held/manifests/1 bearer 200",
    ]);
    expect([await limited(weir, "quota"), await limited(weir, "abuse"), await stale(weir, "budget-low")]).toEqual([
      1, 0, 1,
    ]);
    expect(await weir.metric("weir_upstream_breaker_open", { upstream: "docker.io" })).toBe(0);

    hub.quota = quota(50);
    clock.advance(10 * MINUTE);
    expectStatus(200, await ask(weir, "other/manifests/1"));
    expectStatus(200, await ask(weir, "held/manifests/1"));
    expect((await gauges(weir))[1]).toBe(48);
  });

  test("U6 no Retry-After: a free HEAD, a minute later and only since somebody wants it, opens it", async () => {
    const weir = await holding();
    hub.quota = quota(0);
    const refused = await ask(weir, "new/manifests/1");
    expect([refused.status, refused.headers["retry-after"]]).toEqual([429, "60"]);
    clock.advance(MINUTE - SECOND);
    expect((await ask(weir, "new/manifests/1")).headers["retry-after"]).toBe("60");
    expect(hub.count({ path: /ratelimitpreview/ })).toBe(0);
    hub.quota = quota(40);
    clock.advance(SECOND);
    await until("quota again", async () => (await gauges(weir))[1] === 40);
    expect(hub.count({ method: "HEAD", path: /ratelimitpreview/, status: 200 })).toBe(1);
    expectStatus(200, await ask(weir, "new/manifests/1"));
    expect(counted()).toEqual([429, 200]);
    clock.advance(HOUR);
    expect(hub.count({ path: /ratelimitpreview/, status: 200 })).toBe(1);
  });

  test("U6 two credentials: the same pull goes on with the other, and without either nothing is asked", async () => {
    const credentials = ["one", "two"].map((label) => ({ label, username: label, password: `${label}-pw` }));
    const weir = await app({ credentials });
    hub.quotas.set("one", quota(20));
    hub.quotas.set("two", quota(40));
    await pullByHead(weir.url, "library/new", "1", NEW);
    // The first HEAD has told of the one; of the other nothing is known, which is taken for more.
    expect([(await gauges(weir, "one"))[1], (await gauges(weir, "two"))[1]]).toEqual([20, 40 - NEW.manifests.length]);

    hub.clearLedger();
    hub.quotas.set("two", quota(0));
    await pullByHead(weir.url, "library/held", "1", HELD);
    // Its HEAD has told that nothing is left, before any GET.
    expect(counted()).toEqual(HELD.manifests.map(() => 200));
    expect([(await gauges(weir, "one"))[1], (await gauges(weir, "two"))[1]]).toEqual([20 - HELD.manifests.length, 0]);

    hub.clearLedger();
    hub.quotas.set("one", quota(0));
    hub.add("library/last", MOVED, ["1"]);
    for (let i = 0; i < 5; i += 1) expect((await ask(weir, "last/manifests/1")).status).toBe(429);
    expect(counted()).toEqual([429]);
    expect([await limited(weir, "quota", "one"), await limited(weir, "quota", "two")]).toEqual([1, 0]);
    expect([(await gauges(weir, "one"))[1], (await gauges(weir, "two"))[1]]).toEqual([0, 0]);
  });
});

describe("U6 little quota is left", () => {
  const STALE = "weir; fwd=stale; detail=budget-low";

  test("U6 a moved tag is answered as it is held, by HEAD and GET, with the Warning and at no cost; then it is fetched", async () => {
    hub.quota = quota(9 + HELD.manifests.length);
    const weir = await holding();
    expect(await gauges(weir)).toEqual([100, 9, WINDOW_S]);
    hub.add("library/held", MOVED, ["1"]);
    for (const method of ["HEAD", "GET", "HEAD", "GET"]) {
      const { headers } = expectStatus(200, await ask(weir, "held/manifests/1", { method }));
      expect([headers["docker-content-digest"], headers["cache-status"]]).toEqual([HELD.root.digest, STALE]);
      expect(headers.warning).toMatch(
        /^299 - "docker\.io\/library\/held:1 is answered as of 2026-01-01T00:00:00\.000Z: little is left/,
      );
    }
    expect(hub.lines("registry").filter((line) => !line.endsWith("401"))).toEqual([
      "registry HEAD /v2/library/held/manifests/1 bearer 200",
    ]);
    expect(await stale(weir, "budget-low")).toBe(4);
    // What is not held is fetched all the same.
    await pullByHead(weir.url, "library/new", "1", NEW);
    hub.quota = quota(90);
    clock.advance(HOUR);
    await pullByHead(weir.url, "library/held", "1", MOVED);
    expect(await stale(weir, "budget-low")).toBe(4);
  });

  test("U6 the threshold is the configured one: a number, or none", async () => {
    hub.quota = quota(50 + HELD.manifests.length);
    const weir = await holding({ freshness: { whenBudgetLow: { below: 60 } } }, { whenBudgetLow: { below: 0 } });
    hub.add("library/held", MOVED, ["1"]);
    expect((await ask(weir, "held/manifests/1")).headers["cache-status"]).toBe(STALE);
    hub.add("library/held", HELD, ["1"]);
    const spender = await holding({}, { whenBudgetLow: { below: 0 } });
    hub.quota = quota(1);
    hub.add("library/held", MOVED, ["1"]);
    const { headers } = expectStatus(200, await ask(spender, "held/manifests/1"));
    expect(headers["docker-content-digest"]).toBe(MOVED.root.digest);
    expect(await stale(spender, "budget-low")).toBe(0);
  });
});

describe("U6 the limit on all requests", () => {
  test("U6 blobs in flight are held and tried again, a few at a time, and none of them fails", async () => {
    const weir = await holding();
    await Promise.all(NEW.manifests.map(({ digest }) => ask(weir, `new/manifests/${digest}`)));
    hub.clearLedger();
    hub.abuse = true;
    const pulling = NEW.blobs.map(({ digest }) => ask(weir, `new/blobs/${digest}`));
    const refusals = () => hub.count({ role: "registry", status: 429 });
    await until("the first refusal", async () => (await limited(weir, "abuse")) > 0);
    const old = expectStatus(200, await ask(weir, "held/manifests/1"));
    expect(old.headers["cache-status"]).toBe("weir; fwd=stale; detail=stale-if-error");
    for (let i = 0; i < 120; i += 1) {
      clock.advance(SECOND);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    // Pauses double: in two minutes each blob may have been tried at the end of each.
    expect(refusals()).toBeLessThanOrEqual(NEW.blobs.length * 9);
    hub.abuse = false;
    const patience = setInterval(() => clock.advance(SECOND), 1);
    try {
      for (const [i, reply] of (await Promise.all(pulling)).entries()) {
        expect(expectStatus(200, reply).body.equals(NEW.blobs[i]?.bytes ?? Buffer.alloc(0))).toBe(true);
      }
    } finally {
      clearInterval(patience);
    }
    expect(await limited(weir, "abuse")).toBe(refusals());
    expect(await limited(weir, "quota")).toBe(0);
    expect(await weir.metric("weir_upstream_breaker_open", { upstream: "docker.io" })).toBe(0);
  });
});
