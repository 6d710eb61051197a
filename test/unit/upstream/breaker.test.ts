import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Breaker, FAILURES_TO_OPEN, type Failure, type Outcome, type Tell } from "../../../src/upstream/breaker.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const DOWN: Failure = { fault: "connect", status: undefined };
const BUSY: Failure = { fault: "status", status: 503 };
const LONGEST_MS = 60_000;

interface Bench {
  readonly clock: ManualClock;
  readonly breaker: Breaker;
  /** What opened it, or `undefined` where it closed, in order. */
  readonly changes: readonly (Failure | undefined)[];
  /** Sends exchanges one after the other, each with its outcome. */
  exchange(...outcomes: readonly Outcome[]): void;
  /** From now; undefined lets the next exchange through. */
  refusedForMs(): number | undefined;
}

function open(random: () => number = () => 1): Bench {
  const clock = new ManualClock();
  const changes: (Failure | undefined)[] = [];
  const breaker = new Breaker({ clock, random, changed: (failure) => changes.push(failure) });
  return {
    clock,
    breaker,
    changes,
    exchange: (...outcomes) => {
      for (const outcome of outcomes) breaker.admit()(outcome);
    },
    refusedForMs: () => {
      const refusal = breaker.refusal();
      return refusal === undefined ? undefined : refusal.untilMs - clock.now();
    },
  };
}

const failures = (count: number, failure = DOWN): readonly Failure[] => Array.from({ length: count }, () => failure);

describe("U7 in a row", () => {
  test.each<[string, readonly Outcome[], boolean]>([
    ["nothing", [], false],
    ["four failures", failures(4), false],
    ["five failures", failures(5), true],
    ["five different failures", [BUSY, DOWN, BUSY, DOWN, BUSY], true],
    ["an answer among them", [...failures(4), "answered", ...failures(4)], false],
    ["five after an answer", [...failures(4), "answered", ...failures(5)], true],
    ["clients that left among them", [...failures(4), "inconclusive", "inconclusive", DOWN], true],
    ["only clients that left", Array.from({ length: 100 }, () => "inconclusive" as const), false],
  ])("%s", (_, outcomes, opens) => {
    const bench = open();
    bench.exchange(...outcomes);
    expect(bench.breaker.open).toBe(opens);
    expect(bench.breaker.refusal() !== undefined).toBe(opens);
    expect(bench.changes).toEqual(opens ? [outcomes.at(-1)] : []);
  });

  test("failures of what was sent before an answer say less than the answer", () => {
    const bench = open();
    const slow = Array.from({ length: 20 }, () => bench.breaker.admit());
    bench.exchange("answered");
    for (const tell of slow) tell(DOWN);
    expect(bench.breaker.open).toBe(false);
    bench.exchange(...failures(FAILURES_TO_OPEN));
    expect(bench.breaker.open).toBe(true);
  });

  test("of what each exchange tells only the first counts", () => {
    const bench = open();
    const tell = bench.breaker.admit();
    for (let i = 0; i < 10; i += 1) tell(DOWN);
    expect(bench.breaker.open).toBe(false);
  });
});

