import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob } from "../support/fill-sources.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { blobFile, heldBlobs, spooledFiles, unsound } from "../support/store-files.ts";

const MiB = 1024 * 1024;
/** The digest of nothing. */
const EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: TestApp;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startTestApp(stack, {
    config: { upstreams: { "registry.example": origin.upstream }, shutdown: { grace: "0s" } },
  });
});

afterEach(() => stack.disposeAsync());

function urlOf(blob: BlobContent): string {
  return `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
}

test.each<[string, BlobContent]>([
  ["empty", seededBlob("empty", 0)],
  ["of one byte", seededBlob("one byte", 1)],
  ["of one byte, by sha512", seededBlob("one byte by sha512", 1, "sha512")],
  ["of 3 MiB, by sha512", seededBlob("by sha512", 3 * MiB, "sha512")],
])("B13 a blob %s: one GET for cold and held, from a client and from a HEAD", async (_, blob) => {
  origin.add("app", blob);
  for (const state of ["cold", "held"]) {
    const client = await getBlob(urlOf(blob));
    expect(client, state).toMatchObject({
      status: 200,
      headers: { "content-length": String(blob.size), "docker-content-digest": blob.digest },
    });
    expect(await client.compare(blob)).toEqual({ bytes: blob.size, complete: true });
    await fillsOver(weir);
  }
  const head = await httpRequest(urlOf(blob), { method: "HEAD" });
  expect([head.status, head.headers["content-length"]]).toEqual([200, String(blob.size)]);
  expect(origin.asked).toEqual([`GET app/${blob.digest}`]);
  expect(origin.ledger).toEqual([[0, blob.size]]);
  expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
  expect(await unsound(weir.root)).toEqual([]);
});

test("B13 of an empty blob no range can be had, cold or held", async () => {
  const blob = seededBlob("empty", 0);
  expect(blob.digest).toBe(EMPTY);
  origin.add("app", blob);
  for (const _ of ["cold", "held"]) {
    const none = await getBlob(urlOf(blob), { range: "bytes=0-" });
    expect(none).toMatchObject({ status: 416, headers: { "content-range": "bytes */0" } });
    await fillsOver(weir);
  }
  expect(blobFile(weir.root, blob.digest)).toContain(EMPTY.slice(7));
});

test("B13 a HEAD of a cold empty blob: 0 bytes, and no download", async () => {
  const blob = seededBlob("empty", 0);
  origin.add("app", blob);
  const head = await httpRequest(urlOf(blob), { method: "HEAD" });
  expect([head.status, head.headers["content-length"]]).toEqual([200, "0"]);
  expect(origin.gets).toMatchObject([{ range: "bytes=0-0", status: 416 }]);
  expect(await heldBlobs(weir.root)).toEqual([]);
});

test.each([
  ["a small", 100_000],
  ["a large", 3 * MiB],
])("B13 a CDN that content-encodes %s blob is refused, and nothing is kept", async (name, size) => {
  const blob = seededBlob(name, size);
  const encoded = gzipSync(blob.read(0, size));
  const hostile = { ...blob, size: encoded.length, read: (start: number, end: number) => encoded.subarray(start, end) };
  origin.add("app", hostile);
  origin.answer(hostile, ...Array(20).fill({ headers: { "content-encoding": "gzip" } }));
  const reply = await httpRequest(urlOf(blob));
  expect(reply.status).toBe(502);
  expect(reply.headers["content-encoding"]).toBeUndefined();
  expect(JSON.parse(reply.body.toString())).toMatchObject({
    errors: [{ code: "UNAVAILABLE", detail: { upstream: "registry.example", reason: "bad-answer" } }],
  });
  await fillsOver(weir);
  expect(await heldBlobs(weir.root)).toEqual([]);
  expect(await spooledFiles(weir.root)).toEqual([]);
  origin.add("app", blob);
  origin.answer(blob);
  const client = await getBlob(urlOf(blob));
  expect(await client.compare(blob)).toEqual({ bytes: size, complete: true });
});
