import { describe, expect, test } from "vitest";
import { FillStoppedError, WrongContentError } from "../../../src/proxy/fill-errors.ts";
import { eventually, FillBench, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { ScriptedSource, seededBlob, upstreamError } from "../../support/fill-sources.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const TAIL = 64 * KiB;
const signal = new AbortController().signal;

describe("a cold blob", () => {
  test("B1 a hundred clients are one upstream request, and everybody gets every byte", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("b1", 2 * MiB + 17);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    const bodies = await Promise.all(Array.from({ length: 100 }, () => readAll(bench.join(blob, source))));
    for (const body of bodies) expect(body.equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("committed");
    expect(source.ledger).toEqual([{ start: 0, sent: blob.size }]);
    expect(bench.outcomes).toEqual(["committed"]);
    expect(bench.fills.size).toBe(0);
    expect(await bench.store.stat(blob.digest, { signal })).toMatchObject({ digest: blob.digest, size: blob.size });
    expect(bench.committed).toEqual([{ domain: "public", digest: blob.digest, size: blob.size, sources: [source] }]);
    expect(bench.readers).toBe(0);
    expect(await bench.spooled()).toEqual([]);
    expect(await bench.openFiles()).toEqual([]);
  });

  test("B1 who joins at 10, 50 and 90 percent gets byte 0 at once", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("late", 4 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(0);
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const readers: SteppedReader[] = [];
    for (const percent of [10, 50, 90]) {
      source.sendUpTo((blob.size * percent) / 100);
      await eventually("the download's progress", () => fill.position >= (blob.size * (percent - 2)) / 100);
      const reader = new SteppedReader(fill);
      expect(await reader.step()).toBe(true);
      readers.push(reader);
    }
    source.sendUpTo(blob.size);
    for (const reader of readers) expect((await reader.rest()).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger).toHaveLength(1);
  });

  test("the size is known as soon as the upstream has answered, before a byte is here", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("size", MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(0);
    const fill = bench.join(blob, source);
    expect(fill.size).toBeUndefined();
    await fill.ready({ signal });
    expect(fill.size).toBe(MiB);
    expect(fill.position).toBe(0);
    expect(bench.fills.get("public", blob.digest)).toBe(fill);
  });

  test("two domains never share a fill", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("domains", 10);
    const open = new ScriptedSource({ blob });
    const closed = new ScriptedSource({ blob, key: "other.example/app" });
    const first = bench.join(blob, open);
    const second = bench.join(blob, closed, { domain: "private:other.example" });
    expect(second).not.toBe(first);
    await Promise.all([first.outcome, second.outcome]);
    expect([open.ledger.length, closed.ledger.length]).toEqual([1, 1]);
  });

  test("who asks to wait no longer is let go, and the fill goes on", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("impatient", MiB);
    const source = new ScriptedSource({ blob });
    const gate = Promise.withResolvers<void>();
    source.answerAfter(gate.promise);
    const fill = bench.join(blob, source);
    const leaving = new AbortController();
    const waiting = fill.ready({ signal: leaving.signal });
    leaving.abort(new Error("the client left"));
    await expect(waiting).rejects.toThrow("the client left");
    gate.resolve();
    expect(await fill.outcome).toBe("committed");
  });

  test("B13 blobs of no byte, of one byte, and named by sha512", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blobs = [seededBlob("empty", 0), seededBlob("one", 1), seededBlob("long", 3 * MiB + 1, "sha512")];
    for (const blob of blobs) {
      const fill = bench.join(blob, new ScriptedSource({ blob }));
      expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
      expect(await fill.outcome).toBe("committed");
    }
  });

  test("B13 an empty body is not a blob that has content", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("not empty", 100);
    const fill = bench.join(blob, new ScriptedSource({ blob, script: [{ total: 0, endAt: 0 }] }));
    await expect(readAll(fill)).rejects.toThrow(WrongContentError);
    expect(await fill.outcome).toBe("failed");
  });
});

