/** The shipped config/nginx/accel.conf: blobs that are held are sent by nginx, and Weir decides. */
import { readFile, rm, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect } from "vitest";
import { startTestApp, type TestApp } from "../../support/app.ts";
import { type Authority, createAuthority } from "../../support/certificates.ts";
import { expectStatus, hubUpstream } from "../../support/hub-weir.ts";
import { bigImage, type Content, smallImage } from "../../support/images.ts";
import { fillsOver } from "../../support/metrics.ts";
import { type HttpReply, type HttpRequestOptions, httpRequest } from "../../support/network.ts";
import { from, type Relay, type Relayed, shippedNginx, startNginx, startRelay } from "../../support/nginx.ts";
import { freePort } from "../../support/processes.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import { blobFile, heldBlobs } from "../../support/store-files.ts";
import { toolTest } from "../../support/tools.ts";

const MiB = 1 << 20;
const TOOLS = ["nginx", "openssl"];
const PROXY = "127.0.0.1";
/** Not one of the trusted proxies. */
const CLIENT = "127.0.0.9";
const ACCOUNT = { username: "weir", password: "s3cret-of-hub" };
const BIG = bigImage("nginx", 9 * MiB);
const LAYER = largest(BIG.blobs);

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack, { accounts: [ACCOUNT] });
  hub.add("team/big", BIG, ["1"]);
});

afterEach(() => stack.disposeAsync());

interface Site {
  readonly app: TestApp;
  readonly relay: Relay;
  readonly authority: Authority;
  /** Of nginx. */
  readonly url: string;
  /** Through nginx. */
  ask(path: string, options?: HttpRequestOptions): Promise<HttpReply>;
  /** Past nginx. */
  askWeir(path: string, options?: HttpRequestOptions): Promise<HttpReply>;
  /** What nginx asked Weir since the last time. */
  relayed(): readonly Relayed[];
}

async function site(
  o: { readonly upstream?: object; readonly access?: object; readonly user?: string; readonly root?: string } = {},
): Promise<Site> {
  const authority = await createAuthority(stack);
  const { certFile, keyFile } = await authority.issue(["localhost"]);
  const app = await startTestApp(stack, {
    ...(o.root === undefined ? {} : { root: o.root }),
    config: {
      server: { listen: "127.0.0.1:0", trustedProxies: [PROXY], accelRedirect: "/internal-blobs/" },
      upstreams: { "docker.io": { ...hubUpstream(hub), ...o.upstream } },
      freshness: { default: "1h" },
      ...(o.access === undefined ? {} : { access: o.access }),
    },
  });
  const relay = await startRelay(stack, app.url);
  const port = await freePort();
  const text = await shippedNginx("accel.conf", {
    "server 127.0.0.1:5000;": `server ${relay.host};`,
    "listen 443 ssl;": `listen 127.0.0.1:${port} ssl;`,
    "listen [::]:443 ssl;": "",
    "/etc/nginx/tls/weir.crt": certFile,
    "/etc/nginx/tls/weir.key": keyFile,
    "alias /var/lib/weir/": `alias ${app.root}/`,
  });
  await startNginx(stack, { http: text, port, ...(o.user === undefined ? {} : { user: o.user }) });
  const network = from(CLIENT, await readFile(authority.caFile, "utf8"));
  const url = `http://127.0.0.1:${port}`;
  let looked = 0;
  return {
    app,
    relay,
    authority,
    url,
    ask: (path, options) => httpRequest(url + path, { network, ...options }),
    askWeir: (path, options) => httpRequest(app.url + path, { network: from(CLIENT), ...options }),
    relayed() {
      const news = relay.seen.slice(looked);
      looked = relay.seen.length;
      return news;
    },
  };
}

const pathOf = (content: Content, repository = "team/big"): string =>
  `/v2/${repository}/blobs/${content.digest}?ns=docker.io`;
const gets = (): number => hub.ledger.filter(({ path }) => path.includes(LAYER.digest.slice(7))).length;

/** Cold, through nginx, and once more: afterwards this process has verified it, be it while it came or when it was read. */
async function pullCold({ ask, app, relayed }: Site): Promise<void> {
  expect(expectStatus(200, await ask("/v2/team/big/manifests/1?ns=docker.io")).headers["docker-content-digest"]).toBe(
    BIG.root.digest,
  );
  for (let i = 0; i < 2; i += 1) {
    const reply = expectStatus(200, await ask(pathOf(LAYER)));
    expect(reply.body.equals(LAYER.bytes)).toBe(true);
    await fillsOver(app);
  }
  relayed();
}

