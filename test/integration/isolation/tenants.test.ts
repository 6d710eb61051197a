/**
 * The isolation table again, under identities: tenant B knows every tag and digest of tenant A's private repository, and is refused
 * by the same rule in every spelling and on every route, in every state of the cache. What is refused asks no upstream anything.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../../support/app.ts";
import { getBlob } from "../../support/blob-pull.ts";
import { expectStatus, hubUpstream } from "../../support/hub-weir.ts";
import { type Content, type Image, seededBytes, sha256, smallImage } from "../../support/images.ts";
import { ask, CATALOGS, routes, SPELLINGS, VIRTUAL_HOST } from "../../support/isolation.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { fillsOver } from "../../support/metrics.ts";
import { httpRequest } from "../../support/network.ts";
import { tempFolder } from "../../support/processes.ts";
import { startRedis } from "../../support/redis.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import { basic, htpasswd } from "../../support/sign-in.ts";
import { toolTest } from "../../support/tools.ts";
import { startWeirs } from "../../support/weir-fleet.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const ACCOUNT = { username: "weir", password: "dckr-pat-tenants" };
const VAULT = "library/vault";
const SITE = "library/site";
const ALICE = { authorization: basic("alice", "alice's own") };
const BOB = { authorization: basic("bob", "bob's own") };
const LARGE: Content = largeLayer();

let stack: AsyncDisposableStack;
let clock: ManualClock;
let hub: HubDouble;
let image: Image;
let passwords: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  clock = new ManualClock(Date.now());
  hub = await startHubDouble(stack, { accounts: [ACCOUNT], now: () => clock.now() });
  image = smallImage("vault");
  hub.add(VAULT, image, ["1"], "private");
  hub.add(VAULT, { root: image.root, manifests: [], blobs: [LARGE] }, []);
  hub.add(SITE, smallImage("site"), ["1"]);
  passwords = join(await tempFolder(stack), "htpasswd");
  await writeFile(passwords, await htpasswd({ alice: "alice's own", bob: "bob's own" }));
});

afterEach(() => stack.disposeAsync());

function largeLayer(): Content {
  const bytes = seededBytes("a tenant's layer on its way", 1024 * 1024);
  return { mediaType: "application/octet-stream", digest: sha256(bytes), bytes };
}

function config(): Readonly<Record<string, unknown>> {
  return {
    upstreams: {
      "docker.io": {
        ...hubUpstream(hub),
        credentials: [{ label: "ci", ...ACCOUNT }],
        // What is held up is not to be asked for again, however long the machine takes.
        timeouts: { body: "1h" },
      },
    },
    routing: { default: "docker.io", hosts: { [VIRTUAL_HOST]: "docker.io" } },
    access: {
      mode: ["anonymous", "htpasswd"],
      htpasswd: { file: passwords },
      rules: [
        { effect: "allow", accounts: ["alice"] },
        // Everything but alice's repository.
        { effect: "allow", accounts: ["bob"], what: ["docker.io/library/site", "docker.io/bob/**"] },
      ],
    },
  };
}

async function start(root?: string): Promise<TestApp> {
  return await startTestApp(stack, { clock, config: config(), ...(root === undefined ? {} : { root }) });
}

function things() {
  return { tag: "1", manifest: image.root.digest, blob: image.blobs[0]?.digest ?? "", large: LARGE.digest };
}

/** All of it, by whom it belongs to. */
async function pullAsAlice(url: string): Promise<void> {
  for (const path of [
    "manifests/1",
    ...image.manifests.map(({ digest }) => `manifests/${digest}`),
    ...[...image.blobs, LARGE].map(({ digest }) => `blobs/${digest}`),
  ]) {
    expectStatus(200, await httpRequest(`${url}/v2/docker.io/${VAULT}/${path}`, { headers: ALICE }));
  }
}

/** Bob is refused by the rules in each cell, and finds nothing in a catalog; nobody is challenged. The upstream is not asked. */
async function expectNothing(weir: { readonly url: string }): Promise<void> {
  const asked = hub.ledger.length;
  const cells = Object.entries(SPELLINGS).flatMap(([spelling, spell]) => [
    ...Object.entries(routes(things())).map(async ([name, route]) => {
      const reply = await ask(weir, spell(VAULT, route.tail), { ...route, headers: { ...route.headers, ...BOB } });
      const [error] = route.method === "HEAD" ? [undefined] : JSON.parse(reply.body.toString()).errors;
      const told = [reply.status, error?.code, error?.detail.key];
      const expected = route.method === "HEAD" ? [403, undefined, undefined] : [403, "DENIED", "access.rules"];
      expect([spelling, name, ...told]).toEqual([spelling, name, ...expected]);
    }),
    ask(weir, spell(VAULT, "manifests/1"), { method: "GET" }).then(({ status }) =>
      expect([spelling, "nobody", status]).toEqual([spelling, "nobody", 401]),
    ),
  ]);
  await Promise.all(cells);
  for (const catalog of CATALOGS) {
    const reply = await ask(weir, catalog, { method: "GET", headers: BOB });
    expect([catalog, reply.status]).toEqual([catalog, 200]);
    expect(reply.body.toString()).not.toContain("vault");
  }
  expect(hub.ledger.length).toBe(asked);
}