describe("the tail", () => {
  test.for([1, TAIL, TAIL + 1, 300 * KiB])(
    "B10 of a blob of %i bytes is not given out before the digest agrees",
    async (size) => {
      await using bench = await FillBench.create({ tuning: { verifyFirstBytes: 0 } });
      bench.tick();
      const blob = seededBlob("tail", size);
      const source = new ScriptedSource({ blob });
      source.sendUpTo(size - 1);
      const fill = bench.join(blob, source);
      await fill.ready({ signal });
      const most = Math.max(0, size - TAIL);
      await eventually("what may be read", () => source.sent === size - 1 && fill.position === most);
      const reader = new SteppedReader(fill);
      await reader.readTo(most);
      expect(reader.bytes).toBe(most);
      source.sendUpTo(size);
      expect((await reader.rest()).length).toBe(size);
    },
  );

  test("B10 of a blob whose length is not told is held back from what has come so far", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("chunked", MiB);
    const source = new ScriptedSource({ blob, script: [{ total: "untold" }] });
    source.sendUpTo(500 * KiB);
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    expect(fill.size).toBeUndefined();
    await eventually("the download's progress", () => fill.position === 500 * KiB - TAIL);
    source.sendUpTo(blob.size);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(fill.size).toBe(MiB);
  });

  test("B3 one wrong byte: nobody completes, nothing is kept, it is counted, and the next pull starts clean", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("wrong", 2 * MiB);
    const bad = new ScriptedSource({ blob, script: [{ wrongByteAt: MiB }] });
    const fill = bench.join(blob, bad);
    const readers = Array.from({ length: 10 }, () => new SteppedReader(fill));
    const ends = await Promise.allSettled(readers.map((reader) => reader.rest()));
    for (const end of ends) expect(end).toMatchObject({ status: "rejected", reason: expect.any(WrongContentError) });
    for (const reader of readers) expect(reader.bytes).toBeLessThanOrEqual(blob.size - TAIL);
    expect(await fill.outcome).toBe("failed");
    expect(bench.mismatches).toEqual(["upstream.example"]);
    expect(await bench.spooled()).toEqual([]);
    expect(await bench.store.stat(blob.digest, { signal })).toBeUndefined();
    const good = new ScriptedSource({ blob });
    expect((await readAll(bench.join(blob, good))).equals(blob.read(0, blob.size))).toBe(true);
    expect(good.ledger).toEqual([{ start: 0, sent: blob.size }]);
  });

  test("B3 a wrong blob of up to 256 KiB is an error before the answer goes out", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("small", 256 * KiB);
    const fill = bench.join(blob, new ScriptedSource({ blob, script: [{ wrongByteAt: 0 }] }));
    await expect(fill.ready({ signal })).rejects.toThrow(WrongContentError);
  });

  test("a blob that a manifest lists as small is verified first although its length is not told", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("listed", 1000);
    const source = new ScriptedSource({ blob, script: [{ total: "untold", wrongByteAt: 5 }] });
    const fill = bench.join(blob, source, { expectedSize: 1000 });
    await expect(fill.ready({ signal })).rejects.toThrow(WrongContentError);
  });

  test("bytes beyond the blob's length are not read", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("extra", MiB);
    const source = new ScriptedSource({ blob, script: [{ extra: 8 * MiB }] });
    const fill = bench.join(blob, source);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("committed");
    expect(source.sent).toBeLessThan(2 * MiB);
    await eventually("the body's end", () => source.openBodies === 0);
  });
});

