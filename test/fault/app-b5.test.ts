import { afterEach, beforeEach, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobPull, getBlob } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob } from "../support/fill-sources.ts";
import { fillsOver } from "../support/metrics.ts";
import { until } from "../support/processes.ts";
import { heldBlobs, spooledFiles } from "../support/store-files.ts";

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
    config: { upstreams: { "registry.example": origin.upstream }, shutdown: { grace: "0s" } },
  });
  blob = seededBlob(context.task.name, SIZE);
  origin.add("app", blob);
});

afterEach(() => stack.disposeAsync());

function pull(): Promise<BlobPull> {
  return getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
}

function readers(count: number): Promise<void> {
  return until(`${count} readers`, async () => (await weir.metric("weir_fill_readers")) === count);
}

async function expectKept(): Promise<void> {
  await fillsOver(weir);
  expect(origin.ledger).toEqual([[0, SIZE]]);
  expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
  expect(await spooledFiles(weir.root)).toEqual([]);
}

test("B5 the first client leaves at 1 MiB: the others do not notice", async () => {
  origin.sendUpTo(2 * MiB);
  const first = await pull();
  const others = await Promise.all([pull(), pull()]);
  expect((await first.take(MiB)).equals(blob.read(0, MiB))).toBe(true);
  await readers(3);
  first.leave();
  await readers(2);
  origin.sendUpTo(SIZE);
  const ends = await Promise.all(others.map((other) => other.compare(blob)));
  expect(ends).toEqual(Array(2).fill({ bytes: SIZE, complete: true }));
  await expectKept();
});

test("B5 everybody leaves: the download goes on, and is kept", async () => {
  origin.sendUpTo(2 * MiB);
  const clients = await Promise.all([pull(), pull(), pull()]);
  for (const client of clients) expect((await client.take(MiB)).equals(blob.read(0, MiB))).toBe(true);
  for (const client of clients) client.leave();
  await readers(0);
  await until("all to be sent that may be", () => origin.sent === 2 * MiB);
  origin.sendUpTo(SIZE);
  await expectKept();
  const later = await pull();
  expect(later.headers["cache-status"]).toBe("weir; hit");
  expect(await later.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  expect(origin.gets).toHaveLength(1);
});

test("B5 a client that takes 64 KiB at a time, and one that takes nothing, hold up nobody", async () => {
  const slow = await pull();
  const stuck = await pull();
  let taken = 0;
  for (let others = 0; others < 3; others += 1) {
    expect((await slow.take(65_536)).equals(blob.read(taken, taken + 65_536))).toBe(true);
    taken += 65_536;
    const fast = await pull();
    expect(await fast.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  }
  await expectKept();
  // What they have not taken is not lost with the spool file.
  expect(await slow.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  expect(await stuck.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  expect(origin.gets).toHaveLength(1);
});
