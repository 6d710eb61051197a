/** What the status page shows, of a whole Weir: upstreams, what is held, downloads, pulls and pins. */
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseDigest } from "../../src/oci/digest.ts";
import type { RepositoriesPage, RepositoryOverview, UpstreamOverview } from "../../src/proxy/overview/overview.ts";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { stampedBlob } from "../support/fill-sources.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { multiArchImage, smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { type OverviewApp, startOverviewApp } from "../support/overview-app.ts";
import { freePort, tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { describeS3, s3Config, s3Section } from "../support/s3-store.ts";
import { all } from "../support/upkeep-store.ts";

const MiB = 1 << 20;
const call = { signal: new AbortController().signal };
const EVERYTHING = { search: "", upstream: undefined, offset: 0, limit: 50 };
const TAGS = { search: "", offset: 0, limit: 50 };
const PASSWORD = "hub-password-of-weir";
const IMAGE = multiArchImage("overview");

let stack: AsyncDisposableStack;
let hub: HubDouble;
let origin: BlobOrigin;
let deadPort: number;
let weir: OverviewApp;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack, { accounts: [{ username: "weir", password: PASSWORD }] });
  hub.add("library/app", IMAGE, ["1", "2"]);
  hub.add("team/other", smallImage("other"), ["1"]);
  hub.add("team/secret", smallImage("secret"), ["1"], "private");
  origin = await startBlobOrigin(stack);
  deadPort = await freePort();
});

afterEach(() => stack.disposeAsync());

async function start(o: { readonly config?: object; readonly root?: string } = {}): Promise<void> {
  const credentials = [{ label: "ci", username: "weir", password: PASSWORD }];
  weir = await startOverviewApp(stack, {
    ...(o.root === undefined ? {} : { root: o.root }),
    config: {
      upstreams: {
        "docker.io": { ...hubUpstream(hub), credentials, aliases: ["hub.example"] },
        "blobs.example": origin.upstream,
        "dead.example": { endpoints: [`http://127.0.0.1:${deadPort}`] },
      },
      freshness: { default: "1h" },
      ...o.config,
    },
  });
}

async function upstream(name: string): Promise<UpstreamOverview> {
  const found = (await weir.overview.upstreams(call)).find((one) => one.name === name);
  if (found === undefined) throw new Error(`${name} is not told of`);
  return found;
}

async function held(query: object = {}): Promise<RepositoriesPage> {
  let page: RepositoriesPage | undefined;
  await until("everything that is held to be known", async () => {
    page = await weir.overview.repositories({ ...EVERYTHING, ...query }, call);
    return page.complete && page.repositories.every(({ sizeBytes }) => sizeBytes !== undefined);
  });
  if (page === undefined) throw new Error("it was looked at");
  return page;
}

async function repository(name: string): Promise<RepositoryOverview | undefined> {
  return await weir.overview.repository("docker.io", name, TAGS, call);
}

async function pullAll(): Promise<void> {
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  await pullByHead(weir.url, "library/app", "2", IMAGE);
  await pullByHead(weir.url, "team/other", "1", smallImage("other"));
  await noFills();
}

async function noFills(): Promise<void> {
  await until("all downloads to be over", async () => (await weir.overview.fills(call)).length === 0);
}

