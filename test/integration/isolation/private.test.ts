/**
 * The isolation table of a private repository that Weir's credential can read and the caller may not: in every state of the
 * cache, on every route, in every spelling. The expected answer of each cell is the same 403, whatever is there or is not.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../../support/app.ts";
import { getBlob } from "../../support/blob-pull.ts";
import { hubUpstream } from "../../support/hub-weir.ts";
import { type Content, type Image, seededBytes, sha256, smallImage } from "../../support/images.ts";
import {
  ask,
  CATALOGS,
  type Route,
  routes,
  SPELLINGS,
  type Spelling,
  type Things,
  told,
  VIRTUAL_HOST,
} from "../../support/isolation.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { fillsOver } from "../../support/metrics.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const ACCOUNT = { username: "weir", password: "dckr-pat-isolation" };
/** Private; and a repository that there is not. */
const VAULT = "library/vault";
const NOWHERE = "library/nowhere";
const SITE = "library/site";
/** Large enough to be on its way for as long as a test likes. */
const LARGE: Content = bigLayer();

let stack: AsyncDisposableStack;
let clock: ManualClock;
let hub: HubDouble;
let image: Image;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  clock = new ManualClock(Date.now());
  hub = await startHubDouble(stack, { accounts: [ACCOUNT], now: () => clock.now() });
  image = smallImage("vault");
  hub.add(VAULT, image, ["1"], "private");
  hub.add(VAULT, { root: image.root, manifests: [], blobs: [LARGE] }, []);
  hub.add(SITE, smallImage("site"), ["1"]);
});

afterEach(() => stack.disposeAsync());

function bigLayer(): Content {
  const bytes = seededBytes("a layer on its way", 1024 * 1024);
  return { mediaType: "application/octet-stream", digest: sha256(bytes), bytes };
}

const there = (): Things => ({
  tag: "1",
  manifest: image.root.digest,
  blob: image.blobs[0]?.digest ?? "",
  large: LARGE.digest,
});
const NOT_THERE: Things = {
  tag: "absent",
  manifest: sha256(Buffer.from("no such manifest")),
  blob: sha256(Buffer.from("no such blob")),
  large: sha256(Buffer.from("no such layer")),
};

// ---- the cells

/** A 403 in every cell, nothing in any catalog, and no difference to what is not there. */
async function expectNothing(weir: TestApp): Promise<void> {
  await expectDenied(weir);
  await expectNoOracle(weir);
}

async function expectDenied(weir: TestApp): Promise<void> {
  const denied: Record<string, unknown> = {};
  const cells = Object.entries(SPELLINGS).flatMap(([spelling, spell]) =>
    Object.entries(routes(there())).map(async ([name, route]) => {
      const reply = await ask(weir, spell(VAULT, route.tail), route);
      const [error] = route.method === "HEAD" ? [undefined] : JSON.parse(reply.body.toString()).errors;
      denied[`${name}, ${spelling}`] = [reply.status, error?.code, error?.detail.key];
    }),
  );
  await Promise.all(cells);
  const expected = Object.keys(SPELLINGS).flatMap((spelling) =>
    Object.entries(routes(there())).map(([name, { method }]) => [
      `${name}, ${spelling}`,
      method === "HEAD" ? [403, undefined, undefined] : [403, "DENIED", "access.privateToAnonymous"],
    ]),
  );
  expect(denied).toEqual(Object.fromEntries(expected));
  for (const catalog of CATALOGS) {
    const reply = await ask(weir, catalog, { method: "GET" });
    expect([catalog, reply.status]).toEqual([catalog, 200]);
    expect(reply.body.toString()).not.toContain("vault");
  }
}

/** What is there is answered as what is not there: in the repository, and in one that there is not. */
async function expectNoOracle(weir: TestApp): Promise<void> {
  const spell = SPELLINGS.prefix as Spelling;
  const present = Object.entries(routes(there()));
  const absent = Object.values(routes(NOT_THERE));
  await Promise.all(
    present.map(async ([name, route], i) => {
      const other = absent[i] as Route;
      const here = told(await ask(weir, spell(VAULT, route.tail), route), VAULT);
      const missing = told(await ask(weir, spell(VAULT, other.tail), other), VAULT);
      const nowhere = told(await ask(weir, spell(NOWHERE, route.tail), route), NOWHERE);
      expect([name, missing, nowhere]).toEqual([name, here, here]);
    }),
  );
}

/** That each of the routes would give something to who may have it, so that a 403 means something. */
async function expectEverything(weir: TestApp): Promise<void> {
  const expected: Record<string, number> = {
    "GET blob, range": 206,
    "GET large blob, range": 206,
    "GET blob, range beyond the end": 416,
    "conditional GET blob": 304,
    "conditional GET manifest": 304,
    // Docker Hub has no such API.
    "GET referrers": 404,
    "GET referrers of a type": 404,
  };
  for (const [name, route] of Object.entries(routes(there()))) {
    const { status } = await ask(weir, { path: `/v2/docker.io/${VAULT}/${route.tail}` }, route);
    expect([name, status]).toEqual([name, expected[name] ?? 200]);
  }
}

