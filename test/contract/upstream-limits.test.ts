/** Sections 12 "Rate limits" and 13 "Token authentication" of upstreams.md. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { o, readAll, type TestClock, tag } from "../integration/upstream/bench.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";
import type { RegistryOptions } from "../support/registries/traits.ts";
import { ACCOUNT, blob, credentialOf, digest, doubleBench, fault, filled, image, over } from "./upstream-bench.ts";

let stack: AsyncDisposableStack;
let clock: TestClock;
let options: RegistryOptions;

beforeEach(() => {
  ({ stack, clock, options } = doubleBench());
});

afterEach(() => stack.disposeAsync());

describe("section 12, rate limits", () => {
  test("U6 Docker Hub's pull limit in the middle of a pull: blobs and HEADs go on, manifests wait, and nothing hammers", async () => {
    const hub = filled(await startHubDouble(stack, options));
    hub.quota = { limit: 100, windowS: 21_600, remaining: 1 };
    const upstream = over(hub, clock, { type: "dockerhub" });
    await upstream.getManifest("team/app", tag("1"), o());
    expect(upstream.quotaStatus()).toMatchObject([
      { limit: 100, remaining: 0, windowS: 21_600, source: "203.0.113.7" },
    ]);
    for (let i = 0; i < 10; i += 1) {
      expect(await fault(upstream.getManifest("team/other", tag("1"), o()))).toBe("quota");
    }
    expect(hub.count({ role: "registry", status: 429 })).toBe(1);
    expect((await upstream.headManifest("team/app", tag("1"), o())).digest).toBe(image.root.digest);
    const { body } = await upstream.getBlob("team/app", digest(blob), { ...o(), start: 0 });
    expect(await readAll(body)).toEqual(Buffer.from(blob.bytes));
  });

  test("U6 Docker Hub's abuse limit: plain text, and everything backs off", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const upstream = over(hub, clock, { type: "dockerhub" });
    await upstream.headManifest("team/app", tag("1"), o());
    hub.abuse = true;
    expect(await fault(upstream.headManifest("team/app", tag("1"), o()))).toBe("quota");
    hub.clearLedger();
    expect(await fault(upstream.getManifest("team/app", tag("1"), o()))).toBe("quota");
    expect(await fault(upstream.getBlob("team/app", digest(blob), { ...o(), start: 0 }))).toBe("quota");
    expect(hub.lines("registry")).toEqual([]);
  });

  test("U6 Docker Hub: two credentials, each with a quota of its own: the one that has more left is used", async () => {
    const accounts = [ACCOUNT, { username: "second", password: "second-p4ssword" }];
    const hub = filled(await startHubDouble(stack, { ...options, accounts }));
    hub.quotas.set("robot", { limit: 200, windowS: 21_600, remaining: 1 });
    hub.quotas.set("second", { limit: 200, windowS: 21_600, remaining: 200 });
    const second = { ...credentialOf({ username: "second", password: "second-p4ssword" }), label: "second" };
    const upstream = over(hub, clock, { type: "dockerhub", credentials: [credentialOf(ACCOUNT), second] });
    for (let i = 0; i < 5; i += 1) await upstream.getManifest("team/secret", tag("1"), o());
    expect([hub.quotas.get("robot")?.remaining, hub.quotas.get("second")?.remaining]).toEqual([0, 196]);
    expect(hub.count({ status: 429 })).toBe(0);
  });

  test("Docker Hub: headers absent = unlimited", async () => {
    const hub = filled(await startHubDouble(stack, options));
    const upstream = over(hub, clock, { type: "dockerhub" });
    await upstream.getManifest("team/app", tag("1"), o());
    expect(upstream.quotaStatus()).toEqual([]);
    expect(upstream.budgetLow("team/app")).toBe(false);
  });
});

describe("section 13, tokens", () => {
  test("expires_in below 60 is read as 60: a token that ends sooner costs one 401 and no failure", async () => {
    const hub = filled(await startHubDouble(stack, { ...options, tokenLifetimeS: 10 }));
    const upstream = over(hub, clock, { type: "dockerhub" });
    await upstream.headManifest("team/app", tag("1"), o());
    clock.turn(11_000);
    await upstream.headManifest("team/app", tag("1"), o());
    expect([hub.count({ role: "registry", status: 401 }), hub.count({ role: "token" })]).toEqual([2, 2]);
  });
});
