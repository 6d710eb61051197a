import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobPull, getBlob } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob } from "../support/fill-sources.ts";
import { fillsOver } from "../support/metrics.ts";
import { heldBlobs } from "../support/store-files.ts";

const MiB = 1024 * 1024;
const SIZE = 32 * MiB;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: TestApp;
let blob: BlobContent;

beforeEach(async (context) => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startTestApp(stack, {
    config: {
      upstreams: { "registry.example": origin.upstream },
      // What the download has not reached yet is not waited for, unless it must be.
      download: { rangeWait: "0s" },
      shutdown: { grace: "0s" },
    },
  });
  blob = seededBlob(context.task.name, SIZE);
  origin.add("app", blob);
});

afterEach(() => stack.disposeAsync());

/** `client` is the user agent: what tells one client's requests from another's. */
function pull(headers: Record<string, string>, client = "one"): Promise<BlobPull> {
  return getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`, { "user-agent": client, ...headers });
}

function contentRange(start: number, end: number): string {
  return `bytes ${start}-${end}/${SIZE}`;
}

test("B11 containerd 2's parallel fetch: every part from one download, which goes on although all leave early", async () => {
  const SHARE = 8 * MiB;
  origin.sendUpTo(MiB);
  const first = await pull({ range: "bytes=0-" }, "containerd/2.1.4");
  const others = await Promise.all(
    [1, 2, 3].map((part) => pull({ range: `bytes=${part * SHARE}-` }, "containerd/2.1.4")),
  );
  const parts = [first, ...others];
  expect(parts.map(({ status }) => status)).toEqual([206, 206, 206, 206]);
  expect(parts.map(({ headers }) => headers["content-range"])).toEqual(
    [0, 1, 2, 3].map((part) => contentRange(part * SHARE, SIZE - 1)),
  );
  expect(parts.map(({ headers }) => headers["content-length"])).toEqual(
    [0, 1, 2, 3].map((part) => String(SIZE - part * SHARE)),
  );
  origin.sendUpTo(SIZE);
  await Promise.all(
    parts.map(async (part, index) => {
      const start = index * SHARE;
      expect((await part.take(SHARE)).equals(blob.read(start, start + SHARE))).toBe(true);
      part.leave();
    }),
  );
  await fillsOver(weir);
  expect(origin.asked).toHaveLength(1);
  expect(origin.ledger).toEqual([[0, SIZE]]);
  expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
});

describe("a cold blob", () => {
  test.each<[string, number, number]>([
    ["bytes=0-", 0, SIZE - 1],
    ["bytes=0-0", 0, 0],
    ["bytes=100-199", 100, 199],
    [`bytes=${20 * MiB}-`, 20 * MiB, SIZE - 1],
    [`bytes=${SIZE - 1}-`, SIZE - 1, SIZE - 1],
    [`bytes=1000-${SIZE + 5000}`, 1000, SIZE - 1],
    ["bytes=-1000", SIZE - 1000, SIZE - 1],
    [`bytes=-${SIZE + 1}`, 0, SIZE - 1],
  ])("B11 %s is 206 with an exact Content-Range, cold and held", async (range, start, end) => {
    for (const state of ["cold", "held"]) {
      const part = await pull({ range });
      expect(part, state).toMatchObject({
        status: 206,
        headers: {
          "content-range": contentRange(start, end),
          "content-length": String(end - start + 1),
          "accept-ranges": "bytes",
          etag: `"${blob.digest}"`,
          "docker-content-digest": blob.digest,
        },
      });
      expect(await part.compare(blob, start)).toEqual({ bytes: end - start + 1, complete: true });
      await fillsOver(weir);
    }
    // One stream of the whole, and at most the range itself beside it.
    const [whole, ...ranges] = origin.gets;
    expect(whole).toMatchObject({ range: undefined, sent: SIZE });
    expect(ranges.length).toBeLessThanOrEqual(1);
    for (const get of ranges) expect(get).toMatchObject({ range: `bytes=${start}-${end}`, sent: end - start + 1 });
  });

  test.each(["bytes=0-1,5-6", "bytes=x", "bytes=5-1", "lines=0-1"])(
    "B11 %s is ignored: the whole, with 200",
    async (range) => {
      const whole = await pull({ range });
      expect(whole.status).toBe(200);
      expect(whole.headers["content-range"]).toBeUndefined();
      expect(await whole.compare(blob)).toEqual({ bytes: SIZE, complete: true });
      expect(origin.ledger).toEqual([[0, SIZE]]);
    },
  );

  test.each([`bytes=${SIZE}-`, `bytes=${SIZE + 10}-${SIZE + 20}`])(
    "B11 %s is beyond the end: 416 with the size, cold and held",
    async (range) => {
      for (const state of ["cold", "held"]) {
        const none = await pull({ range });
        expect(none, state).toMatchObject({ status: 416, headers: { "content-range": `bytes */${SIZE}` } });
        expect(JSON.parse(await none.text())).toMatchObject({ errors: [{ code: "RANGE_INVALID" }] });
        await fillsOver(weir);
      }
      expect(origin.ledger).toEqual([[0, SIZE]]);
    },
  );

  test("B11 If-Range with the blob's own tag lets the range count; with any other it is ignored", async () => {
    const range = "bytes=10-19";
    const part = await pull({ range, "if-range": `"${blob.digest}"` });
    expect(part).toMatchObject({ status: 206, headers: { "content-range": contentRange(10, 19) } });
    expect(await part.compare(blob, 10)).toEqual({ bytes: 10, complete: true });
    for (const other of ['"other"', `W/"${blob.digest}"`, "Tue, 01 Jan 2030 00:00:00 GMT"]) {
      const whole = await pull({ range, "if-range": other });
      expect(whole.status).toBe(200);
      expect(await whole.compare(blob)).toEqual({ bytes: SIZE, complete: true });
    }
  });
});

describe("a range that the download has not reached", () => {
  const [start, end] = [20 * MiB, 20 * MiB + 999];
  const range = `bytes=${start}-${end}`;

  test("B11 closed and short: passed through at once, by one bounded request, while the whole is filled behind it", async () => {
    origin.sendUpTo(MiB);
    const whole = await pull({});
    const part = await pull({ range }, "another");
    expect(part).toMatchObject({
      status: 206,
      headers: { "content-range": contentRange(start, end), "cache-status": "weir; fwd=bypass" },
    });
    expect(await part.compare(blob, start)).toEqual({ bytes: 1000, complete: true });
    origin.sendUpTo(SIZE);
    expect(await whole.compare(blob)).toEqual({ bytes: SIZE, complete: true });
    expect(origin.ledger).toEqual([
      [0, SIZE],
      [start, 1000],
    ]);
  });

  test("B11 of a client that reads the blob from its start as well: waited for", async () => {
    origin.sendUpTo(MiB);
    const whole = await pull({}, "same");
    await whole.take(1);
    const part = await pull({ range }, "same");
    expect(part).toMatchObject({ status: 206, headers: { "content-range": contentRange(start, end) } });
    origin.sendUpTo(SIZE);
    expect(await part.compare(blob, start)).toEqual({ bytes: 1000, complete: true });
    expect(await whole.compare(blob)).toEqual({ bytes: SIZE, complete: true });
    expect(origin.ledger).toEqual([[0, SIZE]]);
  });

  test("B11 closed but longer than 16 MiB: waited for", async () => {
    origin.sendUpTo(MiB);
    const whole = await pull({});
    const part = await pull({ range: `bytes=${2 * MiB}-${2 * MiB + 16 * MiB}` }, "another");
    origin.sendUpTo(SIZE);
    expect(await part.compare(blob, 2 * MiB)).toEqual({ bytes: 16 * MiB + 1, complete: true });
    whole.leave();
    await fillsOver(weir);
    expect(origin.ledger).toEqual([[0, SIZE]]);
  });
});
