/**
 * The isolation table of what an upstream under a tenant's control claims: it knows digest and size of another registry's
 * private blob and manifest, confirms both, and delivers neither. Whatever the cache holds of them, the answer is that for
 * content that nobody has ever seen.
 */
import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../../support/app.ts";
import { hubUpstream } from "../../support/hub-weir.ts";
import { type Content, type Image, seededBytes, sha256, smallImage } from "../../support/images.ts";
import { fillsOver } from "../../support/metrics.ts";
import { type HttpReply, httpRequest } from "../../support/network.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import { type LedgerEntry, type ScriptReply, startScriptedServer } from "../../support/scripted-server.ts";

const ACCOUNT = { username: "weir", password: "dckr-pat-isolation" };
const TENANT = { username: "tenant", password: "password-of-the-tenant" };
const VAULT = "team/vault";
/** How long those that say nothing are waited for. */
const SILENCE_MS = 300;
const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
/** Small enough to be verified before anything goes out, so that every answer has a status. */
const LAYER_BYTES = 100_000;
/** As the liar has it. */
const MANIFEST_BYTES = 500;
/** The tenant's repositories: open ones, and such as Weir signs in for and takes for private. */
const GROUPS = ["open", "signed"] as const;

let stack: AsyncDisposableStack;
let hub: HubDouble;
/** What the owner has, for each of the liar's repositories that claims it. */
let vault: ReadonlyMap<string, { readonly image: Image; readonly layer: Content }>;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack, { accounts: [ACCOUNT] });
  vault = new Map(CELLS.map((cell) => [cell, { image: smallImage(cell), layer: layerOf(cell) }]));
  for (const [cell, { image, layer }] of vault) {
    hub.add(VAULT, image, [tagOf(cell)], "private");
    hub.add(VAULT, { root: image.root, manifests: [], blobs: [layer] }, []);
  }
});

afterEach(() => stack.disposeAsync());

function layerOf(seed: string): Content {
  const bytes = seededBytes(seed, LAYER_BYTES);
  return { mediaType: "application/octet-stream", digest: sha256(bytes), bytes };
}

function tagOf(cell: string): string {
  return cell.replaceAll("/", "-");
}

// ---- the rows: what a GET gets from the liar, after a HEAD that confirms everything

type Lie = (request: LedgerEntry, bytes: number) => ScriptReply;

const LIES: Readonly<Record<string, Lie>> = {
  nothing: () => ({ status: 404, body: "{}" }),
  "other-bytes": (_, bytes) => ({ body: Buffer.alloc(bytes, "x") }),
  silence: () => ({ hang: true }),
  "headers-and-silence": (_, bytes) => ({ raw: (socket) => socket.write(headersOnly(bytes)) }),
  "owners-address": ({ path }) => ({ status: 307, headers: { location: ownersAddress(path) } }),
};

/** What a HEAD gets: an answer, or a redirect, which is as good a proof. */
const CONFIRMATIONS: Readonly<Record<string, Lie>> = {
  answered: (request, bytes) => ({ headers: described(request, bytes) }),
  redirected: ({ path }) => ({ status: 307, headers: { location: `${path}/elsewhere` } }),
};

function headersOnly(bytes: number): string {
  return `HTTP/1.1 200 OK\r\ncontent-type: ${OCI_MANIFEST}\r\ncontent-length: ${bytes}\r\n\r\n`;
}

/** The same at the owner's own registry, where Weir has a credential. */
function ownersAddress(path: string): string {
  return `${hub.url}/v2/${VAULT}/${path.split("/").slice(-2).join("/")}`;
}

function described({ path }: LedgerEntry, bytes: number): Readonly<Record<string, string>> {
  const [reference = ""] = path.replace("/elsewhere", "").split("/").slice(-1);
  return {
    "content-length": String(bytes),
    "content-type": path.includes("/manifests/") ? OCI_MANIFEST : "application/octet-stream",
    // Its tags mean what they are called.
    "docker-content-digest": `sha256:${reference.replace(/^sha256[:-]/, "")}`,
  };
}

/** The table's rows: `open/redirected/silence` and so on. */
const CELLS: readonly string[] = GROUPS.flatMap((group) =>
  Object.keys(CONFIRMATIONS).flatMap((confirmation) =>
    Object.keys(LIES).map((lie) => `${group}/${confirmation}/${lie}`),
  ),
);

