import { describe, expect, test } from "vitest";
import { FillSources } from "../../../src/proxy/fill-sources.ts";
import { ScriptedSource, seededBlob, upstreamError } from "../../support/fill-sources.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const blob = seededBlob("sources", 1);
const { signal } = new AbortController();

function source(name: string): ScriptedSource {
  return new ScriptedSource({ blob, key: `${name}.example/app` });
}

function create(random = () => 1) {
  const clock = new ManualClock();
  const refused: string[] = [];
  const sources = new FillSources({ clock, random, stalledAttempts: 3, onRefused: () => refused.push("") });
  return { clock, sources, refused };
}

describe("a fill's sources", () => {
  test("are waited for twice as long after each failure, with a random part", async () => {
    for (const [random, pauses] of [
      [1, [250, 500]],
      [0, [125, 250]],
    ] as const) {
      const { clock, sources } = create(() => random);
      sources.add(source("a"));
      for (const pauseMs of pauses) {
        sources.failed(await sources.next(signal), new Error("broken"), false);
        const next = sources.next(signal);
        await clock.sleeping();
        const before = clock.now();
        clock.advance(pauseMs - 1);
        expect(clock.sleepers).toBe(1);
        clock.advance(1);
        await next;
        expect(clock.now() - before).toBe(pauseMs);
      }
    }
  });

  test("U6 that answer 429 without a word are held back, by chance longer or shorter, and no attempt is counted", async () => {
    for (const [random, pauseMs] of [
      [1, 10_000],
      [0, 5_000],
    ] as const) {
      const { clock, sources } = create(() => random);
      sources.add(source("a"));
      for (let attempt = 1; attempt <= 10; attempt += 1) {
        const entry = await sources.next(signal);
        sources.failed(entry, upstreamError("quota", { status: 429 }), false);
        expect([entry.notBeforeMs - clock.now(), entry.stalled]).toEqual([pauseMs, 0]);
        clock.advance(pauseMs);
      }
      expect(sources.live).toHaveLength(1);
    }
  });

  test("are given up one by one, and the last error is the reason", async () => {
    const { clock, sources } = create();
    sources.add(source("a"));
    sources.add(source("b"));
    const asked: string[] = [];
    for (let attempt = 1; attempt <= 6; attempt += 1) {
      const next = sources.next(signal);
      clock.advance(20_000);
      const entry = await next;
      asked.push(entry.source.key);
      sources.failed(entry, new Error(`failure ${attempt}`), false);
    }
    expect(asked.filter((key) => key === "a.example/app")).toHaveLength(3);
    expect(sources.live).toEqual([]);
    await expect(sources.next(signal)).rejects.toThrow("failure 6");
  });

  test("that make progress are never given up", async () => {
    const { clock, sources } = create();
    sources.add(source("a"));
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const next = sources.next(signal);
      clock.advance(20_000);
      const entry = await next;
      if (attempt % 2 === 0) sources.progressed();
      sources.failed(entry, new Error("broken"), attempt % 2 === 0);
    }
    expect(sources.live).toHaveLength(1);
  });

  test("that say no are remembered for those who wait for them, until they join again", async () => {
    const { sources, refused } = create();
    const a = source("a");
    sources.add(a);
    const no = upstreamError("absent");
    sources.failed(await sources.next(signal), no, false);
    expect(sources.refusal(a.key)).toBe(no);
    expect(refused).toHaveLength(1);
    sources.add(a);
    expect(sources.refusal(a.key)).toBeUndefined();
    expect((await sources.next(signal)).source).toBe(a);
  });

  test("of a known key take the old one's place, and its record", async () => {
    const { clock, sources } = create();
    sources.add(source("a"));
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const next = sources.next(signal);
      clock.advance(20_000);
      const entry = await next;
      const again = source("a");
      sources.add(again);
      expect(sources.live).toEqual([again]);
      sources.failed(entry, new Error("broken"), false);
    }
    expect(sources.live).toEqual([]);
  });

  test("are not waited for once the signal has aborted", async () => {
    const { clock, sources } = create();
    sources.add(source("a"));
    sources.failed(await sources.next(signal), new Error("broken"), false);
    const leaving = new AbortController();
    const next = sources.next(leaving.signal);
    leaving.abort(new Error("stopping"));
    await expect(next).rejects.toThrow("stopping");
    expect(clock.sleepers).toBe(0);
  });
});