/** The same whatever keeps it. */
function whatIsHeld(): void {
  test("is there when it was pulled, and gone when it was purged", async () => {
    await pullAll();
    const page = await held();
    expect(page).toMatchObject({ total: 2, complete: true });
    expect(page.repositories).toMatchObject([
      { upstream: "docker.io", repository: "library/app", visibility: "public", tags: 2, atLeast: false },
      { upstream: "docker.io", repository: "team/other", visibility: "public", tags: 1 },
    ]);
    expect(page.repositories.every(({ sizeBytes, lastUsedMs }) => (sizeBytes ?? 0) > 0 && (lastUsedMs ?? 0) > 0)).toBe(
      true,
    );
    const app = await repository("library/app");
    const sizeBytes = [...IMAGE.manifests, ...IMAGE.blobs].reduce((sum, { bytes }) => sum + bytes.length, 0);
    expect(app?.rows).toMatchObject(
      ["1", "2"].map((tag) => ({
        tag,
        digest: IMAGE.root.digest,
        held: true,
        mediaType: IMAGE.root.mediaType,
        sizeBytes,
        platforms: ["linux/amd64", "linux/arm64", "linux/arm/v7"].map((platform) => ({ platform, held: true })),
        freshness: expect.stringMatching(/^fresh for (1 h|59 min) more$/),
        ruleKey: "freshness.default",
      })),
    );
    const asked = hub.ledger.length;
    await all(weir.upkeep.purge({ ...call, reference: "library/app:1", dryRun: false }));
    expect((await repository("library/app"))?.rows.map(({ tag }) => tag)).toEqual(["2"]);
    await all(weir.upkeep.purge({ ...call, reference: "library/app", dryRun: false }));
    expect(await repository("library/app")).toBeUndefined();
    expect((await held()).repositories.map(({ repository: name }) => name)).toEqual(["team/other"]);
    expect((await upstream("docker.io")).held).toMatchObject({ repositories: 1 });
    expect(hub.ledger).toHaveLength(asked);
  });

  test("is there again after a restart", async () => {
    await pullAll();
    const before = await held();
    await weir.stop();
    await start({ root: weir.root });
    await until("the storage to be counted", async () => (await weir.overview.storage(call)).counted);
    await until("all to be as before", async () => {
      const after = await held();
      return JSON.stringify(withoutUse(after)) === JSON.stringify(withoutUse(before));
    });
  });
}

function withoutUse({ repositories, ...page }: RepositoriesPage): unknown {
  return { ...page, repositories: repositories.map(({ lastUsedMs: _, ...line }) => line) };
}

describe("what is held on a disk", () => {
  beforeEach(() => start());
  whatIsHeld();

  test("is searched, by upstream too, and told page by page", async () => {
    await pullAll();
    const names = async (query: object) => (await held(query)).repositories.map(({ repository: name }) => name);
    expect(await names({ search: "OTHER" })).toEqual(["team/other"]);
    expect(await names({ search: "docker.io/lib" })).toEqual(["library/app"]);
    expect(await names({ upstream: "blobs.example" })).toEqual([]);
    expect(await names({ offset: 1 })).toEqual(["team/other"]);
    expect((await held({ limit: 1 })).total).toBe(2);
  });

  test("tells what is private", async () => {
    await weir.stop();
    await start({ root: weir.root, config: { access: { privateToAnonymous: true } } });
    await pullByHead(weir.url, "team/secret", "1", smallImage("secret"));
    await noFills();
    expect((await held()).repositories).toMatchObject([{ repository: "team/secret", visibility: "private" }]);
  });

  test("looking at it makes nothing look used", async () => {
    await pullAll();
    const before = (await held()).repositories.map(({ lastUsedMs }) => lastUsedMs);
    await repository("library/app");
    await repository("team/other");
    await weir.stop();
    await start({ root: weir.root });
    await until("the storage to be counted", async () => (await weir.overview.storage(call)).counted);
    const after = (await held()).repositories.map(({ lastUsedMs }) => lastUsedMs);
    expect(after.every((ms, i) => (ms ?? 0) <= (before[i] ?? 0))).toBe(true);
  });

  test("is told with what the storage uses", async () => {
    await pullAll();
    await until("the storage to be counted", async () => (await weir.overview.storage(call)).counted);
    const storage = await weir.overview.storage(call);
    const gib = 1 << 30;
    expect(storage).toMatchObject({
      driver: "filesystem",
      counted: true,
      limitBytes: 50 * gib,
      highBytes: 50 * gib * 0.95,
      lowBytes: 50 * gib * 0.85,
      waitingUploads: undefined,
    });
    expect(storage.blobs).toBe([...IMAGE.manifests, ...IMAGE.blobs].length + 4);
    expect((await upstream("docker.io")).held.bytes).toBeLessThanOrEqual(storage.bytes);
    expect((await upstream("docker.io")).held.bytes).toBeGreaterThan(0);
  });
});

describeS3("what is held in a bucket", (server) => {
  beforeEach(() => start({ config: { storage: { driver: "s3", s3: s3Section(s3Config(server())) } } }));
  test("is there when it was pulled, and gone when it was purged", async () => {
    await pullAll();
    expect((await held()).repositories).toMatchObject([
      { repository: "library/app", tags: 2 },
      { repository: "team/other", tags: 1 },
    ]);
    expect((await repository("library/app"))?.rows).toMatchObject([
      { tag: "1", held: true, digest: IMAGE.root.digest },
      { tag: "2", held: true },
    ]);
    await all(weir.upkeep.purge({ ...call, reference: "library/app", dryRun: false }));
    expect((await held()).repositories.map(({ repository: name }) => name)).toEqual(["team/other"]);
    expect(await weir.overview.storage(call)).toMatchObject({ driver: "s3" });
  });
});

