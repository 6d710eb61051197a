import { describe, expect, test } from "vitest";
import { decideFreshness, type FreshnessFacts, type Known } from "../../../src/proxy/freshness.ts";
import type { UpstreamFault } from "../../../src/upstream/upstream.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const NOW = 1000 * DAY;

type Row = readonly [string, Partial<FreshnessFacts>, string];

const BASE: FreshnessFacts = {
  known: undefined,
  ttlMs: 10 * MINUTE,
  visibility: "public",
  provedAtMs: 0,
  absenceRemembered: false,
  asked: "not-yet",
  config: { staleIfErrorMs: 30 * DAY, onGone: "keep", proofTtlMs: HOUR },
  nowMs: NOW,
};

const checked = (agoMs: number, goneAgoMs?: number): Known => ({
  checkedAtMs: NOW - agoMs,
  goneSinceMs: goneAgoMs === undefined ? undefined : NOW - goneAgoMs,
});
const ADOPTED = { checkedAtMs: 0, goneSinceMs: undefined };
const PRIVATE = { visibility: "private", provedAtMs: NOW - MINUTE } as const;
const UNPROVED = { visibility: "private", provedAtMs: NOW - HOUR } as const;
const onGone = (rule: FreshnessFacts["config"]["onGone"]) => ({ config: { ...BASE.config, onGone: rule } });

const TROUBLE: readonly UpstreamFault[] = ["connect", "tls", "timeout", "status", "quota", "bad-answer"];

function show(facts: Partial<FreshnessFacts>): string {
  const decision = decideFreshness({ ...BASE, ...facts });
  switch (decision.do) {
    case "fresh":
      return `fresh for ${decision.ttlMs === Number.POSITIVE_INFINITY ? "ever" : decision.ttlMs / MINUTE}`;
    case "stale":
      return `stale: ${decision.reason}`;
    case "refuse":
      return decision.forget ? "refuse and forget" : "refuse";
    default:
      return decision.do;
  }
}

const BEFORE: readonly Row[] = [
  ["nothing known", {}, "ask"],
  ["nothing known, and known to be absent", { absenceRemembered: true }, "refuse"],
  ["checked just now", { known: checked(0) }, "fresh for 10"],
  ["within the time to live", { known: checked(4 * MINUTE) }, "fresh for 6"],
  ["at its end", { known: checked(10 * MINUTE) }, "ask"],
  ["past it", { known: checked(DAY) }, "ask"],
  ["a time to live of nothing", { known: checked(0), ttlMs: 0 }, "ask"],
  ["adopted", { known: ADOPTED, ttlMs: 7 * DAY }, "ask"],
  ["a record from the future", { known: checked(-MINUTE) }, "ask"],
  ["a digest", { known: checked(0), ttlMs: Number.POSITIVE_INFINITY }, "fresh for ever"],
  ["a stray absence does not spoil what is fresh", { known: checked(0), absenceRemembered: true }, "fresh for 10"],
  ["gone a while ago", { known: checked(MINUTE, MINUTE) }, "ask"],
  ["gone, and asked a moment ago", { known: checked(DAY, HOUR), absenceRemembered: true }, "stale: gone"],
  ["private, proved", { known: checked(0), ...PRIVATE, ttlMs: DAY }, "fresh for 59"],
  ["private, proved too long ago", { known: checked(0), ...UNPROVED }, "ask"],
  ["private digest, proved too long ago", { known: checked(0), ...UNPROVED, ttlMs: Number.POSITIVE_INFINITY }, "ask"],
  ["private, gone", { known: checked(DAY, HOUR), ...PRIVATE, absenceRemembered: true }, "refuse"],
];

const LATE: readonly Row[] = [
  ["nothing known", {}, "wait"],
  ["known", { known: checked(DAY) }, "stale: soft-deadline"],
  ["adopted", { known: ADOPTED }, "stale: soft-deadline"],
  ["older than staleIfError", { known: checked(31 * DAY) }, "wait"],
  ["gone and kept", { known: checked(90 * DAY, 60 * DAY) }, "stale: gone"],
  ["gone and not kept", { known: checked(DAY, HOUR), ...onGone("drop") }, "wait"],
  ["private, proved", { known: checked(DAY), ...PRIVATE }, "stale: soft-deadline"],
  ["private, proved too long ago", { known: checked(DAY), ...UNPROVED }, "wait"],
];

