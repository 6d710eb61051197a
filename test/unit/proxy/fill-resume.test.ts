import { describe, expect, test } from "vitest";
import { WrongContentError } from "../../../src/proxy/fill-errors.ts";
import { eventually, FillBench, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { type Answer, ScriptedSource, seededBlob, upstreamError } from "../../support/fill-sources.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
/** What is asked for again at most after a break: a chunk that was under way. */
const BUFFER = 64 * KiB;
const signal = new AbortController().signal;
const cut: Answer = { cutAt: MiB };

async function pull(size: number, script: readonly Answer[] | ((request: number, start: number) => Answer)) {
  await using bench = await FillBench.create();
  bench.tick();
  const blob = seededBlob("resume", size);
  const source = new ScriptedSource({ blob, script });
  const fill = bench.join(blob, source);
  const [body] = await Promise.allSettled([readAll(fill)]);
  const outcome = await fill.outcome;
  const right = body.status === "fulfilled" && body.value.equals(blob.read(0, size));
  const error: unknown = body.status === "rejected" ? body.reason : undefined;
  const starts = source.ledger.map((asked) => asked.start);
  return { right, error, outcome, starts, sent: source.sent, resumed: bench.resumed, mismatches: bench.mismatches };
}

describe("a body that breaks off", () => {
  test("B2 five times is resumed each time, and no byte is asked for twice", async () => {
    const places = [1, 100_000, 100_001, 1_500_000, 2 * MiB - 1];
    const done = await pull(2 * MiB, (request) => ({ ...(places[request] && { cutAt: places[request] }) }));
    expect(done).toMatchObject({ right: true, outcome: "committed", mismatches: [] });
    expect(done.starts).toEqual([0, ...places]);
    expect(done.sent).toBeLessThanOrEqual(2 * MiB + BUFFER);
    expect(done.resumed).toHaveLength(5);
  });

  test("B2 by ending short is resumed too", async () => {
    const done = await pull(2 * MiB, [{ endAt: MiB }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB] });
  });

  test("B2 without a length counts as whole only if the digest agrees", async () => {
    const whole = await pull(MiB, [{ total: "untold" }]);
    expect(whole).toMatchObject({ right: true, outcome: "committed", starts: [0] });
    const short = await pull(MiB, [{ total: "untold", endAt: 700_000 }, { total: "untold" }]);
    expect(short).toMatchObject({ right: true, outcome: "committed", starts: [0, 700_000] });
    const cutAtTheEnd = await pull(MiB, [{ total: "untold", cutAt: MiB }]);
    expect(cutAtTheEnd).toMatchObject({ right: true, outcome: "committed", starts: [0] });
  });

  test("B3 without a length, whole and wrong, is not the blob", async () => {
    const unsatisfiable = upstreamError("bad-answer", { status: 416 });
    const refused = await pull(MiB, [{ total: "untold", wrongByteAt: 3 }, { error: unsatisfiable }]);
    expect(refused.error).toBeInstanceOf(WrongContentError);
    expect(refused).toMatchObject({ outcome: "failed", starts: [0, MiB], mismatches: ["upstream.example"] });
    const again = await pull(MiB, [
      { total: "untold", wrongByteAt: 3 },
      { total: "untold", whole: true },
    ]);
    expect(again.error).toBeInstanceOf(WrongContentError);
  });

  test("B2 a length that is told only later is believed", async () => {
    const done = await pull(2 * MiB, [{ total: "untold", cutAt: MiB }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed" });
  });
});

describe("a resumed request", () => {
  test("B4 that is answered with the whole blob is skipped forward", async () => {
    const done = await pull(2 * MiB, [cut, { whole: true }]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB] });
  });

  test("B4 whose signed URL has expired is asked for anew", async () => {
    const expired = upstreamError("status", { status: 403 });
    const done = await pull(2 * MiB, [cut, { error: expired }, { error: expired }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB, MiB, MiB] });
  });

  test("B4 that begins at another byte is not believed: the next one asks for the whole and skips", async () => {
    const done = await pull(2 * MiB, [cut, { startsAt: MiB + 1 }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB, 0] });
  });

  test("B4 that begins earlier than asked is skipped forward", async () => {
    const done = await pull(2 * MiB, [cut, { startsAt: MiB - 5 }]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB] });
  });

  test("B4 that is refused as unsatisfiable is asked again for the whole", async () => {
    const done = await pull(2 * MiB, [cut, { error: upstreamError("bad-answer", { status: 416 }) }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB, 0] });
  });

  test("B4 that names another length once is not believed", async () => {
    const done = await pull(2 * MiB, [cut, { total: 3 * MiB }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB, MiB] });
  });

  test("B4 that names another length twice ends the fill of those who were promised the first", async () => {
    const done = await pull(2 * MiB, [cut, { total: 3 * MiB }]);
    expect(done).toMatchObject({ right: false, outcome: "failed", starts: [0, MiB, MiB] });
    expect(done.error).toBeInstanceOf(WrongContentError);
  });

  test("B4 that names another length twice begins anew where nobody was promised the first", async () => {
    // Small enough to be verified before anybody hears of it.
    const done = await pull(200 * KiB, [{ total: 190 * KiB, cutAt: 100 * KiB }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, 100 * KiB, 100 * KiB, 0] });
  });
});

