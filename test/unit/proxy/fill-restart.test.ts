import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FillStoppedError, WrongContentError } from "../../../src/proxy/fill-errors.ts";
import { eventually, FillBench, type FillBenchOptions, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { type BlobContent, ScriptedSource, seededBlob } from "../../support/fill-sources.ts";
import { tempFolder } from "../../support/processes.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const DAY_MS = 24 * 60 * 60 * 1000;
const signal = new AbortController().signal;

/** Starts a fill, stops the engine when `bytes` have come, and lets `then` look at what is left. */
async function stopAt(dir: string, blob: BlobContent, bytes: number, o: FillBenchOptions = {}): Promise<void> {
  await using bench = await FillBench.create({ dir, ...o });
  const source = new ScriptedSource({ blob });
  source.sendUpTo(bytes);
  const fill = bench.join(blob, source);
  await fill.ready({ signal });
  const reader = new SteppedReader(fill);
  await reader.step();
  await eventually("the bytes", () => source.sent === bytes);
  await eventually("a turn", () => true);
  await bench.fills.stop({ signal });
  expect(await fill.outcome).toBe("failed");
  await expect(reader.rest()).rejects.toThrow(FillStoppedError);
  expect(() => bench.join(blob, source)).toThrow(FillStoppedError);
  await eventually("the body's end", () => source.openBodies === 0);
  expect(bench.clock.sleepers).toBe(0);
  expect(await bench.openFiles()).toEqual([]);
}

describe("after a stop", () => {
  test("B9 the next start resumes where it was, and asks for nothing twice", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const blob = seededBlob("stopped", 4 * MiB);
    await stopAt(dir, blob, 3 * MiB);
    await using bench = await FillBench.create({ dir });
    bench.tick();
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("committed");
    expect(source.ledger).toEqual([{ start: 3 * MiB, sent: MiB }]);
    expect(await bench.spooled()).toEqual([]);
  });

  test("what is there already is read before the upstream has sent anything", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const blob = seededBlob("at once", 4 * MiB);
    await stopAt(dir, blob, 3 * MiB);
    await using bench = await FillBench.create({ dir });
    bench.tick();
    const source = new ScriptedSource({ blob });
    source.sendUpTo(0);
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const reader = new SteppedReader(fill);
    await reader.readTo(3 * MiB);
    expect(source.sent).toBe(0);
    source.sendUpTo(blob.size);
    expect((await reader.rest()).equals(blob.read(0, blob.size))).toBe(true);
  });

  test("a download that only lacked its end is verified without asking", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const blob = seededBlob("whole", 2 * MiB);
    await stopAt(dir, blob, MiB);
    const part = (await readdir(dir, { recursive: true })).find((name) => name.endsWith(".part")) ?? "";
    await writeFile(join(dir, part), blob.read(0, blob.size));
    const note = join(dir, part.replace(".part", ".json"));
    const { default: written } = (await import(note, { with: { type: "json" } })) as { default: object };
    await writeFile(note, JSON.stringify({ ...written, mark: blob.size }));
    await using bench = await FillBench.create({ dir });
    bench.tick();
    const source = new ScriptedSource({ blob });
    expect((await readAll(bench.join(blob, source))).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger).toEqual([]);
  });

  test("leftovers that are not what they should be end as a failed pull, and the next starts clean", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const blob = seededBlob("damaged", 4 * MiB);
    await stopAt(dir, blob, 2 * MiB);
    const part = (await readdir(dir, { recursive: true })).find((name) => name.endsWith(".part")) ?? "";
    await writeFile(join(dir, part), Buffer.alloc(2 * MiB));
    await using bench = await FillBench.create({ dir });
    bench.tick();
    const source = new ScriptedSource({ blob });
    await expect(readAll(bench.join(blob, source))).rejects.toThrow(WrongContentError);
    expect((await readAll(bench.join(blob, source))).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger.map((asked) => asked.start)).toEqual([2 * MiB, 0]);
  });

  test("leftovers shorter than their mark are not resumed", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const blob = seededBlob("short", 4 * MiB);
    await stopAt(dir, blob, 2 * MiB);
    const part = (await readdir(dir, { recursive: true })).find((name) => name.endsWith(".part")) ?? "";
    await writeFile(join(dir, part), "");
    await using bench = await FillBench.create({ dir });
    bench.tick();
    const source = new ScriptedSource({ blob });
    expect((await readAll(bench.join(blob, source))).length).toBe(blob.size);
    expect(source.ledger.map((asked) => asked.start)).toEqual([0]);
  });

  test("leftovers of another domain are not used, and those of a day ago are removed", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const blob = seededBlob("other", 4 * MiB);
    await stopAt(dir, blob, 2 * MiB);
    await using bench = await FillBench.create({ dir });
    bench.tick();
    const source = new ScriptedSource({ blob });
    await bench.join(blob, source, { domain: "private:upstream.example" }).outcome;
    expect(source.ledger.map((asked) => asked.start)).toEqual([0]);
    expect(await bench.spooled()).toHaveLength(2);
    bench.clock.advance(DAY_MS + 1);
    const another = seededBlob("another", 10);
    await bench.join(another, new ScriptedSource({ blob: another })).outcome;
    await eventually("the leftover's end", async () => (await bench.spooled()).length === 0);
  });

  test("too little to be worth it is not kept", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const blob = seededBlob("little", 4 * MiB);
    await stopAt(dir, blob, MiB - 1);
    await using bench = await FillBench.create({ dir });
    expect(await bench.spooled()).toEqual([]);
  });

  test("what is verified is committed first", async () => {
    const gate = Promise.withResolvers<void>();
    await using bench = await FillBench.create();
    bench.tick();
    const { store } = bench;
    const ingest = store.ingest.bind(store);
    store.ingest = async (...args) => {
      await gate.promise;
      await ingest(...args);
    };
    const blob = seededBlob("committing", 2 * MiB);
    const fill = bench.join(blob, new ScriptedSource({ blob }));
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    const stopped = bench.fills.stop({ signal });
    gate.resolve();
    await stopped;
    expect(await fill.outcome).toBe("committed");
  });

  test("who will not wait for it is told so", async () => {
    await using bench = await FillBench.create();
    const { store } = bench;
    const gate = Promise.withResolvers<void>();
    const ingest = store.ingest.bind(store);
    store.ingest = async (...args) => {
      await gate.promise;
      await ingest(...args);
    };
    const blob = seededBlob("impatient", 10);
    const fill = bench.join(blob, new ScriptedSource({ blob }));
    await fill.ready({ signal });
    await expect(bench.fills.stop({ signal: AbortSignal.abort(new Error("no time")) })).rejects.toThrow("no time");
    gate.resolve();
    await fill.outcome;
  });
});

describe("B8 two writers of one blob", () => {
  test("have a file each, and the second to commit finds the blob", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    await using one = await FillBench.create({ dir });
    await using two = await FillBench.create({ dir, store: one.store });
    const blob = seededBlob("twice", 4 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(3 * MiB);
    const fills = [one.join(blob, source), two.join(blob, source)];
    await Promise.all(fills.map((fill) => fill.ready({ signal })));
    await eventually("both files", async () => (await one.spooled()).length === 2);
    // Neither is taken for a leftover by a third.
    await using three = await FillBench.create({ dir, store: one.store });
    expect(await three.spooled()).toHaveLength(2);
    one.tick();
    two.tick();
    source.sendUpTo(blob.size);
    const bodies = await Promise.all(fills.map((fill) => readAll(fill)));
    for (const body of bodies) expect(body.equals(blob.read(0, blob.size))).toBe(true);
    expect(await Promise.all(fills.map((fill) => fill.outcome))).toEqual(["committed", "committed"]);
    expect(await one.spooled()).toEqual([]);
  });
});