const GONE: readonly Row[] = [
  ["nothing known", {}, "refuse"],
  ["keep", { known: checked(DAY) }, "stale: gone"],
  ["keep, for ever", { known: checked(900 * DAY, 800 * DAY) }, "stale: gone"],
  ["drop", { known: checked(DAY), ...onGone("drop") }, "refuse and forget"],
  ["keep for a time, just gone", { known: checked(DAY), ...onGone({ keepMs: DAY }) }, "stale: gone"],
  ["keep for a time, still", { known: checked(DAY, 23 * HOUR), ...onGone({ keepMs: DAY }) }, "stale: gone"],
  ["keep for a time, over", { known: checked(2 * DAY, DAY), ...onGone({ keepMs: DAY }) }, "refuse and forget"],
  ["private", { known: checked(DAY), ...PRIVATE }, "refuse"],
  ["private, to be dropped", { known: checked(DAY), ...PRIVATE, ...onGone("drop") }, "refuse"],
];

const IN_TROUBLE: readonly Row[] = [
  ["nothing known", {}, "refuse"],
  ["known", { known: checked(DAY) }, "stale: stale-if-error"],
  ["at the end of staleIfError", { known: checked(30 * DAY) }, "stale: stale-if-error"],
  ["past staleIfError", { known: checked(30 * DAY + 1) }, "refuse"],
  ["adopted: of no known age", { known: ADOPTED }, "stale: stale-if-error"],
  ["gone and kept", { known: checked(90 * DAY, 60 * DAY) }, "stale: gone"],
  ["gone and not kept", { known: checked(DAY, HOUR), ...onGone("drop") }, "refuse and forget"],
  ["private", { known: checked(DAY), ...PRIVATE }, "stale: stale-if-error"],
  [
    "private, proved too long ago: trouble is no refusal",
    { known: checked(DAY), ...UNPROVED },
    "stale: stale-if-error",
  ],
  ["private and gone before the trouble", { known: checked(DAY, HOUR), ...PRIVATE }, "refuse"],
];

const CREDENTIAL: readonly Row[] = [
  ["nothing known", {}, "refuse"],
  ["public", { known: checked(DAY) }, "stale: credential"],
  ["public, too old", { known: checked(31 * DAY) }, "refuse"],
  ["private, proved", { known: checked(DAY), ...PRIVATE }, "stale: credential"],
  ["private, proved too long ago", { known: checked(DAY), ...UNPROVED }, "refuse"],
];

const WITHHELD: readonly Row[] = [
  ["nothing known", {}, "refuse"],
  ["known", { known: checked(DAY) }, "stale: withheld"],
  ["of any age", { known: checked(400 * DAY) }, "stale: withheld"],
  ["gone and kept", { known: checked(90 * DAY, 60 * DAY) }, "stale: gone"],
  ["gone and not kept", { known: checked(DAY, HOUR), ...onGone("drop") }, "refuse and forget"],
  ["private", { known: checked(DAY), ...PRIVATE }, "stale: withheld"],
  ["private and gone", { known: checked(DAY, HOUR), ...PRIVATE }, "refuse"],
];

const HELD = checked(DAY);
const GETS = { spared: "gets" } as const;
const ALL = { spared: "all" } as const;