describeS3("what is held on a disk in front of a bucket", (server) => {
  let place: object;
  beforeEach(async () => {
    const root = join(await tempFolder(stack), "data");
    place = { storage: { driver: "tiered", filesystem: { root }, s3: s3Section(s3Config(server())) } };
    await start({ root, config: place });
  });

  test("is told, and so is what the bucket has when the disk is another one", async () => {
    await pullAll();
    await until("everything to be in the bucket", async () => {
      return (await weir.overview.storage(call)).waitingUploads === 0;
    });
    await all(weir.upkeep.pin({ ...call, reference: "app:1" }));
    const names = async () => (await held()).repositories.map(({ repository: name }) => name);
    expect(await names()).toEqual(["library/app", "team/other"]);
    expect(await weir.overview.storage(call)).toMatchObject({ driver: "tiered", waitingUploads: 0 });
    await weir.stop();
    const root = join(await tempFolder(stack), "data");
    const { storage } = place as { storage: object };
    await start({ root, config: { storage: { ...storage, filesystem: { root } } } });
    expect(await names()).toEqual(["library/app", "team/other"]);
    // It was pinned by a Weir with another disk.
    expect((await repository("library/app"))?.rows[0]?.pinnedBy).toEqual({
      pin: "docker.io/library/app:1",
      from: "operator",
    });
  });
});

describe("upstreams", () => {
  beforeEach(() => start());

  test("are told in the order of the configuration, with quotas and credentials, and without secrets", async () => {
    const before = await weir.overview.upstreams(call);
    expect(before.map(({ name, type, dynamic }) => [name, type, dynamic]).slice(0, 3)).toEqual([
      ["docker.io", "dockerhub", false],
      ["blobs.example", "generic", false],
      ["dead.example", "generic", false],
    ]);
    hub.quotas.set("weir", { limit: 200, remaining: 150, windowS: 3600 });
    await pullAll();
    const docker = await upstream("docker.io");
    expect(docker.endpoints).toMatchObject([{ origin: new URL(hub.url).origin, breaker: "closed" }]);
    expect(docker.credentials).toMatchObject([{ label: "ci", parkedUntilMs: undefined }]);
    expect(docker.quotas).toMatchObject([{ credential: "ci", limit: 200, windowS: 3600, closedUntilMs: undefined }]);
    expect(docker.quotas[0]?.remaining).toBeLessThan(150);
    expect(docker.lastError).toBeUndefined();
    expect(JSON.stringify(await weir.overview.upstreams(call))).not.toContain(PASSWORD);
  });

  test("that do not answer are told with why and since when, and with their breaker", async () => {
    const pull = () => httpRequest(`${weir.url}/v2/dead.example/app/manifests/1`);
    const fromMs = Date.now();
    expect((await pull()).status).toBe(502);
    const { lastError } = await upstream("dead.example");
    expect(lastError).toMatchObject({ reason: "connect", text: expect.stringContaining("ECONNREFUSED") });
    expect(lastError?.atMs).toBeGreaterThanOrEqual(fromMs);
    for (let i = 0; i < 5; i += 1) await pull();
    const [endpoint] = (await upstream("dead.example")).endpoints;
    expect(["open", "half-open"]).toContain(endpoint?.breaker);
    expect((await upstream("docker.io")).lastError).toBeUndefined();
  });

  test("made by routing.dynamic are told of when they are there", async () => {
    await weir.stop();
    await start({ config: { routing: { dynamic: { allow: ["*.dynamic.example"] } } } });
    expect((await weir.overview.upstreams(call)).some(({ dynamic }) => dynamic)).toBe(false);
    await httpRequest(`${weir.url}/v2/some.dynamic.example/app/manifests/1`);
    expect(await upstream("some.dynamic.example")).toMatchObject({ dynamic: true, type: "generic" });
  });
});

