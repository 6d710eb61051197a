import { open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob, type PullEnd } from "../support/blob-pull.ts";
import { type BlobContent, seededBlob, stampedBlob } from "../support/fill-sources.ts";
import { fillsOver } from "../support/metrics.ts";
import { until } from "../support/processes.ts";
import { heldBlobs, spooledFiles, unsound } from "../support/store-files.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1024 * 1024;
const SIZE = 160 * MiB;
/** What is on disk is noted for the first time when there is so much. */
const FIRST_MARK = 64 * MiB;
/** What comes is written in large pieces: so much may not have been when nothing more comes. */
const UNWRITTEN = 4 * MiB;
const KILLS = 3;
const SMALL_BLOBS = 30;

let stack: AsyncDisposableStack;
let origin: BlobOrigin;
let weir: WeirProcess;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
  weir = await startWeir(stack, { config: { upstreams: { "registry.example": origin.upstream } } });
});

afterEach(() => stack.disposeAsync());

async function pull(blob: BlobContent): Promise<PullEnd> {
  const client = await getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
  return await client.compare(blob);
}

/** A pull that the kill may come before, or cut off. Rejects at a wrong byte. */
async function pullUnderThreat(blob: BlobContent): Promise<PullEnd | undefined> {
  const url = `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
  const client = await getBlob(url).catch(() => undefined);
  return await client?.compare(blob);
}

/** Reads `bytes` of the blob, all of them right. */
async function readSome(blob: BlobContent, bytes: number): Promise<void> {
  const client = await getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
  for (let at = 0; at < bytes; at += MiB) {
    const end = Math.min(bytes, at + MiB);
    expect((await client.take(end - at)).equals(blob.read(at, end))).toBe(true);
  }
}

interface Left {
  /** Bytes noted as being on disk. */
  readonly mark: number;
  readonly part: string;
}

/** What the killed process has left of the blob; nothing unless it had noted some of it. */
async function leftOf(blob: BlobContent): Promise<Left | undefined> {
  for (const file of await spooledFiles(weir.root)) {
    if (!file.endsWith(".json")) continue;
    const { digest, mark } = JSON.parse(await readFile(join(weir.root, file), "utf8"));
    if (digest === blob.digest) return { mark, part: join(weir.root, file.replace(/json$/, "part")) };
  }
  return undefined;
}

/** As a power cut may leave a file: nothing but zeros where the data had not been put on disk. */
async function loseUnmarked({ mark, part }: Left): Promise<void> {
  const { size } = await stat(part);
  const file = await open(part, "r+");
  await file.truncate(mark);
  await file.truncate(size);
  await file.close();
}

test("B9 S2 killed at random points under load: what was on disk is resumed, the rest asked for again, and all is sound", async () => {
  const seed = Math.floor(Math.random() * 1e9);
  // Every third of the blob gets a kill, at a place in it that the seed decides.
  const points = Array.from({ length: KILLS }, (_, index) =>
    Math.floor((index + ((seed * (index + 1)) % 9973) / 9973) * (SIZE / KILLS)),
  );
  const told = `seed ${seed}: killed when a client has ${points.join(", ")} bytes`;
  const smalls = Array.from({ length: SMALL_BLOBS }, (_, index) => seededBlob(`small ${index}`, 1 + index * 40_000));
  origin.add("app", ...smalls);
  const larges: BlobContent[] = [];
  for (const [index, point] of points.entries()) {
    const large = stampedBlob(`b9 ${index}`, SIZE);
    larges.push(large);
    origin.add("app", large);
    // A disk may be slower than the network: what the kill must not cost is on it before the rest comes.
    const marked = point < FIRST_MARK ? 0 : FIRST_MARK;
    origin.sendUpTo(marked + UNWRITTEN);
    const load = [large, large, ...smalls].map((blob) => pullUnderThreat(blob));
    await until("the mark", async () => ((await leftOf(large))?.mark ?? 0) >= marked);
    // Not to the end: the kill must not come too late.
    origin.sendUpTo(SIZE - 1);
    await readSome(large, point);
    await weir.kill();
    origin.sendUpTo(SIZE);
    await Promise.all(load);

    const left = await leftOf(large);
    if (left !== undefined) await loseUnmarked(left);
    const mark = left?.mark ?? 0;
    expect(mark, told).toBeGreaterThanOrEqual(marked);
    await weir.start();
    origin.forget();
    expect(await pull(large), told).toEqual({ bytes: SIZE, complete: true });
    expect(origin.ledger, told).toEqual([[mark, SIZE - mark]]);
    for (const small of smalls) expect(await pull(small), told).toEqual({ bytes: small.size, complete: true });
    await fillsOver(weir);
    expect(await spooledFiles(weir.root), told).toEqual([]);
    expect(await unsound(weir.root), told).toEqual([]);
  }
  expect(await heldBlobs(weir.root)).toEqual([...larges, ...smalls].map(({ digest }) => digest).sort());
}, 240_000);