describe("A1 A3 tenant B gets nothing of tenant A's private repository, on any route, in any spelling", () => {
  test("cold, and negative", async () => {
    const weir = await start();
    await expectNothing(weir);
    const absent = `${weir.url}/v2/docker.io/${VAULT}/manifests/absent`;
    expectStatus(404, await httpRequest(absent, { headers: ALICE }));
    expectStatus(403, await httpRequest(absent, { headers: BOB }));
    await expectNothing(weir);
  });

  test("in flight: a tag, and a layer", async () => {
    const weir = await start();
    const held = Promise.withResolvers<void>();
    const path = /manifests\/1$/;
    hub.fail({ role: "registry", method: "GET", path, effect: { kind: "hold", until: held.promise } });
    const pull = httpRequest(`${weir.url}/v2/docker.io/${VAULT}/manifests/1`, { headers: ALICE });
    await expect.poll(() => hub.count({ role: "registry", method: "GET", path })).toBe(1);
    await expectNothing(weir);
    held.resolve();
    expectStatus(200, await pull);

    const hex = LARGE.digest.slice("sha256:".length);
    hub.fail({ role: "cdn", path: new RegExp(hex), effect: { kind: "stall", afterBytes: 500_000 } });
    const layer = await getBlob(`${weir.url}/v2/docker.io/${VAULT}/blobs/${LARGE.digest}`, ALICE);
    stack.defer(async () => layer.leave());
    await layer.take(200_000);
    await expectNothing(weir);
    expect(await weir.metric("weir_fills_in_flight")).toBe(1);
  });

  test("warm, stale and after a restart; the owner is served all the while, and what B may have is B's", async () => {
    const weir = await start();
    await pullAsAlice(weir.url);
    await fillsOver(weir);
    await expectNothing(weir);
    expectStatus(200, await httpRequest(`${weir.url}/v2/docker.io/${SITE}/manifests/1`, { headers: BOB }));
    expect(await weir.metric("weir_access_denied_total", { reason: "rule" })).toBeGreaterThan(0);

    await weir.stop();
    const again = await start(weir.root);
    await expectNothing(again);
    await hub.close();
    clock.advance(DAY_MS / 2);
    await expectNothing(again);
    const stale = await httpRequest(`${again.url}/v2/docker.io/${VAULT}/manifests/1`, { headers: ALICE });
    expect([stale.status, stale.headers.warning]).toEqual([200, expect.stringContaining("299")]);
    await expectNothing(again);
  });

  toolTest(["redis-server"], "from another replica, while the first downloads and afterwards", async () => {
    const [one, two] = await startWeirs(stack, { replicas: 2, redis: await startRedis(stack), config: config() });
    if (one === undefined || two === undefined) throw new Error("a fleet has at least two");
    const hex = LARGE.digest.slice("sha256:".length);
    hub.fail({ role: "cdn", path: new RegExp(hex), effect: { kind: "stall", afterBytes: 500_000 } });
    const layer = await getBlob(`${one.url}/v2/docker.io/${VAULT}/blobs/${LARGE.digest}`, ALICE);
    stack.defer(async () => layer.leave());
    await layer.take(200_000);
    await expectNothing(two);
    // Read from the first by the second, for whom it belongs to.
    const other = await getBlob(`${two.url}/v2/docker.io/${VAULT}/blobs/${LARGE.digest}`, ALICE);
    stack.defer(async () => other.leave());
    await other.take(200_000);
    await expectNothing(two);
    await expectNothing(one);
  });
});

test("rules, a frozen upstream and what is not held are live, and each refusal names its key", async () => {
  const weir = await start();
  const site = `${weir.url}/v2/docker.io/${SITE}/manifests/1`;
  const keyOf = async (headers: Readonly<Record<string, string>>): Promise<unknown> => {
    const reply = await httpRequest(site, { headers });
    return reply.status === 200 ? 200 : [reply.status, JSON.parse(reply.body.toString()).errors[0].detail.key];
  };
  const { upstreams, access } = config() as Readonly<Record<string, Readonly<Record<string, object>>>>;
  const frozen = { "docker.io": { ...upstreams?.["docker.io"], frozen: true } };
  await weir.configure({ upstreams: frozen });
  expect(await keyOf(BOB)).toEqual([403, "upstreams.docker.io.frozen"]);
  expect(hub.ledger).toEqual([]);
  await weir.configure({});
  expect(await keyOf(BOB)).toBe(200);
  const asked = hub.ledger.length;
  await weir.configure({ upstreams: frozen });
  clock.advance(DAY_MS);
  expect(await keyOf(BOB)).toBe(200);
  await weir.configure({ access: { ...access, rules: [{ effect: "deny", accounts: ["bob"] }, { effect: "allow" }] } });
  expect(await keyOf(BOB)).toEqual([403, "access.rules[0]"]);
  expect(hub.ledger.length).toBe(asked);
  expect(await keyOf({})).toBe(200);
});

test("a mirror for one network: the client's address behind a proxy decides, and what stands left of it is made up", async () => {
  const rules = [{ effect: "allow", from: ["10.0.0.0/8"] }];
  const server = { listen: "127.0.0.1:0", trustedProxies: ["127.0.0.0/8"] };
  const weir = await startTestApp(stack, { clock, config: { ...config(), server, access: { rules } } });
  const get = async (forwarded: string, path = `${SITE}/manifests/1`): Promise<number> => {
    const headers = { "x-forwarded-for": forwarded };
    return (await httpRequest(`${weir.url}/v2/${path}?ns=docker.io`, { headers })).status;
  };
  expect(await get("10.1.2.3, 192.0.2.1")).toBe(403);
  expect(await get("nowhere")).toBe(403);
  expect(hub.ledger).toEqual([]);
  expect(await get("192.0.2.1, 10.1.2.3")).toBe(200);
  expect(await get("192.0.2.1")).toBe(403);
  // An address opens nothing private by accident.
  expect(await get("10.1.2.3", `${VAULT}/manifests/1`)).toBe(403);
});
