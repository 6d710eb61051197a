import { open, rm, stat, truncate, utimes } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobPull, getBlob, type PullEnd } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob } from "../support/fill-sources.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { blobFile, heldBlobs, unsound } from "../support/store-files.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1024 * 1024;
/** Verified before an answer's headers go out. */
const SMALL = 100_000;
/** Verified while it is sent, in more than one chunk: so is half of it. */
const LARGE = 9 * MiB;

const DAMAGES: Readonly<Record<string, (file: string) => Promise<void>>> = {
  missing: (file) => rm(file),
  empty: (file) => truncate(file, 0),
  truncated: async (file) => truncate(file, (await stat(file)).size / 2),
  /** One byte, in place, with the time of the change hidden. */
  async altered(file) {
    const { atime, mtime } = await stat(file);
    const handle = await open(file, "r+");
    const [at, byte] = [50_000, Buffer.alloc(1)];
    await handle.read(byte, 0, 1, at);
    await handle.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at);
    await handle.close();
    await utimes(file, atime, mtime);
  },
};

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: WeirProcess;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startWeir(stack, { config: { upstreams: { "registry.example": origin.upstream } } });
});

afterEach(() => stack.disposeAsync());

function pull(blob: BlobContent, range?: string): Promise<BlobPull> {
  const url = `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
  return getBlob(url, range === undefined ? {} : { range });
}

async function pullAll(blob: BlobContent): Promise<PullEnd> {
  const client = await pull(blob);
  expect(client.status).toBe(200);
  return await client.compare(blob);
}

async function held(name: string, size: number): Promise<BlobContent> {
  const blob = seededBlob(name, size);
  origin.add("app", blob);
  expect(await pullAll(blob)).toEqual({ bytes: size, complete: true });
  await fillsOver(weir);
  origin.forget();
  return blob;
}

async function restart(): Promise<void> {
  await weir.stop();
  await weir.start();
}

async function expectHealed(blob: BlobContent): Promise<void> {
  expect(await pullAll(blob)).toEqual({ bytes: blob.size, complete: true });
  expect(origin.ledger).toEqual([[0, blob.size]]);
  await fillsOver(weir);
  expect(await pullAll(blob)).toEqual({ bytes: blob.size, complete: true });
  expect(origin.ledger).toHaveLength(1);
  expect(await heldBlobs(weir.root)).toContain(blob.digest);
  origin.forget();
}

/** What only reading a large blob to its end can show: no client completes, and the one after it gets the blob. */
async function expectCutOff(blob: BlobContent): Promise<void> {
  const client = await pull(blob);
  const { bytes, complete } = await client.drain();
  expect(complete).toBe(false);
  expect(bytes).toBeLessThan(blob.size);
  expect(origin.gets).toEqual([]);
}

test.each(Object.entries(DAMAGES))(
  "B15 the data file is %s, Weir running or restarted: never a wrong 200, and it heals",
  async (damage, inflict) => {
    const [small, large] = [await held(`${damage} small`, SMALL), await held(`${damage} large`, LARGE)];
    await inflict(blobFile(weir.root, small.digest));
    await expectHealed(small);
    await inflict(blobFile(weir.root, large.digest));
    if (damage === "altered") await expectCutOff(large);
    await expectHealed(large);

    // The sizes, too, are forgotten now.
    await inflict(blobFile(weir.root, small.digest));
    await inflict(blobFile(weir.root, large.digest));
    await restart();
    if (damage === "altered" || damage === "truncated") await expectCutOff(large);
    await expectHealed(large);
    await expectHealed(small);
    expect(await unsound(weir.root)).toEqual([]);
  },
);

test("B15 altered, and asked for by parts only: found beside, and the parts come from upstream then", async () => {
  const blob = await held("b15 parts", LARGE);
  await DAMAGES.altered?.(blobFile(weir.root, blob.digest));
  await restart();
  const part = await pull(blob, "bytes=1000-1999");
  expect(part.status).toBe(206);
  expect(await part.compare(blob, 1000)).toEqual({ bytes: 1000, complete: true });
  await until("the damage to be found", async () => (await heldBlobs(weir.root)).length === 0);
  const damaged = await pull(blob, "bytes=49000-50999");
  expect(damaged.status).toBe(206);
  expect(await damaged.compare(blob, 49_000)).toEqual({ bytes: 2000, complete: true });
  await fillsOver(weir);
  // Besides the range itself, where the download had yet to reach it.
  expect(origin.gets.filter(({ range }) => range !== "bytes=49000-50999")).toMatchObject([{ sent: LARGE }]);
  expect(await unsound(weir.root)).toEqual([]);
});

test("B15 altered, and asked for by a range that is all of it: no client completes it, and it heals", async () => {
  const blob = await held("b15 all", LARGE);
  await DAMAGES.altered?.(blobFile(weir.root, blob.digest));
  await restart();
  const client = await pull(blob, "bytes=0-");
  expect(client).toMatchObject({ status: 206, headers: { "content-range": `bytes 0-${LARGE - 1}/${LARGE}` } });
  expect(await client.drain()).toMatchObject({ complete: false });
  await expectHealed(blob);
});

test("B15 HEAD does not tell the size of what is left of a file", async () => {
  const blob = await held("b15 head", LARGE);
  await DAMAGES.truncated?.(blobFile(weir.root, blob.digest));
  const url = `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
  const { status, headers } = await httpRequest(url, { method: "HEAD" });
  expect([status, headers["content-length"]]).toEqual([200, String(LARGE)]);
});
