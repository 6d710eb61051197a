import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { artifact, dockerImage, type Image, multiArchImage, push, sha256, smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startRegistry } from "../support/registry.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const IMAGES: Readonly<Record<string, Image>> = {
  small: smallImage("restart"),
  multi: multiArchImage("restart"),
  docker: dockerImage("restart"),
  artifact: artifact("restart"),
  odd: oddManifest(),
};

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  for (const [name, image] of Object.entries(IMAGES)) hub.add(`team/${name}`, image, ["1"]);
});

afterEach(() => stack.disposeAsync());

/** A manifest whose type only its registry knows. */
function oddManifest(): Image {
  const bytes = Buffer.from('{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}');
  const root = { mediaType: "application/vnd.example.thing.v7+json", digest: sha256(bytes), bytes };
  return { root, manifests: [root], blobs: [] };
}

/** A process of its own on `root`, with a new configuration file and nothing else. */
async function weirOn(root: string | undefined, freshness: object = {}): Promise<WeirProcess> {
  return await startWeir(stack, {
    ...(root === undefined ? {} : { root }),
    config: { upstreams: { "docker.io": hubUpstream(hub) }, freshness: { default: "1h", ...freshness } },
  });
}

interface TagRecord {
  readonly checkedAtMs: number;
  readonly goneSinceMs?: number;
}

/** Lets time pass for a tag while no process runs. */
async function age(root: string, name: string, ms: number): Promise<void> {
  const file = join(root, "weir/v1/repositories/docker.io/team", name, "_tags/1.json");
  const record = JSON.parse(await readFile(file, "utf8")) as TagRecord;
  const { checkedAtMs, goneSinceMs } = record;
  const older = {
    ...record,
    checkedAtMs: checkedAtMs - ms,
    ...(goneSinceMs === undefined ? {} : { goneSinceMs: goneSinceMs - ms }),
  };
  await writeFile(file, JSON.stringify(older));
}

/** And all of it is kept. */
async function pullAll(weir: WeirProcess): Promise<void> {
  for (const [name, image] of Object.entries(IMAGES)) await pullByHead(weir.url, `team/${name}`, "1", image);
  await fillsOver(weir);
}

const tagUrl = (weir: WeirProcess, name: string) => `${weir.url}/v2/docker.io/team/${name}/manifests/1`;

test("M2 a new process with nothing but the storage root: fresh tags cost nothing, expired ones one HEAD, and nothing a GET", async () => {
  const first = await weirOn(undefined);
  await pullAll(first);
  await first.kill();
  for (const name of ["small", "odd"]) await age(first.root, name, 2 * HOUR);
  hub.clearLedger();

  const second = await weirOn(first.root);
  await Promise.all(Array.from({ length: 10 }, () => pullAll(second)));

  expect(hub.count({ role: "registry", method: "GET" })).toBe(0);
  expect(hub.count({ role: "cdn" })).toBe(0);
  expect(hub.lines("registry").filter((line) => line.endsWith(" 200"))).toEqual([
    "registry HEAD /v2/team/small/manifests/1 bearer 200",
    "registry HEAD /v2/team/odd/manifests/1 bearer 200",
  ]);
});

test("M2 with every upstream dead: what was pulled once, as containerd does it, is served stale, types and all", async () => {
  const first = await weirOn(undefined);
  await pullAll(first);
  await first.kill();
  for (const name of Object.keys(IMAGES)) await age(first.root, name, 2 * HOUR);
  await hub.close();

  const second = await weirOn(first.root);
  for (const [name, image] of Object.entries(IMAGES)) {
    const head = await pullByHead(second.url, `team/${name}`, "1", image);
    expect([name, head.headers["content-type"]]).toEqual([name, image.root.mediaType]);
    expect(head.headers["cache-status"]).toBe("weir; fwd=stale; detail=stale-if-error");
    expect(head.headers.warning).toMatch(
      new RegExp(
        `^299 - "docker\\.io/team/${name}:1 is answered as of 20.*Z: docker\\.io is in trouble \\(connect\\)"$`,
      ),
    );
    const get = expectStatus(200, await httpRequest(tagUrl(second, name)));
    expect(get.body.equals(image.root.bytes)).toBe(true);
  }
});