// ---- the states

function config(o: { readonly open: boolean; readonly signedIn?: boolean }): Readonly<Record<string, unknown>> {
  const credentials = [{ label: "ci", ...ACCOUNT }];
  return {
    upstreams: { "docker.io": { ...hubUpstream(hub), ...(o.signedIn === false ? {} : { credentials }) } },
    routing: { default: "docker.io", hosts: { [VIRTUAL_HOST]: "docker.io" } },
    access: { privateToAnonymous: o.open },
  };
}

async function start(o: { open: boolean; root?: string; signedIn?: boolean }): Promise<TestApp> {
  const root = o.root === undefined ? {} : { root: o.root };
  return await startTestApp(stack, { clock, config: config(o), ...root });
}

/** One that has pulled all of it for who may have it, and is asked by somebody else now. */
async function warm(): Promise<TestApp> {
  const weir = await start({ open: true });
  expect((await ask(weir, { path: `/v2/docker.io/${SITE}/manifests/1` }, { method: "GET" })).status).toBe(200);
  await expectEverything(weir);
  await fillsOver(weir);
  await weir.configure(config({ open: false }));
  return weir;
}

describe("A1 A3 a private repository gives an anonymous caller nothing, on any route, in any spelling", () => {
  test("cold", async () => {
    await expectNothing(await start({ open: false }));
  });

  test("cold, with the upstream down", async () => {
    const weir = await start({ open: false });
    await hub.close();
    await expectNothing(weir);
  });

  test("warm, and warm again for who may have it", async () => {
    const weir = await warm();
    await expectNothing(weir);
    await weir.configure(config({ open: true }));
    await expectEverything(weir);
  });

  test("warm, a week later, when everything is to be asked anew", async () => {
    const weir = await warm();
    clock.advance(7 * DAY_MS);
    await expectNothing(weir);
  });

  test("in flight: another's download of a layer is under way", async () => {
    const weir = await start({ open: true });
    const hex = LARGE.digest.slice("sha256:".length);
    hub.fail({ role: "cdn", path: new RegExp(hex), effect: { kind: "stall", afterBytes: 500_000 } });
    const pull = await getBlob(`${weir.url}/v2/docker.io/${VAULT}/blobs/${LARGE.digest}`);
    stack.defer(async () => pull.leave());
    await pull.take(200_000);
    await weir.configure(config({ open: false }));
    await expectNothing(weir);
    expect(await weir.metric("weir_fills_in_flight")).toBe(1);
  });

  test("in flight: another's question for a tag is under way", async () => {
    const weir = await start({ open: true });
    const held = Promise.withResolvers<void>();
    const path = /manifests\/1$/;
    hub.fail({ role: "registry", method: "GET", path, effect: { kind: "hold", until: held.promise } });
    const pull = ask(weir, { path: `/v2/docker.io/${VAULT}/manifests/1` }, { method: "GET" });
    await expect.poll(() => hub.count({ role: "registry", method: "GET", path })).toBe(1);
    await weir.configure(config({ open: false }));
    await expectNothing(weir);
    held.resolve();
    expect((await pull).status).toBe(200);
    await expectNothing(weir);
  });

  test("stale: the upstream is down, and what is held is out of date", async () => {
    const weir = await warm();
    await hub.close();
    clock.advance(DAY_MS / 2);
    await expectNothing(weir);
    await weir.configure(config({ open: true }));
    const reply = await ask(weir, { path: `/v2/docker.io/${VAULT}/manifests/1` }, { method: "GET" });
    expect([reply.status, reply.headers.warning]).toEqual([200, expect.stringContaining("299")]);
    await weir.configure(config({ open: false }));
    await expectNothing(weir);
    clock.advance(2 * DAY_MS);
    await expectNothing(weir);
  });

  test("negative: absences are remembered", async () => {
    const weir = await start({ open: true });
    for (const { method, tail, headers = {} } of Object.values(routes(NOT_THERE))) {
      for (const repository of [VAULT, NOWHERE]) {
        await ask(weir, { path: `/v2/docker.io/${repository}/${tail}` }, { method, headers });
      }
    }
    await weir.configure(config({ open: false }));
    await expectNothing(weir);
  });

  test("after a restart over what is held, with the upstream up and down", async () => {
    const before = await warm();
    await before.stop();
    const weir = await start({ open: false, root: before.root });
    await expectNothing(weir);
    await hub.close();
    await expectNothing(weir);
  });

  test("after the credential is taken away", async () => {
    const before = await warm();
    await before.stop();
    // What nothing is known of is public then: it is Weir's own record that keeps this one apart.
    await expectDenied(await start({ open: false, root: before.root, signedIn: false }));
  });

  test("after the registry has taken the permission away", async () => {
    const weir = await warm();
    hub.removeRepository(VAULT);
    hub.revokeTokens();
    clock.advance(DAY_MS);
    await expectNothing(weir);
  });
});
