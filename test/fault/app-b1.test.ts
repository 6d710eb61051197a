import { afterEach, beforeEach, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobPull, getBlob } from "../support/blob-pull.ts";
import { seededBlob } from "../support/fill-sources.ts";
import { bigImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";
import { heldBlobs, spooledFiles } from "../support/store-files.ts";

const MiB = 1024 * 1024;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: TestApp;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startTestApp(stack, { config: { upstreams: { "registry.example": origin.upstream } } });
});

afterEach(() => stack.disposeAsync());

function pulls(count: number, digest: string): Promise<BlobPull[]> {
  const url = `${weir.url}/v2/registry.example/app/blobs/${digest}`;
  return Promise.all(Array.from({ length: count }, () => getBlob(url)));
}

test("B1 100 clients of one cold blob cost one GET, and joiners at 10, 50 and 90 percent get byte 0 at once", async () => {
  const blob = seededBlob("b1", 8 * MiB);
  origin.add("app", blob);
  const places = [0.1, 0.5, 0.9].map((share) => Math.floor(blob.size * share));
  origin.sendUpTo(places[0] ?? 0);
  const clients = await pulls(40, blob.digest);
  for (const place of places) {
    origin.sendUpTo(place);
    // The upstream sends nothing more before the joiners have all that it has sent so far.
    const joiners = await pulls(20, blob.digest);
    const starts = await Promise.all(joiners.map((joiner) => joiner.take(place)));
    expect(starts.every((start) => start.equals(blob.read(0, place)))).toBe(true);
    clients.push(...joiners);
  }
  origin.sendUpTo(blob.size);
  const ends = await Promise.all(clients.map((client) => client.compare(blob)));
  expect(ends).toEqual(Array(100).fill({ bytes: blob.size, complete: true }));
  expect(clients.map(({ status }) => status)).toEqual(Array(100).fill(200));
  expect(new Set(clients.map(({ headers }) => headers["content-length"]))).toEqual(new Set([String(blob.size)]));
  const outcomes = clients.map(({ headers }) => headers["cache-status"]).sort();
  expect(outcomes).toEqual([...Array(99).fill("weir; fwd=miss; collapsed"), "weir; fwd=miss; stored"]);
  expect(origin.asked).toEqual([`GET app/${blob.digest}`]);
  expect(origin.ledger).toEqual([[0, blob.size]]);
  await fillsOver(weir);
  const [later] = await pulls(1, blob.digest);
  expect(later?.headers["cache-status"]).toBe("weir; hit");
  expect(await later?.compare(blob)).toEqual({ bytes: blob.size, complete: true });
  expect(origin.asked).toHaveLength(1);
  expect(await spooledFiles(weir.root)).toEqual([]);
});

test("B1 small blobs, for which the answers wait: one GET as well", async () => {
  const blob = seededBlob("b1 small", 200_000);
  origin.add("app", blob);
  origin.sendUpTo(100_000);
  const clients = pulls(100, blob.digest);
  await until("the upstream to pause", () => origin.sent === 100_000);
  origin.sendUpTo(blob.size);
  const ends = await Promise.all((await clients).map((client) => client.compare(blob)));
  expect(ends).toEqual(Array(100).fill({ bytes: blob.size, complete: true }));
  expect(origin.asked).toEqual([`GET app/${blob.digest}`]);
  expect(origin.ledger).toEqual([[0, blob.size]]);
});

test("B12 HEAD of a cold blob starts no download; the size is that of a held manifest, else of its first byte", async () => {
  const unlisted = seededBlob("b12", 3 * MiB);
  origin.add("app", unlisted);
  const hub = await startHubDouble(stack);
  const image = bigImage("b12", 2 * MiB);
  const layer = image.blobs[1] ?? image.root;
  hub.add("library/app", image, ["1"]);
  const other = await startTestApp(stack, {
    config: {
      upstreams: {
        "registry.example": origin.upstream,
        "docker.io": { endpoints: [hub.url], realms: ["127.0.0.2"], redirects: { allow: ["127.0.0.0/8"] } },
      },
    },
  });
  const head = async (repository: string, digest: string) => {
    const reply = await httpRequest(`${other.url}/v2/${repository}/blobs/${digest}`, { method: "HEAD" });
    expect(reply).toMatchObject({
      status: 200,
      headers: { "docker-content-digest": digest, "accept-ranges": "bytes" },
    });
    return Number(reply.headers["content-length"]);
  };

  expect(await head("registry.example/app", unlisted.digest)).toBe(unlisted.size);
  // The registry redirects the HEAD, which tells no size, and the CDN takes no HEAD.
  expect(origin.asked).toEqual([`HEAD app/${unlisted.digest}`, `GET app/${unlisted.digest}`]);
  expect(origin.gets).toMatchObject([{ range: "bytes=0-0", status: 206, sent: 1 }]);

  await httpRequest(`${other.url}/v2/docker.io/library/app/manifests/1`);
  hub.clearLedger();
  expect(await head("docker.io/library/app", layer.digest)).toBe(layer.bytes.length);
  expect(hub.lines("cdn")).toEqual([]);
  expect(hub.count({ method: "GET" })).toBe(0);
  expect(await heldBlobs(other.root)).toEqual([image.root.digest]);
  expect(await spooledFiles(other.root)).toEqual([]);
});
