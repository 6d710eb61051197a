import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob, rawExchange } from "../support/blob-pull.ts";
import { seededBlob } from "../support/fill-sources.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { heldBlobs, spooledFiles } from "../support/store-files.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1024 * 1024;
const MISMATCHES = "weir_upstream_digest_mismatches_total";

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: WeirProcess;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startWeir(stack, { config: { upstreams: { "registry.example": origin.upstream } } });
});

afterEach(() => stack.disposeAsync());

function path(digest: string): string {
  return `/v2/registry.example/app/blobs/${digest}`;
}

function mismatches(): Promise<number> {
  return metricOf(weir.adminUrl, MISMATCHES, { upstream: "registry.example" });
}

async function expectNothingKept(): Promise<void> {
  await fillsOver(weir);
  expect(await heldBlobs(weir.root)).toEqual([]);
  expect(await spooledFiles(weir.root)).toEqual([]);
}

const SIZE = 5 * MiB;

test.each([
  ["first", 0],
  ["middle", SIZE / 2],
  ["last", SIZE - 1],
])(
  "B3 one wrong byte, the %s: every client is cut off, nothing is kept, it is counted, and the next pull is clean",
  async (name, at) => {
    const blob = seededBlob(`b3 ${name}`, SIZE);
    origin.add("app", blob);
    origin.answer(blob, { wrongByteAt: at });
    origin.sendUpTo(SIZE / 4);
    const clients = await Promise.all(Array.from({ length: 10 }, () => getBlob(weir.url + path(blob.digest))));
    const raw = Array.from({ length: 10 }, () =>
      rawExchange(weir.url, `GET ${path(blob.digest)} HTTP/1.1\r\nHost: a\r\n\r\n`),
    );
    await until("all to be reading", async () => (await metricOf(weir.adminUrl, "weir_fill_readers")) === 20);
    origin.sendUpTo(SIZE);

    for (const client of clients) {
      expect(client).toMatchObject({ status: 200, headers: { "content-length": String(SIZE) } });
      const { bytes, complete } = await client.drain();
      expect(complete).toBe(false);
      expect(bytes).toBeLessThan(SIZE);
    }
    for (const reply of raw) {
      const { head, body, end } = await reply;
      expect(head).toMatch(/^HTTP\/1\.1 200 /);
      expect(end).toBe("rst");
      expect(body.length).toBeLessThan(SIZE);
      // Nothing is said into the body, which would pass for a part of it.
      const right = Buffer.from(blob.read(0, body.length));
      if (at < body.length) right[at] = (right[at] ?? 0) ^ 0xff;
      expect(body.equals(right)).toBe(true);
    }
    await expectNothingKept();
    expect(await mismatches()).toBe(1);
    await until("the log to tell", () => weir.output().includes("an upstream delivered wrong bytes: discarded"));
    expect(origin.ledger).toEqual([[0, SIZE]]);

    const again = await getBlob(weir.url + path(blob.digest));
    expect(await again.compare(blob)).toEqual({ bytes: SIZE, complete: true });
    // Not resumed behind bytes that were wrong.
    expect(origin.ledger).toEqual([
      [0, SIZE],
      [0, SIZE],
    ]);
    expect(await mismatches()).toBe(1);
    await fillsOver(weir);
    expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
  },
);

test("B3 one wrong byte in a small blob: 502 in the envelope for everybody, and the next pull is clean", async () => {
  const blob = seededBlob("b3 small", 100_000);
  origin.add("app", blob);
  // Wrong as often as it is asked: whoever comes when the others have been told begins a download of its own.
  const CLIENTS = 10;
  origin.answer(blob, ...Array.from({ length: CLIENTS }, () => ({ wrongByteAt: 99_999 })));
  origin.sendUpTo(50_000);
  const replies = Array.from({ length: CLIENTS }, () => httpRequest(weir.url + path(blob.digest)));
  await until("the upstream to pause", () => origin.sent === 50_000);
  origin.sendUpTo(100_000);
  const told = await Promise.all(replies);
  expect(told.map(({ status }) => status)).toEqual(Array(CLIENTS).fill(502));
  for (const { headers, body } of told) {
    expect(headers).toMatchObject({
      "content-type": "application/json",
      "content-length": String(body.length),
      "docker-distribution-api-version": "registry/2.0",
    });
    expect(JSON.parse(body.toString())).toEqual({
      errors: [
        {
          code: "UNAVAILABLE",
          message: expect.stringContaining(blob.digest),
          detail: { upstream: "registry.example", reason: "bad-answer" },
        },
      ],
    });
  }
  await expectNothingKept();
  expect(await mismatches()).toBe(origin.gets.length);
  origin.forget();
  origin.answer(blob);
  const { status, body } = await httpRequest(weir.url + path(blob.digest));
  expect(status).toBe(200);
  expect(body.equals(blob.read(0, 100_000))).toBe(true);
  expect(origin.ledger).toEqual([[0, 100_000]]);
});

test("B3 a short body is not a wrong one: it is resumed, and nothing is alarmed", async () => {
  const blob = seededBlob("b3 short", SIZE);
  origin.add("app", blob);
  origin.answer(blob, { cutAt: 1_000_000 });
  const client = await getBlob(weir.url + path(blob.digest));
  expect(await client.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  expect(await mismatches()).toBe(0);
  expect(await metricOf(weir.adminUrl, "weir_upstream_resumes_total", { upstream: "registry.example" })).toBe(1);
});