const LOW_BEFORE: readonly Row[] = [
  ["fresh", { known: checked(MINUTE), ...GETS }, "fresh for 9"],
  ["fresh, and HEADs count too", { known: checked(MINUTE), ...ALL }, "fresh for 9"],
  ["past its time: the HEAD is free", { known: HELD, ...GETS }, "ask"],
  ["past its time, and HEADs count too", { known: HELD, ...ALL }, "stale: budget-low"],
  ["nothing known", { ...ALL }, "ask"],
  ["named by a HEAD and not held: with quota left", { known: checked(MINUTE), older: HELD }, "fresh for 9"],
  ["named by a HEAD and not held", { known: checked(MINUTE), older: HELD, ...GETS }, "stale: budget-low"],
  ["named a while ago: asked again for free", { known: checked(DAY), older: HELD, ...GETS }, "ask"],
  ["named, with nothing older held", { known: checked(MINUTE), ...GETS }, "fresh for 9"],
  ["named, what is held being too old", { known: checked(MINUTE), older: checked(31 * DAY), ...GETS }, "fresh for 9"],
  [
    "named, what is held being of no known age",
    { known: checked(MINUTE), older: ADOPTED, ...GETS },
    "stale: budget-low",
  ],
  [
    "named, what is held having been gone",
    { known: checked(MINUTE), older: checked(DAY, HOUR), ...GETS },
    "fresh for 9",
  ],
  ["private, proved", { known: checked(MINUTE), older: HELD, ...PRIVATE, ...GETS }, "stale: budget-low"],
  ["private, proved too long ago", { known: checked(MINUTE), older: HELD, ...UNPROVED, ...GETS }, "ask"],
  ["private, proved too long ago, and HEADs count too", { known: HELD, ...UNPROVED, ...ALL }, "ask"],
  ["too old, and HEADs count too", { known: checked(31 * DAY), ...ALL }, "ask"],
  ["gone, and HEADs count too", { known: checked(DAY, HOUR), ...ALL }, "ask"],
];

const MOVED: readonly Row[] = [
  ["with quota left", { known: HELD }, "ask"],
  ["with little left", { known: HELD, ...GETS }, "stale: budget-low"],
  ["with little left for HEADs either", { known: HELD, ...ALL }, "stale: budget-low"],
  ["nothing held", { ...GETS }, "ask"],
  ["adopted", { known: ADOPTED, ...GETS }, "stale: budget-low"],
  ["at the end of staleIfError", { known: checked(30 * DAY), ...GETS }, "stale: budget-low"],
  ["past staleIfError", { known: checked(30 * DAY + 1), ...GETS }, "ask"],
  ["back after it was gone", { known: checked(DAY, HOUR), ...GETS }, "ask"],
  ["private, proved", { known: HELD, ...PRIVATE, ...GETS }, "stale: budget-low"],
  ["private, proved too long ago: this answer is proof", { known: HELD, ...UNPROVED, ...GETS }, "stale: budget-low"],
];

describe("may what is known be served?", () => {
  test.each(LOW_BEFORE)("U6 little quota left, before asking, %s", (_, facts, expected) => {
    expect(show(facts)).toBe(expected);
  });

  test.each(MOVED)("U6 moved upstream, %s", (_, facts, expected) => {
    expect(show({ ...facts, asked: "moved" })).toBe(expected);
  });

  test.each(BEFORE)("before asking, %s", (_, facts, expected) => {
    expect(show(facts)).toBe(expected);
  });

  test.each(LATE)("while the answer is late, %s", (_, facts, expected) => {
    expect(show({ ...facts, asked: "late" })).toBe(expected);
  });

  test.each(GONE)("M5 gone upstream, %s", (_, facts, expected) => {
    expect(show({ ...facts, asked: "absent" })).toBe(expected);
    expect(show({ ...facts, asked: "denied" })).toBe(expected);
  });

  test.each(IN_TROUBLE)("M4 upstream in trouble, %s", (_, facts, expected) => {
    for (const asked of TROUBLE) {
      expect(show({ ...facts, asked })).toBe(expected);
    }
  });

  test.each(WITHHELD)("not asked on the caller's behalf, %s", (_, facts, expected) => {
    expect(show({ ...facts, asked: "withheld" })).toBe(expected);
  });

  test.each(CREDENTIAL)("Weir's credential or a redirect refused, %s", (_, facts, expected) => {
    expect(show({ ...facts, asked: "credential" })).toBe(expected);
    expect(show({ ...facts, asked: "refused" })).toBe(expected);
  });
});
