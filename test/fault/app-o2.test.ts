import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobPull, getBlob } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob } from "../support/fill-sources.ts";
import { fillsOver } from "../support/metrics.ts";
import { answers } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { heldBlobs, spooledFiles, unsound } from "../support/store-files.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1024 * 1024;
const SIZE = 16 * MiB;
const HALF = SIZE / 2;
/** Bytes that were on their way when the download ended. */
const BUFFER = MiB;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let blob: BlobContent;

beforeEach(async (context) => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  blob = seededBlob(context.task.name, SIZE);
  origin.add("app", blob);
});

afterEach(() => stack.disposeAsync());

function start(grace: string): Promise<WeirProcess> {
  return startWeir(stack, { config: { upstreams: { "registry.example": origin.upstream }, shutdown: { grace } } });
}

function pull(weir: WeirProcess): Promise<BlobPull> {
  return getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
}

/** Clients that have the first half of the blob, of which the upstream has sent no more. */
async function halfway(weir: WeirProcess, count: number): Promise<BlobPull[]> {
  origin.sendUpTo(HALF);
  const clients = await Promise.all(Array.from({ length: count }, () => pull(weir)));
  for (const client of clients) expect((await client.take(HALF)).equals(blob.read(0, HALF))).toBe(true);
  return clients;
}

/** Waits until nobody is let in any more: by then `/readyz` has said so. */
async function refused(weir: WeirProcess): Promise<void> {
  await until("weir to take no connection", async () => !(await answers(`${weir.url}/v2/`, 200)));
}

test("O2 SIGTERM under load: not ready, nobody new gets in, bodies under way are finished and kept, and it ends with 0", async () => {
  const weir = await start("30s");
  const clients = await halfway(weir, 5);
  weir.process.kill("SIGTERM");
  await refused(weir);
  expect(await answers(`${weir.adminUrl}/readyz`, 503)).toBe(true);
  expect(weir.process.hasExited).toBe(false);
  origin.sendUpTo(SIZE);
  const ends = await Promise.all(clients.map((client) => client.compare(blob)));
  expect(ends).toEqual(Array(5).fill({ bytes: SIZE, complete: true }));
  expect(await weir.process.exited).toEqual({ code: 0, signal: null });
  expect(origin.ledger).toEqual([[0, SIZE]]);
  expect(await unsound(weir.root)).toEqual([]);

  await weir.start();
  const later = await pull(weir);
  expect(await later.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  expect(origin.sent).toBe(SIZE);
});

test("O2 what is not finished within the grace is cut off; the download is kept, and the next start resumes it", async () => {
  const weir = await start("0s");
  const clients = await halfway(weir, 3);
  weir.process.kill("SIGTERM");
  expect(await weir.process.exited).toEqual({ code: 0, signal: null });
  for (const client of clients) expect(await client.compare(blob)).toEqual({ bytes: HALF, complete: false });
  expect((await spooledFiles(weir.root)).map((file) => file.split(".").at(-1))).toEqual(["json", "part"]);
  expect(await heldBlobs(weir.root)).toEqual([]);

  origin.sendUpTo(SIZE);
  await weir.start();
  const later = await pull(weir);
  expect(await later.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  await fillsOver(weir);
  const [, [resumedAt = 0] = []] = origin.ledger;
  expect(resumedAt).toBeGreaterThan(HALF - BUFFER);
  expect(resumedAt).toBeLessThanOrEqual(HALF);
  expect(origin.ledger).toEqual([
    [0, HALF],
    [resumedAt, SIZE - resumedAt],
  ]);
  expect(await spooledFiles(weir.root)).toEqual([]);
  expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
  expect(await unsound(weir.root)).toEqual([]);
});

test("O2 a download that nobody reads any more does not hold up the end, and is resumed", async () => {
  const weir = await start("30s");
  const [client] = await halfway(weir, 1);
  client?.leave();
  weir.process.kill("SIGTERM");
  expect(await weir.process.exited).toEqual({ code: 0, signal: null });
  origin.sendUpTo(SIZE);
  await weir.start();
  const later = await pull(weir);
  expect(await later.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  expect(origin.sent).toBeLessThan(SIZE + BUFFER);
});

test("O2 a second SIGTERM ends at once, with bodies under way", async () => {
  const weir = await start("30s");
  const clients = await halfway(weir, 3);
  weir.process.kill("SIGTERM");
  await refused(weir);
  expect(weir.process.hasExited).toBe(false);
  weir.process.kill("SIGTERM");
  expect(await weir.process.exited).toEqual({ code: 143, signal: null });
  for (const client of clients) expect(await client.compare(blob)).toEqual({ bytes: HALF, complete: false });
  origin.sendUpTo(SIZE);
  await weir.start();
  const later = await pull(weir);
  expect(await later.compare(blob)).toEqual({ bytes: SIZE, complete: true });
  await fillsOver(weir);
  expect(await spooledFiles(weir.root)).toEqual([]);
});