/** A liar of its own for each row, so that none is left alone for the silence of another. */
async function startLiar(cell: string): Promise<string> {
  const [group, confirmation = "", lie = ""] = cell.split("/");
  const answer = (request: LedgerEntry): ScriptReply => {
    if (group === "signed" && request.headers.authorization === undefined) {
      return { status: 401, headers: { "www-authenticate": 'Basic realm="tenant"' } };
    }
    const bytes = request.path.includes("/manifests/") ? MANIFEST_BYTES : LAYER_BYTES;
    if (request.path.endsWith("/elsewhere")) return { headers: described(request, bytes) };
    const choice = request.method === "HEAD" ? CONFIRMATIONS[confirmation] : LIES[lie];
    return choice?.(request, bytes) ?? { status: 404 };
  };
  const liar = await startScriptedServer([{ when: { path: /^\/v2\// }, reply: answer }]);
  stack.defer(() => liar.close());
  return liar.url.origin;
}

function upstreamOf(cell: string): string {
  return `${cell.replaceAll("/", "-")}.example`;
}

// ---- the columns: what is asked of it

interface Target {
  readonly manifest: string;
  readonly layer: string;
}

interface Route {
  readonly method: "GET" | "HEAD";
  readonly tail: string;
  readonly headers?: Readonly<Record<string, string>>;
}

function routes({ manifest, layer: blob }: Target): Readonly<Record<string, Route>> {
  return {
    "GET blob": { method: "GET", tail: `blobs/${blob}` },
    "HEAD blob": { method: "HEAD", tail: `blobs/${blob}` },
    "GET manifest by digest": { method: "GET", tail: `manifests/${manifest}` },
    "HEAD manifest by digest": { method: "HEAD", tail: `manifests/${manifest}` },
    "HEAD manifest by tag": { method: "HEAD", tail: `manifests/${manifest.replace(":", "-")}` },
    "GET manifest by tag": { method: "GET", tail: `manifests/${manifest.replace(":", "-")}` },
    "GET blob, range": { method: "GET", tail: `blobs/${blob}`, headers: { range: "bytes=0-9" } },
  };
}

/** Every answer is a time-out; what a HEAD says does not depend on it, and stands in the other rows. */
const SILENT: readonly number[] = [504, 504, 504, 504, 504];

/**
 * The status of each cell, in the order of the routes. A HEAD that is answered with 200 is the liar's own word, as its
 * headers say; a tag that it does not deliver the manifest of is a bad answer.
 */
const EXPECTED: Readonly<Record<string, readonly number[]>> = {
  "answered/nothing": [404, 200, 404, 404, 200, 502, 404],
  "answered/other-bytes": [502, 200, 502, 502, 200, 502, 502],
  "answered/owners-address": [502, 200, 502, 502, 200, 502, 502],
  // It tells no size, for which a GET of the first byte is asked.
  "redirected/nothing": [404, 404, 404, 404, 200, 502, 404],
  "redirected/other-bytes": [502, 200, 502, 502, 200, 502, 502],
  "answered/silence": SILENT,
  "answered/headers-and-silence": SILENT,
  "redirected/silence": SILENT,
  "redirected/headers-and-silence": SILENT,
  "redirected/owners-address": [502, 502, 502, 502, 200, 502, 502],
};

async function ask(weir: TestApp, cell: string, { method, tail, headers = {} }: Route): Promise<HttpReply> {
  return await httpRequest(`${weir.url}/v2/${upstreamOf(cell)}/evil/repo/${tail}`, { method, headers });
}

/**
 * Everything of an answer that could tell one case from another. Of an upstream in trouble, how long it has been is not it; nor
 * are the seconds that a tag has left, which differ with the instant of asking.
 */
function told({ status, headers, body }: HttpReply, { manifest, layer: blob }: Target): unknown {
  if (status >= 500) {
    return { status, reason: body.length === 0 ? undefined : JSON.parse(body.toString()).errors[0].detail.reason };
  }
  const { date, "x-request-id": requestId, ...others } = headers;
  const whole = JSON.stringify({ status, headers: others, body: body.toString("latin1") });
  let text = whole.replace(/(?<=; ttl=)-?\d+/g, "SECONDS");
  for (const digest of [manifest, blob]) {
    text = text.replaceAll(digest, "DIGEST").replaceAll(digest.replace(":", "-"), "DIGEST");
  }
  return JSON.parse(text);
}

/** Nothing of what the owner has comes out of any of the liar's repositories, nor that anybody has it. */
async function expectNothing(weir: TestApp, expected = EXPECTED): Promise<void> {
  const statuses: Record<string, readonly number[]> = {};
  await Promise.all(
    [...vault].map(async ([cell, { image, layer }]) => {
      statuses[cell] = await expectLike(weir, cell, { manifest: image.root.digest, layer: layer.digest });
    }),
  );
  const rowOf = (cell: string): string => cell.slice(cell.indexOf("/") + 1);
  expect(statuses).toEqual(Object.fromEntries(CELLS.map((cell) => [cell, expected[rowOf(cell)]])));
}

/** Asks one of the liar's repositories for all of it, and for what nobody has. Gives the statuses. */
async function expectLike(weir: TestApp, repository: string, target: Target): Promise<readonly number[]> {
  const nobodys = (what: string): string => sha256(Buffer.from(`${what} that nobody has, for ${repository}`));
  const control: Target = { manifest: nobodys("a manifest"), layer: nobodys("a layer") };
  const controls = Object.values(routes(control));
  const statuses: number[] = [];
  for (const [i, [name, route]] of Object.entries(routes(target)).entries()) {
    if (isSilent(repository) && (name === "HEAD blob" || name === "HEAD manifest by tag")) continue;
    // A sign of life: five silences in a row would open the breaker.
    await ask(weir, repository, { method: "HEAD", tail: `manifests/${unknownDigest().replace(":", "-")}` });
    const [reply, unknown] = await Promise.all([
      ask(weir, repository, route),
      ask(weir, repository, controls[i] as Route),
    ]);
    expect([name, repository, told(reply, target)]).toEqual([name, repository, told(unknown, control)]);
    statuses.push(reply.status);
  }
  return statuses;
}

function isSilent(cell: string): boolean {
  return cell.endsWith("silence");
}

function unknownDigest(): string {
  return sha256(randomBytes(32));
}

// ---- the states

async function start(o: { root?: string; negative?: string } = {}): Promise<TestApp> {
  const credentials = [{ label: "ci", ...ACCOUNT }];
  const owner = { ...hubUpstream(hub), credentials };
  const liars = CELLS.map(async (cell) => [
    upstreamOf(cell),
    {
      type: "generic",
      endpoints: [await startLiar(cell)],
      credentials: cell.startsWith("signed/") ? [{ label: "tenant", ...TENANT }] : [],
      redirects: { allow: ["127.0.0.0/8"] },
      ...(isSilent(cell) ? { timeouts: { headers: `${SILENCE_MS}ms`, body: `${SILENCE_MS}ms` } } : {}),
    },
  ]);
  return await startTestApp(stack, {
    config: {
      upstreams: { "docker.io": owner, ...Object.fromEntries(await Promise.all(liars)) },
      download: { stalledAttempts: 1 },
      freshness: { negative: o.negative ?? "0s" },
      // So that nothing but the proof stands between the callers.
      access: { privateToAnonymous: true },
    },
    ...(o.root === undefined ? {} : { root: o.root }),
  });
}

/** The owner's own pulls: everything comes, and is right. */
async function expectOwnersPulls(weir: TestApp): Promise<void> {
  await Promise.all([...vault.keys()].map((cell) => expectOwnersPull(weir, cell)));
  await fillsOver(weir);
}

async function expectOwnersPull(weir: TestApp, cell: string): Promise<void> {
  const { image, layer } = vault.get(cell) as { image: Image; layer: Content };
  for (const { path, digest } of [
    { path: `manifests/${tagOf(cell)}`, digest: image.root.digest },
    { path: `blobs/${layer.digest}`, digest: layer.digest },
  ]) {
    const { status, body } = await httpRequest(`${weir.url}/v2/docker.io/${VAULT}/${path}`);
    expect([path, status, sha256(body)]).toEqual([path, 200, digest]);
  }
}

describe("A2 an upstream that confirms what another one's private repository has gets no byte of it", () => {
  test("cold, and the owner's pulls are right afterwards", async () => {
    const weir = await start();
    await expectNothing(weir);
    await expectOwnersPulls(weir);
  });

  test("warm", async () => {
    const weir = await start();
    await expectOwnersPulls(weir);
    await expectNothing(weir);
    await expectNothing(weir);
    await expectOwnersPulls(weir);
  });

  test("in flight: the owner's downloads are under way, and are right in the end", async () => {
    const weir = await start();
    const everyLayer = CELLS.map((_, n) => n + 1);
    hub.fail({ role: "cdn", nth: everyLayer, effect: { kind: "stall", afterBytes: LAYER_BYTES / 2 } });
    const pulls = expectOwnersPulls(weir);
    pulls.catch(() => {});
    await expect.poll(() => hub.count({ role: "cdn" })).toBe(CELLS.length);
    await expectNothing(weir);
    expect(await weir.metric("weir_fills_in_flight")).toBeGreaterThanOrEqual(CELLS.length);
    // The downloads break, and go on where they were.
    await hub.close();
    await hub.listen();
    await pulls;
  });

  test("stale: the owner's registry is down", async () => {
    const weir = await start();
    await expectOwnersPulls(weir);
    await hub.close();
    await expectNothing(weir);
  });

  test("negative: what the liar did not deliver is remembered, and so is what the owner has not got", async () => {
    const weir = await start({ negative: "1d" });
    const { status } = await httpRequest(`${weir.url}/v2/docker.io/${VAULT}/blobs/${unknownDigest()}`);
    expect(status).toBe(404);
    const expected = { ...EXPECTED, "answered/nothing": [404, 404, 404, 404, 200, 502, 404] };
    await expectNothing(weir, expected);
    await expectOwnersPulls(weir);
    await expectNothing(weir, expected);
  });

  test("after a restart over what the owner has pulled", async () => {
    const before = await start();
    await expectOwnersPulls(before);
    await before.stop();
    await expectNothing(await start({ root: before.root }));
  });
});
