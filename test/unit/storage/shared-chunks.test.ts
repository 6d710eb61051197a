import { expect, test } from "vitest";
import { ReadBuffers } from "../../../src/storage/fs/read-buffers.ts";
import { type ChunkSource, SharedChunks } from "../../../src/storage/fs/shared-chunks.ts";

const MIB = 1 << 20;
const ROOM = 64;

/** Counts what is read of it; each byte is the number of its MiB. */
class CountedSource implements ChunkSource {
  readonly size: number;
  readonly reads: number[] = [];
  /** What is there, where that is less than there should be. */
  left: number;
  failure: Error | undefined;
  /** Reads wait for it. */
  gate: Promise<void> = Promise.resolve();

  constructor(size: number) {
    this.size = size;
    this.left = size;
  }

  async read(buffer: Buffer, length: number, position: number): Promise<number> {
    this.reads.push(position);
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    buffer.fill(position / MIB, 0, length);
    return Math.max(0, Math.min(length, this.left - position));
  }
}

function twoReaders(size: number): { chunks: SharedChunks; source: CountedSource; leave: (() => void)[] } {
  const chunks = new SharedChunks(new ReadBuffers());
  const source = new CountedSource(size);
  return { chunks, source, leave: [chunks.join(source), chunks.join(source)] };
}

function acquired(chunks: SharedChunks, source: ChunkSource, position: number) {
  const found = chunks.acquire(source, position);
  if (found === undefined) throw new Error(`no chunk at ${position}`);
  return found;
}

test("who is alone reads for itself, also when the other has left", () => {
  const chunks = new SharedChunks(new ReadBuffers());
  const source = new CountedSource(10 * MIB);
  expect(chunks.acquire(source, 0)).toBeUndefined();
  chunks.join(source);
  expect(chunks.acquire(source, 0)).toBeUndefined();
  const leave = chunks.join(source);
  expect(chunks.acquire(source, 0)).toBeDefined();
  leave();
  expect(chunks.acquire(source, MIB)).toBeUndefined();
  expect(source.reads).toEqual([0]);
});

test("a source of one chunk is shared also by those who come one after another", async () => {
  const chunks = new SharedChunks(new ReadBuffers());
  const source = new CountedSource(MIB);
  for (const _ of [1, 2]) {
    const leave = chunks.join(source);
    const { chunk, release } = acquired(chunks, source, 0);
    expect(await chunk.filled).toBe(MIB);
    release();
    leave();
  }
  expect(source.reads).toEqual([0]);
});

test("what several want at once, or soon after one another, is read once", async () => {
  const { chunks, source } = twoReaders(3 * MIB + 5);
  const gate = Promise.withResolvers<void>();
  source.gate = gate.promise;
  const found = [0, 1, MIB - 1].map((position) => acquired(chunks, source, position));
  gate.resolve();
  expect(await Promise.all(found.map(({ chunk }) => chunk.filled))).toEqual([MIB, MIB, MIB]);
  expect(new Set(found.map(({ chunk }) => chunk.buffer)).size).toBe(1);
  for (const { release } of found) release();
  expect(acquired(chunks, source, 7).chunk.buffer).toBe(found[0]?.chunk.buffer);
  expect(source.reads).toEqual([0]);
  const last = acquired(chunks, source, 3 * MIB + 4).chunk;
  expect([last.start, await last.filled, last.buffer.length]).toEqual([3 * MIB, 5, 16 << 10]);
});

test("sources are kept apart", async () => {
  const { chunks, source } = twoReaders(MIB);
  const other = new CountedSource(MIB);
  for (const _ of [1, 2]) chunks.join(other);
  expect(acquired(chunks, source, 0).chunk.buffer).not.toBe(acquired(chunks, other, 0).chunk.buffer);
});

test(`${ROOM} MiB are kept: what has not been used for longest makes room, what is in use does not`, async () => {
  const { chunks, source } = twoReaders(1000 * MIB);
  const take = async (index: number) => {
    const found = acquired(chunks, source, index * MIB);
    await found.chunk.filled;
    return found;
  };
  for (let index = 0; index < ROOM; index += 1) (await take(index)).release();
  const first = await take(0);
  (await take(ROOM)).release();
  expect(source.reads).toHaveLength(ROOM + 1);
  first.release();
  (await take(0)).release();
  expect(source.reads).toHaveLength(ROOM + 1);
  (await take(1)).release();
  expect(source.reads).toHaveLength(ROOM + 2);

  const held = await Promise.all(Array.from({ length: ROOM }, (_, index) => take(100 + index)));
  expect(chunks.acquire(source, 900 * MIB)).toBeUndefined();
  expect(new Set(held.map(({ chunk }) => chunk.buffer)).size).toBe(ROOM);
  for (const [index, { chunk }] of held.entries()) expect(chunk.buffer.readUInt8(MIB - 1)).toBe((100 + index) % 256);
  held[5]?.release();
  expect(chunks.acquire(source, 900 * MIB)?.chunk.buffer).toBe(held[5]?.chunk.buffer);
});

test("a failure is told to all who wait, and whoever comes next has it read again", async () => {
  const { chunks, source } = twoReaders(MIB);
  source.failure = new Error("the disk has failed");
  const found = [acquired(chunks, source, 0), acquired(chunks, source, 9)];
  for (const { chunk, release } of found) {
    await expect(chunk.filled).rejects.toThrow("the disk has failed");
    release();
  }
  source.failure = undefined;
  expect(await acquired(chunks, source, 0).chunk.filled).toBe(MIB);
  expect(source.reads).toEqual([0, 0]);
});

test("B15 what is shorter than it should be is told as it is, and not kept", async () => {
  const { chunks, source } = twoReaders(2 * MIB);
  source.left = MIB + 3;
  expect(await acquired(chunks, source, MIB).chunk.filled).toBe(3);
  source.left = 2 * MIB;
  expect(await acquired(chunks, source, MIB).chunk.filled).toBe(MIB);
});

test("what is forgotten is read anew, and its memory is used again only when nobody has it", async () => {
  const { chunks, source } = twoReaders(MIB);
  const found = acquired(chunks, source, 0);
  await found.chunk.filled;
  chunks.forget(source);
  for (const _ of [1, 2]) chunks.join(source);
  const again = acquired(chunks, source, 0);
  await again.chunk.filled;
  expect(again.chunk.buffer).not.toBe(found.chunk.buffer);
  found.release();
  const other = new CountedSource(MIB);
  for (const _ of [1, 2]) chunks.join(other);
  expect(acquired(chunks, other, 0).chunk.buffer).toBe(found.chunk.buffer);
});