toolTest(
  TOOLS,
  "a pull's second time is handed over: the same bytes and headers, and Weir sends none of them",
  async () => {
    const at = await site();
    await pullCold(at);
    const asked = gets();
    const numbers = async (): Promise<readonly number[]> => [
      await at.app.metric("weir_http_response_bytes_total", { kind: "blob", cache: "hit" }),
      await at.app.metric("weir_http_handed_over_bytes_total", { upstream: "docker.io" }),
      await at.app.metric("weir_http_hand_overs_total", { result: "done" }),
      await at.app.metric("weir_http_hand_overs_total", { result: "returned" }),
    ];
    const before = await numbers();
    const headers = { "x-request-id": "of-the-client" };
    const handed = expectStatus(200, await at.ask(pathOf(LAYER), { headers }));
    expect(handed.body.equals(LAYER.bytes)).toBe(true);
    expect(at.relayed()).toMatchObject([
      { status: 200, bodyBytes: 0, headers: { "x-accel-redirect": expect.any(String) } },
    ]);
    const own = expectStatus(200, await at.askWeir(pathOf(LAYER), { headers }));
    expect(handed.headers).not.toHaveProperty("x-accel-redirect");
    expect(ofTheAnswer(handed)).toEqual(ofTheAnswer(own));
    expect(gets()).toBe(asked);
    // It counts as sent, and is told apart.
    const bytes = LAYER.bytes.length;
    expect((await numbers()).map((number, i) => number - (before[i] ?? 0))).toEqual([2 * bytes, bytes, 1, 0]);
  },
);

toolTest(TOOLS, "ranges, HEAD and conditions: as from Weir itself", async () => {
  const at = await site();
  await pullCold(at);
  const size = LAYER.bytes.length;
  const tag = `"${LAYER.digest}"`;
  const cases: readonly [string, HttpRequestOptions, number, "nginx" | "Weir"][] = [
    ["a range", { headers: { range: "bytes=100-199" } }, 206, "nginx"],
    ["its end", { headers: { range: "bytes=-7" } }, 206, "nginx"],
    ["from a byte on", { headers: { range: `bytes=${size - 9}-` } }, 206, "nginx"],
    ["a range of the same", { headers: { range: "bytes=0-9", "if-range": tag } }, 206, "nginx"],
    ["a range of something else", { headers: { range: "bytes=0-9", "if-range": '"other"' } }, 200, "Weir"],
    ["behind its end", { headers: { range: `bytes=${size}-` } }, 416, "Weir"],
    ["two ranges", { headers: { range: "bytes=0-1,4-5" } }, 200, "Weir"],
    ["no range", { headers: { range: "bytes=9-1" } }, 200, "Weir"],
    ["HEAD", { method: "HEAD" }, 200, "Weir"],
    ["known", { headers: { "if-none-match": tag } }, 304, "Weir"],
    ["another known", { headers: { "if-none-match": '"other"' } }, 200, "nginx"],
    ["a time", { headers: { "if-modified-since": new Date(Date.now() + 9e6).toUTCString() } }, 200, "nginx"],
    ["not later", { headers: { "if-unmodified-since": new Date(0).toUTCString() } }, 200, "Weir"],
    ["if it is another", { headers: { "if-match": '"other"' } }, 200, "Weir"],
  ];
  for (const [name, options, status, by] of cases) {
    const reply = await at.ask(pathOf(LAYER), options);
    const [told] = at.relayed();
    const own = await at.askWeir(pathOf(LAYER), options);
    expect([name, reply.status, told?.headers["x-accel-redirect"] === undefined ? "Weir" : "nginx"]).toEqual([
      name,
      status,
      by,
    ]);
    expect([name, ofTheAnswer(reply)]).toEqual([name, ofTheAnswer(own)]);
    if (options.method !== "HEAD") expect([name, reply.body.equals(own.body)]).toEqual([name, true]);
  }
});

toolTest(TOOLS, "what this process has not verified goes through it first, damaged or not", async () => {
  const first = await site();
  await pullCold(first);
  await first.app.stop();
  const { root } = first.app;
  const at = await site({ root });
  const whole = expectStatus(200, await at.ask(pathOf(LAYER)));
  expect(whole.body.equals(LAYER.bytes)).toBe(true);
  expect(at.relayed()).toMatchObject([{ bodyBytes: LAYER.bytes.length }]);
  expectStatus(200, await at.ask(pathOf(LAYER)));
  expect(at.relayed()).toMatchObject([{ bodyBytes: 0 }]);
  // Changed on the disk, which shows: it is not handed over, and nobody gets the whole of it.
  await writeFile(blobFile(root, LAYER.digest), Buffer.alloc(LAYER.bytes.length));
  await expect(at.ask(pathOf(LAYER))).rejects.toThrow();
  expect(at.relayed().every(({ headers }) => headers["x-accel-redirect"] === undefined)).toBe(true);
  const healed = expectStatus(200, await at.ask(pathOf(LAYER)));
  expect(healed.body.equals(LAYER.bytes)).toBe(true);
});

