import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type BlobOrigin, type CdnAnswer, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobPull, getBlob, type PullEnd } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob } from "../support/fill-sources.ts";
import { bigImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { heldBlobs, spooledFiles } from "../support/store-files.ts";

const MiB = 1024 * 1024;
const SIZE = 8 * MiB;
const CUT = 3_333_333;
/** Enough for the answers to begin. */
const START = MiB;
/** Bytes that a connection that ends early may have delivered without their being taken: one buffer of the HTTP client. */
const BUFFER = 256 * 1024;
const CLIENTS = 5;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: TestApp;
let blob: BlobContent;

beforeEach(async (context) => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startTestApp(stack, { config: { upstreams: { "registry.example": origin.upstream } } });
  blob = seededBlob(context.task.name, SIZE);
  origin.add("app", blob);
});

afterEach(() => stack.disposeAsync());

/** Several clients of one download: none of them comes when it is over. */
async function joined(): Promise<BlobPull[]> {
  origin.sendUpTo(START);
  const url = `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => getBlob(url)));
  expect(clients.map(({ status }) => status)).toEqual(Array(CLIENTS).fill(200));
  return clients;
}

/** Each of them must get right bytes only, as many as it gets. */
async function pullAll(): Promise<PullEnd[]> {
  const clients = await joined();
  origin.sendUpTo(SIZE);
  return await Promise.all(clients.map((client) => client.compare(blob)));
}

const WHOLE = Array(CLIENTS).fill({ bytes: SIZE, complete: true });

async function expectKept(): Promise<void> {
  await fillsOver(weir);
  expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
  expect(await spooledFiles(weir.root)).toEqual([]);
}

async function expectNothingKept(): Promise<void> {
  await fillsOver(weir);
  expect(await heldBlobs(weir.root)).toEqual([]);
  expect(await spooledFiles(weir.root)).toEqual([]);
}

/** Each request began where the connection before it had ended, but for what was lost in a buffer. */
function expectAskedOnce(cuts: readonly number[]): void {
  expect(origin.gets.map(({ sent }) => sent)).toHaveLength(cuts.length + 1);
  for (const [index, cut] of cuts.entries()) {
    const [next = 0] = origin.ledger[index + 1] ?? [];
    expect(next).toBeLessThanOrEqual(cut);
    expect(next).toBeGreaterThan(cut - BUFFER);
  }
  expect(origin.sent).toBeLessThan(SIZE + cuts.length * BUFFER);
}

test("B2 cut in five places: one unbroken body for everybody, and each byte asked for once", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const cuts = Array.from({ length: 5 }, (_, index) => 1 + ((seed * (index + 3) * 7919) % (SIZE - 1))).sort(
    (a, b) => a - b,
  );
  // A place that is reached again by a request that begins behind it is cut at once, and asked for once more.
  origin.answer(blob, ...cuts.map((cutAt): CdnAnswer => ({ cutAt })));
  expect(await pullAll(), `seed ${seed}: cuts at ${cuts.join(", ")}`).toEqual(WHOLE);
  expectAskedOnce(cuts);
  await expectKept();
});

test("B2 a body without a length that ends early is resumed until the digest agrees", async () => {
  origin.answer(blob, { chunked: true, cutAt: CUT });
  expect(await pullAll()).toEqual(WHOLE);
  expectAskedOnce([CUT]);
  await expectKept();
});

describe("B4 resumed where", () => {
  const cut: CdnAnswer = { cutAt: CUT };

  test("the signed URL has expired (403): a new one is asked for", async () => {
    origin.answer(blob, cut, { status: 403 });
    expect(await pullAll()).toEqual(WHOLE);
    expect(origin.asked).toHaveLength(3);
    expect(origin.gets.map(({ status }) => status)).toEqual([200, 403, 206]);
    expect(origin.sent).toBeLessThan(SIZE + BUFFER);
    await expectKept();
  });

  test("the signatures of Docker Hub's CDN have expired, and the token with them", async () => {
    const startedMs = Date.now();
    // An hour passes with the first bytes of the blob.
    const now = (): number => startedMs + (hub.bytes("cdn") > 0 ? 3_600_000 : 0);
    const hub: HubDouble = await startHubDouble(stack, { now });
    const image = bigImage("b4 hub", SIZE);
    const [, layer = image.root] = image.blobs;
    hub.add("library/app", image, ["1"]);
    hub.fail({ role: "cdn", nth: [1], effect: { kind: "cut", afterBytes: CUT } });
    const front = await startTestApp(stack, {
      config: {
        upstreams: {
          "docker.io": { endpoints: [hub.url], realms: ["127.0.0.2"], redirects: { allow: ["127.0.0.0/8"] } },
        },
      },
    });
    const pull = await getBlob(`${front.url}/v2/docker.io/library/app/blobs/${layer.digest}`);
    const content = { read: (start: number, end: number) => Buffer.from(layer.bytes).subarray(start, end) };
    expect(await pull.compare(content)).toEqual({ bytes: layer.bytes.length, complete: true });
    expect(hub.count({ role: "token" })).toBe(2);
    await fillsOver(front);
    expect(await heldBlobs(front.root)).toEqual([layer.digest]);
    expect(hub.lines("cdn").map((line) => line.split(" ").at(-1))).toEqual(["200", "206"]);
    expect(hub.bytes("cdn")).toBeLessThan(layer.bytes.length + BUFFER);
  });

  test("the registry redirects elsewhere", async () => {
    origin.answer(blob, cut);
    const clients = await joined();
    origin.place = "/elsewhere";
    origin.sendUpTo(SIZE);
    expect(await Promise.all(clients.map((client) => client.compare(blob)))).toEqual(WHOLE);
    expect(origin.gets.map(({ path }) => path.split("/")[1])).toEqual(["blobs", "elsewhere"]);
    expectAskedOnce([CUT]);
    await expectKept();
  });

  test("the range is answered 200: what is there already is skipped", async () => {
    origin.answer(blob, cut, { whole: true });
    expect(await pullAll()).toEqual(WHOLE);
    expect(origin.gets.map(({ status, sent }) => [status, sent])).toEqual([
      [200, CUT],
      [200, SIZE],
    ]);
    await expectKept();
  });

  test("the range is answered 416: the blob is asked for from its start", async () => {
    origin.answer(blob, cut, { status: 416 });
    expect(await pullAll()).toEqual(WHOLE);
    expect(origin.gets.map(({ status }) => status)).toEqual([200, 416, 200]);
    await expectKept();
  });

  test("Content-Range names another place: the answer is not used", async () => {
    origin.answer(blob, cut, { headers: { "content-range": `bytes 0-${SIZE - 1}/${SIZE}` } });
    expect(await pullAll()).toEqual(WHOLE);
    expect(origin.gets.map(({ status }) => status)).toEqual([200, 206, 206]);
    await expectKept();
  });

  test("the bytes are of another place than Content-Range says: nobody completes, nothing is kept", async () => {
    origin.answer(blob, cut, { from: 0 });
    // The clients may have been given wrong bytes by then, as with any wrong byte: what counts is that it never ends well.
    const clients = await joined();
    origin.sendUpTo(SIZE);
    for (const client of clients) {
      const { bytes, complete } = await client.drain();
      expect(complete).toBe(false);
      expect(bytes).toBeLessThan(SIZE);
    }
    await expectNothingKept();
    expect(await pullAll()).toEqual(WHOLE);
    await expectKept();
  });

  test("one answer tells another length: it is not believed", async () => {
    origin.answer(blob, cut, { total: SIZE + 1000 });
    expect(await pullAll()).toEqual(WHOLE);
    expect(origin.gets.map(({ status }) => status)).toEqual([200, 206, 206]);
    await expectKept();
  });

  test.each([SIZE - 1000, SIZE + 1000])("the blob now has %i bytes: a reset for everybody", async (total) => {
    origin.answer(blob, cut, { total }, { total });
    for (const { bytes, complete } of await pullAll()) {
      expect(complete).toBe(false);
      expect(bytes).toBeLessThanOrEqual(CUT);
    }
    await expectNothingKept();
    expect(await pullAll()).toEqual(WHOLE);
    await expectKept();
  });

  test("the blob's length was wrong before anybody was told: it starts anew, unseen", async () => {
    const small = seededBlob("a small one of changing length", 200_000);
    origin.add("app", small);
    origin.answer(small, { total: 250_000 }, {}, {});
    const pull = await getBlob(`${weir.url}/v2/registry.example/app/blobs/${small.digest}`);
    expect(pull.headers["content-length"]).toBe("200000");
    expect(await pull.compare(small)).toEqual({ bytes: 200_000, complete: true });
  });
});