describe("downloads and pulls", () => {
  beforeEach(() => start());

  test("a download is told of while it goes on, with its progress and its readers", async () => {
    const blob = stampedBlob("slow", 8 * MiB);
    origin.add("app", blob);
    origin.sendUpTo(4 * MiB);
    const readers = await Promise.all(
      Array.from({ length: 3 }, () => getBlob(`${weir.url}/v2/blobs.example/app/blobs/${blob.digest}`)),
    );
    await Promise.all(readers.map((reader) => reader.take(2 * MiB)));
    await until("half of it to be here", async () => {
      const [fill] = await weir.overview.fills(call);
      return (fill?.receivedBytes ?? 0) >= 3 * MiB;
    });
    const [fill, ...others] = await weir.overview.fills(call);
    expect(others).toEqual([]);
    expect(fill).toMatchObject({
      digest: blob.digest,
      upstream: "blobs.example",
      repository: "app",
      sizeBytes: blob.size,
      readers: 3,
      startedAtMs: expect.any(Number),
    });
    expect(fill?.receivedBytes).toBeLessThanOrEqual(4 * MiB);
    origin.sendUpTo(blob.size);
    await Promise.all(readers.map((reader) => reader.compare(blob)));
    await noFills();
  });

  test("the latest pulls come first, with what became of them", async () => {
    await pullByHead(weir.url, "library/app", "1", IMAGE);
    await noFills();
    await httpRequest(`${weir.url}/v2/`);
    const again = expectStatus(200, await httpRequest(`${weir.url}/v2/docker.io/library/app/manifests/1`));
    const [last, ...before] = await weir.overview.recent(500, call);
    expect(last).toMatchObject({
      requestId: again.headers["x-request-id"],
      running: false,
      method: "GET",
      kind: "manifest",
      subject: "docker.io/library/app:1",
      status: 200,
      cache: "hit",
      bytes: IMAGE.root.bytes.length,
      totalMs: expect.any(Number),
    });
    expect(before).toHaveLength(1 + IMAGE.manifests.length + IMAGE.blobs.length);
    expect(before.every(({ atMs }) => atMs <= (last?.atMs ?? 0))).toBe(true);
    expect(await weir.overview.recent(3, call)).toHaveLength(3);
  });
});

describe("pins", () => {
  beforeEach(() => start());

  async function explained(reference: string): Promise<string> {
    const [explanation] = await all(weir.upkeep.explain({ ...call, reference }));
    return explanation?.words.join("\n") ?? "";
  }

  test("stay beyond a restart, are told with the tag and by its explanation, and are taken back", async () => {
    await pullAll();
    expect(await all(weir.upkeep.pin({ ...call, reference: "hub.example/app:1" }))).toEqual([
      { done: true, pin: "docker.io/library/app:1", changed: true },
    ]);
    await weir.stop();
    await start({
      root: weir.root,
      config: { storage: { filesystem: { root: weir.root }, pins: ["docker.io/team/**"] } },
    });
    await until("the storage to be counted", async () => (await weir.overview.storage(call)).counted);
    const rows = (await repository("library/app"))?.rows ?? [];
    expect(rows.map(({ pinnedBy }) => pinnedBy)).toEqual([
      { pin: "docker.io/library/app:1", from: "operator" },
      undefined,
    ]);
    expect(await repository("team/other")).toMatchObject({
      pinnedBy: { pin: "docker.io/team/**", from: "storage.pins" },
    });
    expect(await all(weir.upkeep.pins(call))).toEqual([
      {
        done: true,
        pins: [
          { pin: "docker.io/team/**", from: "storage.pins", sinceMs: undefined },
          { pin: "docker.io/library/app:1", from: "operator", sinceMs: expect.any(Number) },
        ],
      },
    ]);
    expect(await explained("app:1")).toContain("never: weir pin keeps it (docker.io/library/app:1)");
    expect(await explained("team/other:1")).toContain("never: storage.pins keeps it (docker.io/team/**)");
    expect(await all(weir.upkeep.unpin({ ...call, reference: "app:1" }))).toMatchObject([{ changed: true }]);
    expect(await explained("app:1")).not.toContain("never:");
  });

  test("of a tag that is not there yet keep it when it comes", async () => {
    await all(weir.upkeep.pin({ ...call, reference: `app@${parseDigest(IMAGE.root.digest)}` }));
    await pullAll();
    const rows = (await repository("library/app"))?.rows ?? [];
    expect(rows.map(({ pinnedBy }) => pinnedBy?.from)).toEqual(["operator", "operator"]);
  });
});