describe("attempts", () => {
  test("B6 with progress are not counted", async () => {
    const done = await pull(2 * MiB, (request) => ({ cutAt: (request + 1) * 64 * KiB }));
    expect(done).toMatchObject({ right: true, outcome: "committed" });
    expect(done.starts).toHaveLength(32);
  });

  test("B6 without progress end the fill when there were five, and what is there is kept for the next", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("given up", 4 * MiB);
    let broken = true;
    const script = (request: number, start: number): Answer =>
      request === 0 ? { cutAt: 2 * MiB } : broken ? { cutAt: start } : {};
    const source = new ScriptedSource({ blob, script });
    const fill = bench.join(blob, source);
    await expect(readAll(fill)).rejects.toThrow("reset");
    expect(await fill.outcome).toBe("failed");
    expect(source.ledger.map((asked) => asked.start)).toEqual([0, ...Array.from({ length: 5 }, () => 2 * MiB)]);
    expect(bench.mismatches).toEqual([]);
    broken = false;
    expect((await readAll(bench.join(blob, source))).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger.at(-1)).toEqual({ start: 2 * MiB, sent: 2 * MiB });
  });

  test("B6 a stalled body is dropped after 30 s of waiting and resumed", async () => {
    const done = await pull(2 * MiB, [{ stallAt: MiB }, {}]);
    expect(done).toMatchObject({ right: true, outcome: "committed", starts: [0, MiB] });
    expect(done.resumed).toEqual(["upstream.example"]);
  });

  test("B6 slow but above the floor commits, however long it takes", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("slow", 40 * MiB);
    const source = new ScriptedSource({ blob, chunkBytes: 64 * KiB });
    source.sendUpTo(0);
    const fill = bench.join(blob, source);
    const body = readAll(fill);
    // 70 KiB/s for ten minutes; the floor is 64 KiB/s.
    for (let sent = 0; sent < blob.size; sent += 70 * KiB) {
      source.sendUpTo(sent);
      await eventually("the chunk", () => source.sent === Math.min(sent, blob.size));
      await eventually("a turn", () => true);
      bench.clock.advance(1_000);
    }
    source.sendUpTo(blob.size);
    expect((await body).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger).toHaveLength(1);
  });

  test("a quota is waited for as the upstream says, and is no failed attempt", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("quota", MiB);
    const full = { error: upstreamError("quota", { status: 429, retryAfterMs: 20_000 }) };
    const source = new ScriptedSource({ blob, script: [full, full, full, full, full, full, {}] });
    const fill = bench.join(blob, source);
    for (let asked = 1; asked <= 6; asked += 1) {
      await eventually("the request", () => source.ledger.length === asked && bench.clock.sleepers === 1);
      bench.clock.advance(19_999);
      await eventually("a turn", () => true);
      expect(source.ledger).toHaveLength(asked);
      bench.clock.advance(1);
    }
    expect((await readAll(fill)).length).toBe(MiB);
  });

  test("a quota that never comes back ends the fill", async () => {
    await using bench = await FillBench.create();
    bench.tick(1_000);
    const blob = seededBlob("quota", MiB);
    const full = { error: upstreamError("quota", { status: 429, retryAfterMs: 3_600_000 }) };
    const source = new ScriptedSource({ blob, script: [full] });
    await expect(readAll(bench.join(blob, source))).rejects.toMatchObject({ fault: "quota" });
    expect(source.ledger).toHaveLength(11);
  });
});