toolTest(
  TOOLS,
  "S4 a blob that is evicted between the decision and nginx's look comes from Weir all the same",
  async () => {
    const at = await site();
    await pullCold(at);
    const asked = gets();
    at.relay.before = async ({ headers }) => {
      if (headers["x-accel-redirect"] !== undefined) await rm(blobFile(at.app.root, LAYER.digest));
    };
    const reply = expectStatus(200, await at.ask(pathOf(LAYER)));
    expect(reply.body.equals(LAYER.bytes)).toBe(true);
    expect(at.relayed()).toMatchObject([
      { bodyBytes: 0, headers: { "x-accel-redirect": expect.any(String) } },
      { path: pathOf(LAYER), bodyBytes: LAYER.bytes.length, sent: { "weir-accel-redirect": "off" } },
    ]);
    expect(gets()).toBeGreaterThan(asked);
    expect(await at.app.metric("weir_http_hand_overs_total", { result: "returned" })).toBe(1);
    await fillsOver(at.app);
    expect(await heldBlobs(at.app.root)).toContain(LAYER.digest);
    // By ranges, too.
    const part = expectStatus(206, await at.ask(pathOf(LAYER), { headers: { range: "bytes=5-9" } }));
    expect(part.body.equals(LAYER.bytes.subarray(5, 10))).toBe(true);
  },
);

toolTest(["root", ...TOOLS], "a storage that nginx may not read costs the speed, not the pull", async () => {
  const at = await site({ user: "nobody nogroup" });
  await pullCold(at);
  const reply = expectStatus(200, await at.ask(pathOf(LAYER)));
  expect(reply.body.equals(LAYER.bytes)).toBe(true);
  expect(at.relayed().map(({ bodyBytes }) => bodyBytes)).toEqual([0, LAYER.bytes.length]);
  expect(await at.app.metric("weir_http_hand_overs_total", { result: "returned" })).toBeGreaterThan(0);
});

toolTest(TOOLS, "nobody but a trusted proxy is sent to a file, and nobody reaches one past Weir", async () => {
  const at = await site();
  await pullCold(at);
  const spoofed = { "x-forwarded-for": PROXY, "x-accel-redirect": "/internal-blobs/x", "weir-accel-redirect": "on" };
  const direct = expectStatus(200, await at.askWeir(pathOf(LAYER), { headers: spoofed }));
  expect(direct.headers).not.toHaveProperty("x-accel-redirect");
  expect(direct.body.equals(LAYER.bytes)).toBe(true);

  const file = blobFile("", LAYER.digest).slice(1);
  for (const path of [
    `/internal-blobs/${file}`,
    `/internal-blobs/./${file}`,
    `/internal-blobs//${file}`,
    "/internal-blobs/",
  ]) {
    expect([path, (await at.ask(path)).status]).toEqual([path, 404]);
  }
  expect((await at.ask(`/internal-blobs/docker/registry/v2/blobs/../../../../weir/v1/lock`)).status).toBe(404);

  // What a client says of its own is not what nginx says.
  at.relayed();
  const insisting = { "weir-accel-redirect": "off" };
  const handed = expectStatus(200, await at.ask(pathOf(LAYER), { headers: insisting }));
  expect(handed.body.equals(LAYER.bytes)).toBe(true);
  expect(at.relayed()).toMatchObject([{ bodyBytes: 0 }]);
  expect(await at.app.metric("weir_http_hand_overs_total", { result: "returned" })).toBe(0);
});

toolTest(TOOLS, "A1 access is Weir's: a private repository's blob is not handed to who may not read it", async () => {
  const image = smallImage("nginx private");
  hub.add("team/private", image, ["1"], "private");
  const layer = largest(image.blobs);
  const credentials = [{ label: "hub", ...ACCOUNT }];
  const at = await site({
    upstream: { credentials },
    access: { rules: [{ effect: "allow", from: ["127.0.0.5"], private: true }, { effect: "allow" }] },
  });
  const friend = { network: from("127.0.0.5", await readFile(at.authority.caFile, "utf8")) };
  expectStatus(200, await at.ask("/v2/team/private/manifests/1?ns=docker.io", friend));
  for (let i = 0; i < 2; i += 1) {
    const reply = expectStatus(200, await at.ask(pathOf(layer, "team/private"), friend));
    expect(reply.body.equals(layer.bytes)).toBe(true);
    expect(reply.headers["cache-control"]).toContain("private");
    await fillsOver(at.app);
  }
  at.relayed();
  const headers = { "x-forwarded-for": "127.0.0.5" };
  expect((await at.ask(pathOf(layer, "team/private"), { headers })).status).toBe(403);
  // Nor by way of a repository that they may read.
  expectStatus(200, await at.ask("/v2/team/big/manifests/1?ns=docker.io"));
  expect((await at.ask(pathOf(layer))).status).toBe(404);
  expect(at.relayed().filter(({ headers }) => headers["x-accel-redirect"] !== undefined)).toEqual([]);
});

/** Without what each connection and each server says of itself. */
function ofTheAnswer({ headers }: HttpReply): object {
  const { date, server, connection, "keep-alive": keepAlive, "x-request-id": id, ...rest } = headers;
  return id?.includes("of-the-client") === true ? { ...rest, id } : rest;
}

function largest(blobs: readonly Content[]): Content {
  return blobs.reduce((most, blob) => (blob.bytes.length > most.bytes.length ? blob : most));
}