describe("readers", () => {
  test("B5 one that leaves and one that stands still change nothing for the fill", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("leave", 24 * MiB);
    const source = new ScriptedSource({ blob, chunkBytes: 64 * KiB });
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const leaver = new SteppedReader(fill);
    await leaver.readTo(MiB);
    await leaver.leave();
    const slow = new SteppedReader(fill);
    await slow.step();
    expect(await fill.outcome).toBe("committed");
    expect(bench.readers).toBe(1);
    expect((await slow.rest()).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger).toHaveLength(1);
    expect(await bench.openFiles()).toEqual([]);
  });

  test("B5 when all have left the fill goes on", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("alone", 2 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(MiB);
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const reader = new SteppedReader(fill);
    await reader.step();
    await reader.leave();
    source.sendUpTo(blob.size);
    expect(await fill.outcome).toBe("committed");
  });

  test("B5 with `abandon` the fill ends so long after the last has left, and what it has is resumed", async () => {
    await using bench = await FillBench.create({ download: { abandon: { afterMs: 5_000 } } });
    const blob = seededBlob("abandoned", 4 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(2 * MiB);
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const reader = new SteppedReader(fill);
    await reader.readTo(MiB);
    await reader.leave();
    await eventually("the chunks", () => source.sent === 2 * MiB);
    await eventually("a turn", () => true);
    bench.clock.advance(4_999);
    await eventually("a turn", () => true);
    expect(bench.fills.size).toBe(1);
    const second = new SteppedReader(fill);
    await second.step();
    await second.leave();
    bench.clock.advance(4_999);
    await eventually("a turn", () => true);
    expect(bench.fills.size).toBe(1);
    bench.clock.advance(1);
    expect(await fill.outcome).toBe("failed");
    await expect(fill.ready({ signal })).rejects.toThrow(FillStoppedError);
    source.sendUpTo(blob.size);
    bench.tick();
    expect((await readAll(bench.join(blob, source))).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger.map((asked) => asked.start)).toEqual([0, 2 * MiB]);
  });

  test("B11 a range is a slice of the fill, and waits for it", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("range", 2 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(100);
    const fill = bench.join(blob, source);
    const ranges = [
      [0, 1],
      [MiB, MiB + 7],
      [2 * MiB - 5, 2 * MiB],
      [7, 2 * MiB],
    ] as const;
    const bodies = Promise.all(ranges.map(([start, end]) => readAll(fill, { start, end })));
    source.sendUpTo(blob.size);
    for (const [index, body] of (await bodies).entries()) {
      const [start = 0, end = 0] = ranges[index] ?? [];
      expect(body.equals(blob.read(start, end))).toBe(true);
    }
    expect(source.ledger).toHaveLength(1);
  });

  test("B11 tells whether a client reads from the start, and whether the fill will get somewhere in time", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("reach", 8 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(0);
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    expect(fill.willReach(1, 1_000)).toBe(false);
    const [whole, part] = [
      new SteppedReader(fill, { client: "a" }),
      new SteppedReader(fill, { start: 1, client: "b" }),
    ];
    const steps = [whole.step(), part.step()];
    expect([fill.readsFromStart("a"), fill.readsFromStart("b"), fill.readsFromStart("c")]).toEqual([
      true,
      false,
      false,
    ]);
    source.sendUpTo(MiB);
    await Promise.all(steps);
    await eventually("the chunks", () => source.sent === MiB);
    await eventually("a turn", () => true);
    bench.clock.advance(1_000);
    // About a MiB in a second.
    expect(fill.willReach(2.5 * MiB, 2_000)).toBe(true);
    expect(fill.willReach(4 * MiB, 2_000)).toBe(false);
    bench.clock.advance(60_000);
    expect(fill.willReach(2.5 * MiB, 2_000)).toBe(false);
    await whole.leave();
    expect(fill.readsFromStart("a")).toBe(false);
    await part.leave();
  });

  test("a body that was asked for before the fill ended is read after it all the same", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("after", 2 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    await fill.outcome;
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect((await readAll(fill, { start: MiB, end: MiB + 3 })).equals(blob.read(MiB, MiB + 3))).toBe(true);
    await bench.store.delete(blob.digest, { signal });
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger).toHaveLength(2);
  });

  test("a failed fill fails those who come to read it later", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("absent", MiB);
    const fill = bench.join(blob, new ScriptedSource({ blob, script: [{ error: upstreamError("absent") }] }));
    await expect(fill.ready({ signal })).rejects.toMatchObject({ fault: "absent" });
    await expect(new SteppedReader(fill).step()).rejects.toMatchObject({ fault: "absent" });
  });
});
