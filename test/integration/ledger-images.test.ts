/**
 * Twenty images of eight layers, cold and then warm: what Docker Hub is asked, compared with the least that is possible,
 * which the test works out from the images alone.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { hubUpstream } from "../support/hub-weir.ts";
import { type Content, type Image, seededBytes, sha256 } from "../support/images.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { printFigures } from "../support/timings.ts";

const PERIOD_MS = 10 * 60_000;
const IMAGES = 20;
const LAYERS = 8;
/** Of the eight, so many are everybody's, and so many those of the images of the same repository. */
const SHARED_BY_ALL = 2;
const SHARED_IN_REPOSITORY = 2;
const REPOSITORIES = ["library/nginx", "library/redis", "team/api", "team/web", "team/deep/er"];
/** Where there is a credential, only it can read these. */
const PRIVATE = new Set(["team/api", "team/deep/er"]);

interface Pushed {
  readonly repository: string;
  readonly tag: string;
  readonly image: Image;
}

const PUSHED: readonly Pushed[] = [
  ...Array.from({ length: IMAGES - 1 }, (_, n) => {
    const repository = REPOSITORIES[n % REPOSITORIES.length] ?? "";
    return { repository, tag: `v${n}`, image: imageOf(repository, n) };
  }),
  // One of them once more, in another repository.
  { repository: "library/redis", tag: "copy", image: imageOf("library/nginx", 0) },
];

function imageOf(repository: string, n: number): Image {
  const layers = Array.from({ length: LAYERS }, (_, at) => {
    if (at < SHARED_BY_ALL) return layerOf(`base ${at}`);
    return layerOf(at < SHARED_BY_ALL + SHARED_IN_REPOSITORY ? `${repository} ${at}` : `${repository} ${n} ${at}`);
  });
  const config = contentOf("application/vnd.oci.image.config.v1+json", Buffer.from(JSON.stringify({ repository, n })));
  const describe = ({ mediaType, digest, bytes }: Content) => ({ mediaType, digest, size: bytes.length });
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const document = { schemaVersion: 2, mediaType, config: describe(config), layers: layers.map(describe) };
  const root = contentOf(mediaType, Buffer.from(JSON.stringify(document)));
  return { root, manifests: [root], blobs: [config, ...layers] };
}

function layerOf(seed: string): Content {
  return contentOf("application/vnd.oci.image.layer.v1.tar+gzip", seededBytes(seed, 3_000));
}

function contentOf(mediaType: string, bytes: Buffer): Content {
  return { mediaType, digest: sha256(bytes), bytes };
}

// ---- clients

type Pull = (url: string, pushed: Pushed) => Promise<void>;

/** As containerd: what the tag is, then everything by its digest. */
const headFirst: Pull = async (url, { repository, tag, image }) => {
  const { headers } = await ok(`${url}/v2/docker.io/${repository}/manifests/${tag}`, "HEAD");
  expect(headers["docker-content-digest"]).toBe(image.root.digest);
  await expectContent(`${url}/v2/docker.io/${repository}/manifests`, image.root.digest);
  await pullBlobs(url, repository, image);
};

/** As podman. */
const getFirst: Pull = async (url, { repository, tag, image }) => {
  const { body } = await ok(`${url}/v2/docker.io/${repository}/manifests/${tag}`, "GET");
  expect(sha256(body)).toBe(image.root.digest);
  await pullBlobs(url, repository, image);
};

async function pullBlobs(url: string, repository: string, { blobs }: Image): Promise<void> {
  await Promise.all(blobs.map(({ digest }) => expectContent(`${url}/v2/docker.io/${repository}/blobs`, digest)));
}

async function expectContent(base: string, digest: string): Promise<void> {
  expect(sha256((await ok(`${base}/${digest}`, "GET")).body)).toBe(digest);
}

async function ok(url: string, method: string): Promise<HttpReply> {
  const reply = await httpRequest(url, { method });
  expect([url, reply.status]).toEqual([url, 200]);
  return reply;
}

// ---- the floor

/** What must be asked for all of it, cold. `asked` is how the clients ask for a tag. */
function coldFloor(asked: "HEAD" | "GET", signedIn: boolean): Figures {
  const digests = new Set(PUSHED.map(({ image }) => image.root.digest)).size;
  // A tag's GET tells what it is and brings it: of the image in two repositories, once for each.
  const named = asked === "GET" ? PUSHED.length : digests;
  const blobs = new Set(PUSHED.flatMap(({ image }) => image.blobs.map(({ digest }) => digest))).size;
  const visibility = signedIn ? REPOSITORIES.length : 0;
  return {
    manifestGets: named,
    // Free of charge: of each tag, and of each repository as nobody, where a credential could hide that it is private.
    manifestHeads: (asked === "HEAD" ? PUSHED.length : 0) + visibility,
    blobGets: blobs,
    cdnGets: blobs,
    tokens: REPOSITORIES.length + visibility,
    unauthorized: signedIn ? 1 + PRIVATE.size : 1,
  };
}

interface Figures {
  readonly manifestGets: number;
  readonly manifestHeads: number;
  readonly blobGets: number;
  readonly cdnGets: number;
  readonly tokens: number;
  /** 401s of the registry: the one that teaches where tokens come from, and its word to nobody about what is private. */
  readonly unauthorized: number;
}

