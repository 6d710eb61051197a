import { expect, test } from "vitest";
import { type BlobStore, StorageError, type StorageFault } from "../../../src/storage/blob-store.ts";
import { type AheadStore, withUploadAhead } from "../../support/ahead-store.ts";
import { eventually, FillBench, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { ScriptedSource, seededBlob } from "../../support/fill-sources.ts";
import { createMemoryBlobStore } from "../../support/memory-store.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const signal = new AbortController().signal;

function aheadStore(): AheadStore {
  return withUploadAhead(createMemoryBlobStore(), 256 * KiB);
}

function expectNothingLeft(ahead: AheadStore): void {
  expect(ahead.pending).toBe(0);
  expect(ahead.complaints).toEqual([]);
}

test("B16 a store that wants it gets a blob while it arrives, and shows it when it is verified", async () => {
  const ahead = aheadStore();
  await using bench = await FillBench.create({ store: ahead.store });
  bench.tick();
  const blob = seededBlob("ahead", 6 * MiB);
  const source = new ScriptedSource({ blob });
  source.sendUpTo(4 * MiB);
  const fill = bench.join(blob, source);
  await eventually("bytes to be sent ahead", () => ahead.sentAhead >= 2 * MiB);
  expect(await ahead.store.stat(blob.digest, { signal })).toBeUndefined();
  source.sendUpTo(blob.size);
  expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
  expect(await fill.outcome).toBe("committed");
  expect(await ahead.store.stat(blob.digest, { signal })).toMatchObject({ size: blob.size });
  expectNothingLeft(ahead);
});

test("B16 wrong bytes are given up: nothing of them is shown or left", async () => {
  const ahead = aheadStore();
  await using bench = await FillBench.create({ store: ahead.store });
  bench.tick();
  const blob = seededBlob("wrong", 6 * MiB);
  const source = new ScriptedSource({ blob, script: [{ wrongByteAt: 5 * MiB }] });
  source.sendUpTo(4 * MiB);
  const fill = bench.join(blob, source);
  await eventually("bytes to be sent ahead", () => ahead.sentAhead > 0);
  source.sendUpTo(blob.size);
  await expect(readAll(fill)).rejects.toThrow();
  expect(await fill.outcome).toBe("failed");
  expect(await ahead.store.stat(blob.digest, { signal })).toBeUndefined();
  expectNothingLeft(ahead);
});

test("B16 a blob whose length turns out another one is sent ahead anew, from its beginning", async () => {
  const ahead = aheadStore();
  await using bench = await FillBench.create({ store: ahead.store });
  bench.tick();
  const blob = seededBlob("restarted", 3 * MiB);
  const script = [{ total: 4 * MiB, cutAt: 2 * MiB }, {}];
  const source = new ScriptedSource({ blob, script });
  source.sendUpTo(1.5 * MiB);
  const fill = bench.join(blob, source);
  await eventually("bytes to be sent ahead", () => ahead.sentAhead > 0);
  source.sendUpTo(blob.size);
  expect(await fill.outcome).toBe("committed");
  expect(ahead.sentAhead).toBeGreaterThan(3 * MiB);
  expectNothingLeft(ahead);
});

/** Keeps nothing for as long as there is trouble. */
function inTrouble(store: BlobStore, trouble: () => StorageFault | undefined): BlobStore {
  return {
    ...store,
    async ingest(digest, path, o) {
      const fault = trouble();
      if (fault !== undefined) throw new StorageError(fault, "the store keeps nothing");
      await store.ingest(digest, path, o);
    },
  };
}

test("B14 a store that cannot be reached fails no reader, and the next pull downloads nothing", async () => {
  let trouble: StorageFault | undefined = "unavailable";
  const ahead = withUploadAhead(
    inTrouble(createMemoryBlobStore(), () => trouble),
    256 * KiB,
  );
  await using bench = await FillBench.create({ store: ahead.store });
  bench.tick();
  const blob = seededBlob("unreachable", 4 * MiB);
  const source = new ScriptedSource({ blob });
  const first = bench.join(blob, source);
  expect((await readAll(first)).equals(blob.read(0, blob.size))).toBe(true);
  expect(await first.outcome).toBe("streamed");
  expect(await bench.spooled()).toHaveLength(2);

  trouble = undefined;
  const second = bench.join(blob, source);
  expect((await readAll(second)).equals(blob.read(0, blob.size))).toBe(true);
  expect(await second.outcome).toBe("committed");
  expect(source.sent).toBe(blob.size);
  expect(await bench.spooled()).toEqual([]);
  expectNothingLeft(ahead);
});

test("S6 those who begin to read when the fill is over, and the store has taken nothing, share what is in the spool", async () => {
  const store = inTrouble(createMemoryBlobStore(), () => "unavailable");
  await using bench = await FillBench.create({ store });
  bench.tick();
  const blob = seededBlob("late", 4 * MiB);
  const source = new ScriptedSource({ blob });
  const fill = bench.join(blob, source);
  // As many as have got their answer's headers, and come to its body later than the store gives up.
  const readers = Array.from({ length: 10 }, () => new SteppedReader(fill));
  await fill.ready({ signal });
  expect(await fill.outcome).toBe("streamed");
  const bodies = await Promise.all(readers.map((reader) => reader.rest()));
  for (const body of bodies) expect(body.equals(blob.read(0, blob.size))).toBe(true);
  expect(source.sent).toBe(blob.size);
  await eventually("the fill that they share to end", () => bench.outcomes.length === 2);
  expect(bench.outcomes).toEqual(["streamed", "streamed"]);
  expect(await bench.openFiles()).toEqual([]);
});

test("B14 a store that is full does not fill the spool too", async () => {
  const store = inTrouble(createMemoryBlobStore(), () => "no-space");
  await using bench = await FillBench.create({ store });
  bench.tick();
  const blob = seededBlob("full", 4 * MiB);
  const fill = bench.join(blob, new ScriptedSource({ blob }));
  expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
  expect(await fill.outcome).toBe("streamed");
  expect(await bench.spooled()).toEqual([]);
});
