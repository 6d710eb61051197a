import { expect, test } from "vitest";
import { told } from "../../../src/proxy/explain/decision-words.ts";
import { decideFreshness, type FreshnessFacts } from "../../../src/proxy/freshness.ts";
import { DAY, FRESHNESS, HOUR, MINUTE } from "../../support/proxy-bench.ts";

const NOW = 100 * DAY;

const FACTS: FreshnessFacts = {
  known: { checkedAtMs: NOW - 5 * MINUTE, goneSinceMs: undefined },
  ttlMs: 10 * MINUTE,
  visibility: "public",
  provedAtMs: 0,
  absenceRemembered: false,
  asked: "not-yet",
  config: FRESHNESS,
  nowMs: NOW,
};

const known = (ageMs: number, goneSinceMs?: number) => ({ known: { checkedAtMs: NOW - ageMs, goneSinceMs } });

test.each<readonly [Partial<FreshnessFacts>, string, string]>([
  [{}, "fresh", "fresh for 5 min more"],
  [{ ttlMs: Number.POSITIVE_INFINITY }, "fresh", "content by digest never goes stale"],
  [known(11 * MINUTE), "ask", "checked 11 min ago, which is past its time to live of 10 min"],
  [{ known: undefined }, "ask", "nothing is known of it"],
  [{ known: { checkedAtMs: 0, goneSinceMs: undefined } }, "ask", "never been asked"],
  [known(5 * MINUTE, NOW - HOUR), "ask", "perhaps it is back"],
  [{ visibility: "private", provedAtMs: NOW - 2 * HOUR }, "ask", "freshness.proofTtl (1 h)"],
  [{ asked: "moved" }, "ask", "only a GET"],
  [{ known: undefined, asked: "late" }, "wait", "slow"],
  [{ ...known(HOUR), asked: "late" }, "stale", "freshness.softDeadline"],
  [{ ...known(HOUR), asked: "connect" }, "stale", "in trouble (connect): what is held is served for 29 d more"],
  [{ ...known(40 * DAY), asked: "connect" }, "refuse", "older than freshness.staleIfError (30 d)"],
  [{ known: undefined, asked: "timeout" }, "refuse", "nothing is held that could be served instead"],
  [{ known: undefined, absenceRemembered: true }, "refuse", "freshness.negative"],
  [{ ...known(HOUR), asked: "absent" }, "stale", "freshness.onGone keeps"],
  [{ ...known(HOUR), asked: "absent", config: { ...FRESHNESS, onGone: "drop" } }, "refuse", "does not keep"],
  [
    { ...known(HOUR), asked: "absent", visibility: "private", provedAtMs: NOW },
    "refuse",
    "what is private is not kept",
  ],
  [{ ...known(HOUR), asked: "credential" }, "stale", "configured credential"],
  [{ ...known(HOUR), spared: "all" }, "stale", "freshness.whenBudgetLow"],
])("%j: %s, since %s", (facts, does, why) => {
  const all = { ...FACTS, ...facts };
  const words = told(decideFreshness(all), all);
  expect(words.does).toBe(does);
  expect(words.why).toContain(why);
});
