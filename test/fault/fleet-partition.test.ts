import { connect } from "node:net";
import { afterEach, beforeEach, expect } from "vitest";
import { Secret } from "../../src/base/secret.ts";
import { formatFillRequest } from "../../src/cluster/peer-server.ts";
import { signRequest } from "../../src/cluster/signature.ts";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { PUBLIC } from "../support/fill-bench.ts";
import { type BlobContent, stampedBlob } from "../support/fill-sources.ts";
import { metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { freePort, until } from "../support/processes.ts";
import { slowLine, startRedis } from "../support/redis.ts";
import { heldBlobs } from "../support/store-files.ts";
import { toolTest } from "../support/tools.ts";
import type { WeirProcess } from "../support/weir.ts";
import { CLUSTER_SECRET, startWeirs } from "../support/weir-fleet.ts";

const MiB = 1024 * 1024;
const WHOLE_TEST_MS = 240_000;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
});

afterEach(() => stack.disposeAsync());

function get(weir: WeirProcess, blob: BlobContent) {
  return getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
}

function bodies(count: number, blob: BlobContent) {
  return Array.from({ length: count }, () => ({ bytes: blob.size, complete: true }));
}

toolTest(
  ["redis-server"],
  "C1 the downloading replica is cut off from Redis only: the others go on reading from it, and every byte comes once",
  async () => {
    const redis = await startRedis(stack);
    const line = await slowLine(stack, redis.port);
    const weirs = await startWeirs(stack, {
      replicas: 3,
      redis,
      redisUrl: (replica) => (replica === 0 ? `redis://127.0.0.1:${line.port}` : redis.url),
      config: { upstreams: { "registry.example": origin.upstream } },
    });
    const [first, ...others] = weirs as [WeirProcess, ...WeirProcess[]];
    const blob = stampedBlob("cut-from-redis", 24 * MiB);
    const next = stampedBlob("cut-from-redis-next", 8 * MiB);
    origin.add("app", blob, next);
    origin.sendUpTo(12 * MiB);
    const holder = await get(first, blob);
    await holder.take(4 * MiB);
    const following = await Promise.all(others.map((weir) => get(weir, blob)));
    await Promise.all(following.map((one) => one.take(8 * MiB)));
    line.cut = true;
    await until("its lease to have run out", async () => (await redis.command("KEYS", "weir:lease:*")) === "");
    origin.sendUpTo(blob.size);
    const all = [holder, ...following];
    expect(await Promise.all(all.map((one) => one.compare(blob)))).toEqual(bodies(3, blob));
    expect(origin.ledger).toEqual([[0, blob.size]]);
    // Alone it asks for itself; the others still ask once.
    const apart = await Promise.all(weirs.map((weir) => get(weir, next)));
    expect(await Promise.all(apart.map((one) => one.compare(next)))).toEqual(bodies(3, next));
    expect(origin.gets.filter(({ path }) => path.endsWith(next.digest)).length).toBeLessThanOrEqual(2);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C1 the downloading replica is cut off from its peers only: they download beside it, and no body breaks",
  async () => {
    const ports = [await freePort(), await freePort()];
    const line = await slowLine(stack, ports[0] ?? 0);
    const weirs = await startWeirs(stack, {
      replicas: 2,
      redis: await startRedis(stack),
      cluster: (replica) => ({
        listen: `127.0.0.1:${ports[replica]}`,
        ...(replica === 0 ? { advertise: `127.0.0.1:${line.port}` } : {}),
      }),
      config: { upstreams: { "registry.example": origin.upstream } },
    });
    const [first, second] = weirs as [WeirProcess, WeirProcess];
    const blob = stampedBlob("cut-from-peers", 24 * MiB);
    origin.add("app", blob);
    origin.sendUpTo(12 * MiB);
    const holder = await get(first, blob);
    await holder.take(4 * MiB);
    const following = await get(second, blob);
    await following.take(8 * MiB);
    expect(origin.gets).toHaveLength(1);
    line.cut = true;
    await until("the other to ask for itself", () => origin.gets.length === 2);
    expect(origin.gets[1]?.start).toBeGreaterThanOrEqual(8 * MiB);
    origin.sendUpTo(blob.size);
    const ends = await Promise.all([holder, following].map((one) => one.compare(blob)));
    expect(ends).toEqual(bodies(2, blob));
    await until("the blob to be kept", async () => (await heldBlobs(first.root)).length === 1);
    expect(origin.gets).toHaveLength(2);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C3 the cluster port from outside: blobs in flight for signed requests, once each, and nothing else",
  async () => {
    const port = await freePort();
    const [weir] = (await startWeirs(stack, {
      replicas: 1,
      redis: await startRedis(stack),
      cluster: () => ({ listen: `127.0.0.1:${port}` }),
      config: { upstreams: { "registry.example": origin.upstream } },
    })) as [WeirProcess];
    const blob = stampedBlob("c3", 4 * MiB);
    const held = stampedBlob("c3-held", MiB);
    origin.add("app", blob, held);
    expect(await (await get(weir, held)).compare(held)).toMatchObject({ complete: true });
    await until("it to be kept", async () => (await heldBlobs(weir.root)).length === 1);
    origin.sendUpTo(2 * MiB);
    const client = await get(weir, blob);
    await client.take(MiB);

    const at = `http://127.0.0.1:${port}`;
    const path = formatFillRequest({ domain: PUBLIC, digest: blob.digest, start: 0 });
    let nonces = 0;
    const signed = (what: string, secret = CLUSTER_SECRET, method = "GET"): Record<string, string> => {
      nonces += 1;
      const by = { secret: new Secret(secret), nowMs: Date.now(), nonce: `nonce-${nonces}` };
      return { ...signRequest({ method, path: what }, by) };
    };
    const status = async (what: string, headers: Record<string, string> = {}, method = "GET"): Promise<number> =>
      (await httpRequest(`${at}${what}`, { method, headers })).status;
    for (const what of [
      "/",
      "/v2/",
      "/metrics",
      "/readyz",
      "/admin/",
      `/v2/registry.example/app/blobs/${held.digest}`,
      path,
    ]) {
      expect([what, await status(what)]).toEqual([what, 403]);
    }
    expect(await status(path, signed(path, "what somebody else has"))).toBe(403);
    expect(await status(path, signed(path), "POST")).toBe(403);
    for (const what of ["/v2/", "/metrics", `${path}0x`])
      expect([what, await status(what, signed(what))]).toEqual([what, 400]);
    const kept = formatFillRequest({ domain: PUBLIC, digest: held.digest, start: 0 });
    await until("its download to be over", async () => (await status(kept, signed(kept))) === 404);
    const other = formatFillRequest({ domain: "registry.example/private", digest: blob.digest, start: 0 });
    expect(await status(other, signed(other))).toBe(404);

    const headers = signed(path);
    const stream = await getBlob(`${at}${path}`, headers);
    expect([stream.status, stream.headers["weir-total"]]).toEqual([200, String(blob.size)]);
    expect((await stream.take(MiB)).equals(blob.read(0, MiB))).toBe(true);
    expect(await status(path, headers)).toBe(403);
    // What is no HTTP ends that connection only.
    const hello = connect(port, "127.0.0.1");
    hello.on("error", () => {});
    hello.write(Buffer.from("160301020001000001fc0303", "hex"));
    await new Promise((resolve) => hello.once("close", resolve));
    origin.sendUpTo(blob.size);
    expect(await stream.compare(blob)).toMatchObject({ complete: true });
    expect(await client.compare(blob)).toMatchObject({ complete: true });
    expect(await metricOf(weir.adminUrl, "weir_peer_streams_total", { result: "refused" })).toBeGreaterThan(8);
  },
  WHOLE_TEST_MS,
);
