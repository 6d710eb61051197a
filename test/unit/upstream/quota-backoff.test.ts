import { describe, expect, test } from "vitest";
import { Backoff } from "../../../src/upstream/quota-backoff.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const HOUR = 3600_000;

function open(random: () => number = () => 1) {
  const clock = new ManualClock();
  const backoff = new Backoff({ clock, random });
  const leftMs = (): number => (backoff.untilMs ?? clock.now()) - clock.now();
  return { clock, backoff, leftMs };
}

describe("U6 an upstream that limits all requests is left alone", () => {
  test("for twice as long each time that it refuses after a pause, up to five minutes", () => {
    const { clock, backoff, leftMs } = open();
    const pauses = Array.from({ length: 12 }, () => {
      expect(backoff.refused(undefined)).toBe(true);
      const pauseMs = leftMs();
      clock.advance(pauseMs);
      expect(backoff.untilMs).toBeUndefined();
      return pauseMs / 1000;
    });
    expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
  });

  test("a hundred refusals of what was sent together are one", () => {
    const { clock, backoff, leftMs } = open();
    expect(Array.from({ length: 100 }, () => backoff.refused(undefined)).filter(Boolean)).toHaveLength(1);
    expect(leftMs()).toBe(1_000);
    clock.advance(1_000);
    backoff.refused(undefined);
    expect(leftMs()).toBe(2_000);
  });

  test.each([
    [0, 500],
    [0.5, 750],
    [1, 1_000],
  ])("by chance %s of half a pause more than the other half", (chance, expected) => {
    const { backoff, leftMs } = open(() => chance);
    backoff.refused(undefined);
    expect(leftMs()).toBe(expected);
  });

  test("an answer that is no refusal starts anew; one to what was sent before says nothing", () => {
    const { clock, backoff, leftMs } = open();
    backoff.refused(undefined);
    clock.advance(1_000);
    backoff.refused(undefined);
    backoff.answered();
    expect(leftMs()).toBe(2_000);
    clock.advance(2_000);
    backoff.refused(undefined);
    expect(leftMs()).toBe(4_000);
    clock.advance(4_000);
    backoff.answered();
    backoff.refused(undefined);
    expect(leftMs()).toBe(1_000);
  });

  test.each([
    ["longer than the pause", 47_000, 47_000],
    ["shorter than the pause", 1, 1_000],
    ["a day", 24 * HOUR, HOUR],
  ])("as long as it asks for: %s", (_, askedMs, expected) => {
    const { backoff, leftMs } = open();
    backoff.refused(askedMs);
    expect(leftMs()).toBe(expected);
  });

  test("a refusal during the pause may ask for more", () => {
    const { clock, backoff, leftMs } = open();
    backoff.refused(undefined);
    clock.advance(500);
    expect(backoff.refused(10_000)).toBe(false);
    expect(leftMs()).toBe(10_000);
  });

  test("a clock that is set back closes nothing for good", () => {
    const { clock, backoff } = open();
    backoff.refused(HOUR);
    clock.advance(-24 * HOUR);
    expect(backoff.untilMs).toBeUndefined();
  });
});