describe("U7 a source that is known to be down", () => {
  const down = (retryAfterMs: number): Answer => ({
    error: upstreamError("connect", { breakerOpen: true, retryAfterMs }),
  });

  test("is waited for by a fill that has begun, as long as it says, without burning attempts", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("down", 2 * MiB);
    const refusals = Array.from({ length: 8 }, () => down(30_000));
    const source = new ScriptedSource({ blob, script: [cut, ...refusals, {}] });
    const fill = bench.join(blob, source);
    const body = readAll(fill);
    await eventually("the second request", () => {
      if (source.ledger.length === 2) return true;
      bench.clock.advance(1);
      return false;
    });
    for (let asked = 2; asked <= 9; asked += 1) {
      await eventually("the request", () => source.ledger.length === asked);
      await eventually("its pause", () => bench.clock.sleepers >= 1);
      bench.clock.advance(29_999);
      await eventually("a turn", () => true);
      expect(source.ledger).toHaveLength(asked);
      bench.clock.advance(1);
    }
    expect((await body).equals(blob.read(0, blob.size))).toBe(true);
    expect(source.ledger.at(-1)?.start).toBe(MiB);
  });

  test("is waited for by a fill without a byte only while the outage may be short", async () => {
    const short = await pull(MiB, [down(500), down(1_000), down(2_000), {}]);
    expect(short).toMatchObject({ right: true, outcome: "committed" });
    await using bench = await FillBench.create();
    const blob = seededBlob("down", MiB);
    const source = new ScriptedSource({ blob, script: [down(30_000)] });
    await expect(readAll(bench.join(blob, source))).rejects.toMatchObject({ fault: "connect", breakerOpen: true });
    expect(source.ledger).toHaveLength(1);
  });
});

describe("B7 several repositories", () => {
  const other = "second.example/app";

  test("the fill is continued from another one's upstream at the same offset", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("takeover", 2 * MiB);
    const dead = new ScriptedSource({ blob, script: [cut, { error: upstreamError("connect") }] });
    const alive = new ScriptedSource({ blob, key: other });
    dead.sendUpTo(10);
    const fill = bench.join(blob, dead);
    const first = readAll(fill);
    expect(bench.join(blob, alive)).toBe(fill);
    dead.sendUpTo(blob.size);
    expect((await first).equals(blob.read(0, blob.size))).toBe(true);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(alive.ledger).toEqual([{ start: MiB, sent: MiB }]);
    expect(await fill.outcome).toBe("committed");
    expect(bench.committed[0]?.sources).toEqual([dead, alive]);
    expect(bench.resumed).toEqual(["second.example"]);
  });

  test("a newcomer is asked at once, while the first waits to be asked again", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("newcomer", MiB);
    const dead = new ScriptedSource({ blob, script: [{ error: upstreamError("connect") }] });
    const fill = bench.join(blob, dead);
    await eventually("the pause", () => bench.clock.sleepers === 1);
    fill.addSource(new ScriptedSource({ blob, key: other }));
    expect((await readAll(fill)).length).toBe(MiB);
    expect(dead.ledger).toHaveLength(1);
  });

  test("a 404 that is true of one repository only fails only those who wait for it", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("one says no", MiB);
    const gate = Promise.withResolvers<void>();
    const without = new ScriptedSource({ blob, script: [{ error: upstreamError("absent", { status: 404 }) }] });
    const having = new ScriptedSource({ blob, key: other });
    without.answerAfter(gate.promise);
    const fill = bench.join(blob, without);
    const refused = fill.ready({ signal, source: without.key });
    fill.addSource(having);
    const served = fill.ready({ signal, source: having.key });
    gate.resolve();
    await expect(refused).rejects.toMatchObject({ fault: "absent" });
    await served;
    expect((await readAll(fill)).length).toBe(MiB);
    await fill.outcome;
    expect(bench.committed[0]?.sources).toEqual([having]);
  });

  test("all saying no ends the fill at once, with the last word", async () => {
    await using bench = await FillBench.create();
    const blob = seededBlob("all say no", MiB);
    const first = new ScriptedSource({ blob, script: [{ error: upstreamError("absent") }] });
    const second = new ScriptedSource({ blob, key: other, script: [{ error: upstreamError("denied") }] });
    const fill = bench.join(blob, first);
    bench.join(blob, second);
    const waiting = [fill.ready({ signal, source: first.key }), fill.ready({ signal, source: second.key })];
    const ends = await Promise.allSettled(waiting);
    expect(ends).toMatchObject([{ reason: { fault: "absent" } }, { reason: { fault: "denied" } }]);
    expect([first.ledger.length, second.ledger.length]).toEqual([1, 1]);
  });

  test("readers in mid-blob do not notice that their own repository's upstream says no now", async () => {
    await using bench = await FillBench.create();
    bench.tick();
    const blob = seededBlob("revoked", 2 * MiB);
    const revoked = new ScriptedSource({ blob, script: [cut, { error: upstreamError("denied") }] });
    revoked.sendUpTo(100_000);
    const fill = bench.join(blob, revoked);
    await fill.ready({ signal, source: revoked.key });
    const reader = new SteppedReader(fill);
    await reader.step();
    fill.addSource(new ScriptedSource({ blob, key: other, script: [{ error: upstreamError("connect") }, {}] }));
    revoked.sendUpTo(blob.size);
    expect((await reader.rest()).equals(blob.read(0, blob.size))).toBe(true);
  });
});