describe("U7 open", () => {
  test("says since what failure and until when nothing goes through", () => {
    const bench = open();
    bench.exchange(...failures(4), BUSY);
    expect(bench.breaker.refusal()).toEqual({ failure: BUSY, untilMs: bench.clock.now() + 1_000 });
    bench.clock.advance(999);
    expect(bench.refusedForMs()).toBe(1);
    bench.clock.advance(1);
    expect(bench.refusedForMs()).toBeUndefined();
  });

  test("one probe goes through, and no other while it is under way", () => {
    const bench = open();
    bench.exchange(...failures(5));
    bench.clock.advance(1_000);
    const probe = bench.breaker.admit();
    bench.clock.advance(20_000);
    expect(bench.refusedForMs()).toBe(1_000);
    probe("answered");
    expect(bench.breaker.open).toBe(false);
    expect(bench.refusedForMs()).toBeUndefined();
    expect(bench.changes).toEqual([DOWN, undefined]);
  });

  test("each failed probe doubles the pause, up to a minute, and it is no change", () => {
    const bench = open();
    bench.exchange(...failures(5));
    const pauses: (number | undefined)[] = [];
    for (let i = 0; i < 9; i += 1) {
      pauses.push(bench.refusedForMs());
      bench.clock.advance(bench.refusedForMs() ?? 0);
      bench.exchange(BUSY);
    }
    expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, LONGEST_MS, LONGEST_MS, LONGEST_MS]);
    expect(bench.breaker.refusal()?.failure).toEqual(BUSY);
    expect(bench.changes).toEqual([DOWN]);
  });

  test("an answer makes it forget how long the pauses were", () => {
    const bench = open();
    bench.exchange(...failures(5));
    for (let i = 0; i < 5; i += 1) {
      bench.clock.advance(LONGEST_MS);
      bench.exchange(DOWN);
    }
    bench.clock.advance(LONGEST_MS);
    bench.exchange("answered", ...failures(5));
    expect(bench.refusedForMs()).toBe(1_000);
  });

  test.each([
    [0, 500],
    [0.5, 750],
    [1, 1_000],
  ])("the pause is spread by chance: %d", (random, pauseMs) => {
    const bench = open(() => random);
    bench.exchange(...failures(5));
    expect(bench.refusedForMs()).toBe(pauseMs);
  });

  test("a probe whose client left leaves its place to the next", () => {
    const bench = open();
    bench.exchange(...failures(5));
    bench.clock.advance(1_000);
    bench.exchange("inconclusive");
    expect(bench.refusedForMs()).toBeUndefined();
    bench.exchange("answered");
    expect(bench.breaker.open).toBe(false);
  });

  test("what was sent before it opened does not lengthen the pause by failing, and ends it by an answer", () => {
    const bench = open();
    const [late, later] = [bench.breaker.admit(), bench.breaker.admit()];
    bench.exchange(...failures(5));
    late(DOWN);
    expect(bench.refusedForMs()).toBe(1_000);
    later("answered");
    expect(bench.breaker.open).toBe(false);
  });

  test("a probe that fails after another's answer counts for nothing", () => {
    const bench = open();
    const late = bench.breaker.admit();
    bench.exchange(...failures(5));
    bench.clock.advance(1_000);
    const probe = bench.breaker.admit();
    late("answered");
    bench.exchange(...failures(4));
    probe(DOWN);
    expect(bench.breaker.open).toBe(false);
  });

  test("a clock that is set back does not keep it closed up for long", () => {
    const bench = open();
    bench.exchange(...failures(5));
    bench.clock.advance(-3_600_000);
    expect(bench.refusedForMs()).toBeUndefined();
  });
});

type Step =
  | { readonly do: "send" }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: Outcome; at: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ do: "send" } as const) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat({ max: 70_000 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.oneof(
        { weight: 6, arbitrary: fc.constantFrom(DOWN, BUSY) },
        { weight: 1, arbitrary: fc.constantFrom("answered" as const, "inconclusive" as const) },
      ),
      at: fc.nat(),
    }),
  },
);

test("U7 whatever happens: one probe at most, an answer closes it, and it asks again within a minute", () => {
  let openings = 0;
  const run = (steps: readonly Step[], random: number): void => {
    const bench = open(() => random);
    const underWay: Tell[] = [];
    const probes = new Set<Tell>();
    for (const now of steps) {
      if (now.do === "wait") {
        bench.clock.advance(now.ms);
      } else if (now.do === "send") {
        const refusedForMs = bench.refusedForMs();
        if (refusedForMs === undefined) {
          const wasOpen = bench.breaker.open;
          const tell = bench.breaker.admit();
          underWay.push(tell);
          if (wasOpen) probes.add(tell);
        } else {
          expect(bench.breaker.open).toBe(true);
          expect(refusedForMs).toBeGreaterThan(0);
          expect(refusedForMs).toBeLessThanOrEqual(LONGEST_MS);
        }
      } else if (underWay.length > 0) {
        const [tell] = underWay.splice(now.at % underWay.length, 1);
        tell?.(now.do);
        if (tell !== undefined) probes.delete(tell);
        if (now.do === "answered") {
          probes.clear();
          expect(bench.breaker.open).toBe(false);
          expect(bench.refusedForMs()).toBeUndefined();
        }
      }
      expect(probes.size).toBeLessThanOrEqual(1);
    }
    bench.changes.forEach((change, i) => {
      expect(change !== undefined).toBe(i % 2 === 0);
    });
    openings += bench.changes.length;
    if (bench.breaker.open) {
      for (const tell of underWay) tell("inconclusive");
      bench.clock.advance(LONGEST_MS);
      expect(bench.refusedForMs()).toBeUndefined();
    }
  };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120, size: "max" }), fc.double({ min: 0, max: 1, noNaN: true }), run),
    { numRuns: 500 },
  );
  expect(openings).toBeGreaterThan(100);
});