test("M2 several tags that were asked for before their manifest was fetched by its digest are all known after a restart", async () => {
  hub.add("team/small", smallImage("restart"), ["1", "1.0", "stable"]);
  const first = await weirOn(undefined);
  const manifests = (weir: WeirProcess) => `${weir.url}/v2/docker.io/team/small/manifests`;
  for (const tag of ["1", "1.0", "stable"]) {
    expectStatus(200, await httpRequest(`${manifests(first)}/${tag}`, { method: "HEAD" }));
  }
  expectStatus(200, await httpRequest(`${manifests(first)}/${smallImage("restart").root.digest}`));
  await first.kill();
  await hub.close();

  const second = await weirOn(first.root);
  for (const tag of ["1", "1.0", "stable"]) {
    const reply = expectStatus(200, await httpRequest(`${manifests(second)}/${tag}`));
    expect([tag, reply.headers["cache-status"]]).toEqual([tag, expect.stringMatching(/^weir; hit; ttl=/)]);
  }
});

test("M2 when a tag vanished is known after a restart: keep:DURATION counts from then, not from the start", async () => {
  const keep = { onGone: "keep:1d" };
  const first = await weirOn(undefined);
  await pullAll(first);
  await first.kill();
  await age(first.root, "small", 2 * HOUR);
  hub.removeTag("team/small", "1");

  const second = await weirOn(first.root, keep);
  const gone = expectStatus(200, await httpRequest(tagUrl(second, "small")));
  expect(gone.headers["cache-status"]).toBe("weir; fwd=stale; fwd-status=404; detail=gone");
  await second.kill();
  await age(first.root, "small", DAY - HOUR);
  await hub.close();

  const third = await weirOn(first.root, keep);
  const kept = expectStatus(200, await httpRequest(tagUrl(third, "small")));
  expect(kept.headers["cache-status"]).toBe("weir; fwd=stale; detail=gone");
  await third.kill();
  await age(first.root, "small", HOUR);

  const fourth = await weirOn(first.root, keep);
  expect((await httpRequest(tagUrl(fourth, "small"))).status).toBe(502);
});

toolTest(
  ["docker-registry"],
  "M2 adopted tags, written by a stock registry, count as stale and are served",
  async () => {
    const registry = await startRegistry(stack);
    const adopted = ["small", "multi", "docker", "artifact"];
    for (const name of adopted) await push(registry.url, `docker.io/team/${name}`, "1", IMAGES[name] ?? oddManifest());
    await registry.stop();
    hub.clearLedger();

    const weir = await weirOn(registry.root);
    for (const name of adopted) await pullByHead(weir.url, `team/${name}`, "1", IMAGES[name] ?? oddManifest());
    expect(hub.count({ role: "registry", method: "GET" })).toBe(0);
    expect(hub.lines("registry").filter((line) => line.endsWith(" 200"))).toEqual(
      adopted.map((name) => `registry HEAD /v2/team/${name}/manifests/1 bearer 200`),
    );
  },
);

toolTest(
  ["docker-registry"],
  "M2 adopted tags are served with every upstream dead, as of an unknown time",
  async () => {
    const registry = await startRegistry(stack);
    const adopted = ["small", "multi", "docker", "artifact"];
    for (const name of adopted) await push(registry.url, `docker.io/team/${name}`, "1", IMAGES[name] ?? oddManifest());
    await registry.stop();
    await hub.close();

    const weir = await weirOn(registry.root);
    for (const name of adopted) {
      const head = await pullByHead(weir.url, `team/${name}`, "1", IMAGES[name] ?? oddManifest());
      expect(head.headers["cache-status"]).toBe("weir; fwd=stale; detail=stale-if-error");
      expect(head.headers.warning).toContain(`docker.io/team/${name}:1 is answered as of an unknown time`);
    }
  },
);
