import { describe, expect, test } from "vitest";
import { FillStoppedError, WrongContentError } from "../../../src/proxy/fill-errors.ts";
import type { Spool } from "../../../src/storage/spool.ts";
import { eventually, FillBench, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { type Answer, ScriptedSource, seededBlob } from "../../support/fill-sources.ts";
import { fullStore, spoolWithRoom } from "../../support/full-disk.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const signal = new AbortController().signal;
/** A window of 1 MiB, so that a blob of a few MiB does not fit. */
const tuning = {
  blockBytes: 64 * KiB,
  windowBytes: 512 * KiB,
  streamWindowBytes: MiB,
  writeBytes: 128 * KiB,
  unwrittenBytes: 512 * KiB,
};
const full = (bytes: number) => (real: Spool) => spoolWithRoom(real, () => bytes);

describe("B14 on a full disk", () => {
  test.for([
    ["before the fill", -1],
    ["at its start", 0],
    ["in its middle", 3 * MiB],
    ["at its end", 8 * MiB - 1],
  ] as const)("%s: all readers get the blob by one upstream request, and nothing is kept", async ([, room]) => {
    await using bench = await FillBench.create({ tuning, spool: full(room) });
    bench.tick();
    const blob = seededBlob("full", 8 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    const bodies = await Promise.all(Array.from({ length: 10 }, () => readAll(fill)));
    for (const body of bodies) expect(body.equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("streamed");
    expect(source.ledger).toEqual([{ start: 0, sent: blob.size }]);
    expect(bench.outcomes).toEqual(["streamed"]);
    expect(bench.committed).toEqual([]);
    expect(await bench.spooled()).toEqual([]);
    expect(await bench.openFiles()).toEqual([]);
    expect(bench.fills.size).toBe(0);
  });

  test("those who begin to read when the fill is over are served by one more request together", async () => {
    await using bench = await FillBench.create({ tuning, spool: full(3 * MiB) });
    bench.tick();
    const blob = seededBlob("late", 8 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    await readAll(fill);
    expect(await fill.outcome).toBe("streamed");
    const bodies = await Promise.all(Array.from({ length: 10 }, () => readAll(fill)));
    for (const body of bodies) expect(body.equals(blob.read(0, blob.size))).toBe(true);
    expect(source.sent).toBe(2 * blob.size);
  });

  test("a small blob is verified first, and read from memory", async () => {
    await using bench = await FillBench.create({ spool: full(-1) });
    bench.tick();
    const blob = seededBlob("small", 100 * KiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    expect(await fill.outcome).toBe("streamed");
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger).toHaveLength(1);
  });

  test.for([-1, 3 * MiB])("wrong bytes complete nowhere (room for %i bytes)", async (room) => {
    await using bench = await FillBench.create({ tuning, spool: full(room) });
    bench.tick();
    const blob = seededBlob("wrong", 8 * MiB);
    const fill = bench.join(blob, new ScriptedSource({ blob, script: [{ wrongByteAt: 4 * MiB }] }));
    await expect(readAll(fill)).rejects.toThrow(WrongContentError);
    expect(await fill.outcome).toBe("failed");
    expect(bench.mismatches).toEqual(["upstream.example"]);
  });

  test("the download waits for its readers, and goes on with them", async () => {
    await using bench = await FillBench.create({ tuning, spool: full(-1) });
    const blob = seededBlob("waits", 8 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const fast = new SteppedReader(fill);
    const slow = new SteppedReader(fill);
    const rest = fast.rest();
    await slow.step();
    bench.clock.advance(29_000);
    await eventually("the window to be full", () => source.sent >= MiB);
    for (let turn = 0; turn < 50; turn += 1) await eventually("a turn", () => true);
    expect(source.sent).toBeLessThan(2 * MiB);
    bench.tick();
    expect((await slow.rest()).equals(blob.read(0, blob.size))).toBe(true);
    expect((await rest).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger).toHaveLength(1);
  });

  test.for([-1, 2 * MiB])(
    "a reader that stands still holds nobody up, and goes on by a request of its own (room for %i bytes)",
    async (room) => {
      await using bench = await FillBench.create({ tuning, spool: full(room) });
      bench.tick();
      const blob = seededBlob("stuck", 8 * MiB);
      const source = new ScriptedSource({ blob });
      const fill = bench.join(blob, source);
      await fill.ready({ signal });
      const [stuck, fast] = [new SteppedReader(fill), new SteppedReader(fill)];
      await Promise.all([stuck.step(), fast.step()]);
      if (room > 0) await Promise.all([stuck.readTo(room + 100), fast.readTo(room + 100)]);
      const at = stuck.bytes;
      expect((await fast.rest()).equals(blob.read(0, blob.size))).toBe(true);
      expect((await stuck.rest()).equals(blob.read(0, blob.size))).toBe(true);
      expect(await fill.outcome).toBe("streamed");
      expect(source.ledger.map((asked) => asked.start)).toEqual([0, at]);
    },
  );

  test("a reader that goes on alone is resumed, and does not get the tail of wrong bytes", async () => {
    await using bench = await FillBench.create({ tuning, spool: full(-1) });
    bench.tick();
    const blob = seededBlob("alone", 8 * MiB);
    const script = (request: number): Answer =>
      [{}, { cutAt: 5 * MiB }, { wrongByteAt: 6 * MiB }, { cutAt: 5 * MiB }][request] ?? {};
    const source = new ScriptedSource({ blob, script });
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const [wronged, lucky] = [new SteppedReader(fill), new SteppedReader(fill)];
    await Promise.all([wronged.step(), lucky.step()]);
    await readAll(fill);
    await expect(wronged.rest()).rejects.toThrow(WrongContentError);
    expect(wronged.bytes).toBe(blob.size - 64 * KiB);
    expect((await lucky.rest()).equals(blob.read(0, blob.size))).toBe(true);
  });

  test("who comes late reads the file, and then the rest by a request of its own", async () => {
    await using bench = await FillBench.create({ tuning, spool: full(2 * MiB) });
    bench.tick();
    const blob = seededBlob("late", 8 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(6 * MiB);
    const fill = bench.join(blob, source);
    const first = readAll(fill);
    await eventually("the download's progress", () => fill.position === 6 * MiB - 0 || fill.position > 5.5 * MiB);
    const late = readAll(fill);
    await eventually("the late reader's request", () => source.ledger.length === 2);
    source.sendUpTo(blob.size);
    expect((await first).equals(blob.read(0, blob.size))).toBe(true);
    expect((await late).equals(blob.read(0, blob.size))).toBe(true);
    const second = source.ledger[1];
    expect(second?.start).toBeGreaterThanOrEqual(MiB);
    expect(second?.start).toBeLessThanOrEqual(2 * MiB);
  });

  test("a part is read by a request of its own where it is nowhere any more", async () => {
    await using bench = await FillBench.create({ tuning, spool: full(-1) });
    bench.tick();
    const blob = seededBlob("part", 8 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    await readAll(fill);
    const part = await readAll(fill, { start: 5 * MiB, end: 5 * MiB + 10 });
    expect(part.equals(blob.read(5 * MiB, 5 * MiB + 10))).toBe(true);
    const end = await readAll(fill, { start: MiB, end: blob.size });
    expect(end.equals(blob.read(MiB, blob.size))).toBe(true);
    expect(source.ledger.map((asked) => asked.start)).toEqual([0, 5 * MiB, MiB]);
    await eventually("the bodies' end", () => source.openBodies === 0);
  });

  test("nobody reading: the download ends by itself", async () => {
    await using bench = await FillBench.create({ tuning, spool: full(-1) });
    bench.tick(50);
    const blob = seededBlob("nobody", 8 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    expect(await fill.outcome).toBe("failed");
    await expect(fill.ready({ signal })).rejects.toThrow(FillStoppedError);
    await eventually("the body's end", () => source.openBodies === 0);
  });

  test("a store that takes nothing more: served from the spool until the last reader has left", async () => {
    await using bench = await FillBench.create({ store: fullStore() });
    bench.tick();
    const blob = seededBlob("store", 4 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const slow = new SteppedReader(fill);
    await slow.step();
    await readAll(fill);
    await eventually("the spool's name to go", async () => (await bench.spooled()).length === 0);
    // Still joined by newcomers: what is on disk is not asked for again.
    expect(bench.join(blob, source)).toBe(fill);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect((await slow.rest()).equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("streamed");
    expect(source.ledger).toHaveLength(1);
    expect(await bench.openFiles()).toEqual([]);
  });
});
