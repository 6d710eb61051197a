import { expect, test } from "vitest";
import { ReadPace } from "../../../src/storage/fs/read-pace.ts";

const MIB = 1 << 20;
const QUICK_READS = 8;

function paceAfter(...reads: readonly (readonly [ms: number, bytes: number])[]): ReadPace {
  const pace = new ReadPace();
  for (const [ms, bytes] of reads) pace.took(ms, bytes, pace.isAtHand);
  return pace;
}

function reads(count: number, ms: number, bytes = MIB): (readonly [number, number])[] {
  return Array.from({ length: count }, () => [ms, bytes]);
}

test.each([
  ["nothing is known", [], false],
  ["some were quick", reads(QUICK_READS - 1, 0), false],
  ["all were quick enough for another thread", reads(QUICK_READS, 5), true],
  ["large ones took as long for each MiB", reads(QUICK_READS, 20, 4 * MIB), true],
  ["small ones took no longer than a MiB may", reads(QUICK_READS, 5, 4096), true],
  ["one in between was slow", [...reads(QUICK_READS - 1, 0), [6, MIB], ...reads(QUICK_READS - 1, 0)], false],
  ["it was quick in place, too", [...reads(QUICK_READS, 0), ...reads(100, 2)], true],
  ["one in place let the others wait", [...reads(QUICK_READS, 0), [3, MIB]], false],
  ["that is long ago", [...reads(QUICK_READS, 0), [3, MIB], ...reads(QUICK_READS, 0)], true],
  ["the clock was set back", reads(QUICK_READS, -1000), true],
] as const)("%s: at hand %s", (_, before, isAtHand) => {
  expect(paceAfter(...before).isAtHand).toBe(isAtHand);
});

test("what another thread began to read before that, and ended later, is not judged as if it had been read in place", () => {
  const pace = paceAfter(...reads(QUICK_READS, 0));
  pace.took(4, MIB, false);
  expect(pace.isAtHand).toBe(true);
});