function figuresOf(hub: HubDouble): Figures {
  const registry = { role: "registry" } as const;
  const manifests = { ...registry, path: /\/manifests\//, status: 200 };
  const visibility = hub.ledger.filter(
    ({ role, status, path }) => role === "registry" && status === 401 && path.includes("/manifests/"),
  );
  return {
    manifestGets: hub.count({ ...manifests, method: "GET" }),
    // A 401 to nobody is an answer to whether the repository is public.
    manifestHeads:
      hub.count({ ...manifests, method: "HEAD" }) +
      visibility.filter(({ method, authorization }) => method === "HEAD" && authorization === "bearer").length,
    blobGets: hub.count({ ...registry, path: /\/blobs\// }),
    cdnGets: hub.count({ role: "cdn" }),
    tokens: hub.count({ role: "token" }),
    unauthorized: hub.count({ ...registry, status: 401 }),
  };
}

const NOTHING: Figures = { manifestGets: 0, manifestHeads: 0, blobGets: 0, cdnGets: 0, tokens: 0, unauthorized: 0 };

/** Nobody asks the token service twice for what lasts. */
function expectNoTokenTwice(hub: HubDouble): void {
  const asked = hub.ledger
    .filter(({ role }) => role === "token")
    .map(({ query, headers }) => `${query.get("scope")} ${query.get("account")} ${headers.authorization ?? "nobody"}`);
  expect(asked.toSorted()).toEqual([...new Set(asked)].toSorted());
}

// ---- the tests

const ACCOUNTS = ["first", "second"].map((username) => ({ username, password: `dckr-pat-of-${username}` }));

let stack: AsyncDisposableStack;
let clock: ManualClock;
let hub: HubDouble;

beforeEach(() => {
  stack = new AsyncDisposableStack();
  clock = new ManualClock(Date.now());
});

afterEach(() => stack.disposeAsync());

async function start(credentials: number): Promise<TestApp> {
  // Tokens outlive the test, so that a second one is one too many.
  hub = await startHubDouble(stack, { accounts: ACCOUNTS, now: () => clock.now(), tokenLifetimeS: 3600 });
  for (const { repository, tag, image } of PUSHED) {
    hub.add(repository, image, [tag], credentials > 0 && PRIVATE.has(repository) ? "private" : "public");
  }
  const configured = ACCOUNTS.slice(0, credentials).map((account) => ({ label: account.username, ...account }));
  return await startTestApp(stack, {
    clock,
    config: {
      upstreams: { "docker.io": { ...hubUpstream(hub), credentials: configured } },
      access: { privateToAnonymous: true },
    },
  });
}

describe.each([
  { client: "containerd", pull: headFirst, asked: "HEAD" },
  { client: "podman", pull: getFirst, asked: "GET" },
] as const)("M1 U6 twenty images of eight layers, by clients like $client", ({ client, pull, asked }) => {
  test.each([0, 1, 2])("with %i credentials: cold, warm, and warm in the next period", async (credentials) => {
    const weir = await start(credentials);
    const quotas = ACCOUNTS.map(({ username }) => ({
      username,
      quota: { limit: 100, windowS: 21_600, remaining: 100 },
    }));
    for (const { username, quota } of quotas) hub.quotas.set(username, quota);

    for (const pushed of PUSHED) await pull(weir.url, pushed);
    const cold = figuresOf(hub);
    printFigures(`20 images of 8 layers, ${client}, ${credentials} credentials, cold`, cold);
    const floor = coldFloor(asked, credentials > 0);
    if (credentials === 2) {
      // With each credential a repository is asked with, a token.
      expect(cold.tokens).toBeLessThanOrEqual(floor.tokens + REPOSITORIES.length);
      expect({ ...cold, tokens: floor.tokens }).toEqual(floor);
      // In turns, as each has as much left as the other.
      const used = quotas.map(({ quota }) => 100 - quota.remaining);
      expect(used.reduce((sum, n) => sum + n)).toBe(floor.manifestGets);
      expect(Math.abs((used[0] ?? 0) - (used[1] ?? 0))).toBeLessThanOrEqual(1);
    } else {
      expect(cold).toEqual(floor);
    }
    expectNoTokenTwice(hub);
    expect(hub.ledger[0]).toMatchObject({ role: "registry", status: 401, authorization: "none" });
    expect(hub.count({ status: 401, authorization: "basic" })).toBe(0);
    expect(hub.count({ status: 429 })).toBe(0);

    hub.clearLedger();
    for (const pushed of PUSHED) await pull(weir.url, pushed);
    expect(figuresOf(hub)).toEqual(NOTHING);

    clock.advance(PERIOD_MS);
    for (const pushed of PUSHED) await pull(weir.url, pushed);
    const warm = figuresOf(hub);
    printFigures(`20 images of 8 layers, ${client}, ${credentials} credentials, warm in the next period`, warm);
    expect({ ...warm, tokens: 0 }).toEqual({ ...NOTHING, manifestHeads: PUSHED.length });
    // Only a credential that a repository has not been asked with yet needs one.
    expect(warm.tokens).toBeLessThanOrEqual(credentials === 2 ? REPOSITORIES.length : 0);
  });
});
