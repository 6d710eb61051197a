import type { FreshnessConfig } from "../config/types.ts";
import type { UpstreamFault } from "../upstream/upstream.ts";

/** Why an answer that may be out of date was given; a closed set, for it is a metric's label. */
export type StaleReason = "stale-if-error" | "soft-deadline" | "gone" | "credential" | "budget-low" | "withheld";

/** What is known of a reference. */
export interface Known {
  /** When the upstream last said so, milliseconds since the epoch; 0 = never heard (adopted content). */
  readonly checkedAtMs: number;
  readonly goneSinceMs: number | undefined;
}

/** What a decision about one reference rests on. */
export interface FreshnessFacts {
  /** What could be answered with; undefined when there is nothing. */
  readonly known: Known | undefined;
  /**
   * What is held instead of `known`, which is not: the upstream has named it since, and only a GET brings it. Undefined where
   * nothing else is held, or `known` itself is.
   */
  readonly older?: Known | undefined;
  /**
   * Which questions the upstream's quota is too low for (`whenBudgetLow`): GETs of manifests, or HEADs as well. Left out for
   * none, and for what no quota counts.
   */
  readonly spared?: "gets" | "all" | undefined;
  /** For how long what the upstream said is fresh, milliseconds; Infinity for digests, which never go stale. */
  readonly ttlMs: number;
  readonly visibility: "public" | "private";
  /** Private only: when the upstream last let Weir read the repository; milliseconds since the epoch. */
  readonly provedAtMs: number;
  /** Whether the upstream's "there is no such thing" is remembered. */
  readonly absenceRemembered: boolean;
  /**
   * What came of asking the upstream: not asked yet, no answer within `softDeadline`, that only a GET can tell or bring what
   * the reference means now, or how it failed.
   */
  readonly asked: "not-yet" | "late" | "moved" | UpstreamFault;
  readonly config: Pick<FreshnessConfig, "staleIfErrorMs" | "onGone" | "proofTtlMs">;
  readonly nowMs: number;
}

/**
 * - `fresh`: answer without asking, for `ttlMs` more
 * - `ask`: ask the upstream first; what has moved, by the GET
 * - `wait`: go on waiting for the answer that is late
 * - `stale`: answer with what is known, saying why it may be out of date
 * - `refuse`: pass the upstream's "no" or failure on; `forget` what was known
 */
export type FreshnessDecision =
  | { readonly do: "fresh"; readonly ttlMs: number }
  | { readonly do: "ask" }
  | { readonly do: "wait" }
  | { readonly do: "stale"; readonly reason: StaleReason }
  | { readonly do: "refuse"; readonly forget: boolean };

const REFUSE: FreshnessDecision = { do: "refuse", forget: false };
const PUT_OFF: FreshnessDecision = { do: "stale", reason: "budget-low" };

/**
 * May what is known be served (design, section 2 "Manifests")? The one place that weighs a record's age, the rules and the
 * upstream's state; everybody else only carries the decision out.
 */
export function decideFreshness(facts: FreshnessFacts): FreshnessDecision {
  const { known, asked } = facts;
  if (asked === "not-yet") {
    return known === undefined
      ? { do: facts.absenceRemembered ? "refuse" : "ask", forget: false }
      : before(known, facts);
  }
  if (asked === "late") {
    return known === undefined ? { do: "wait" } : whileLate(known, facts);
  }
  if (asked === "moved") {
    // The upstream has just answered for the repository, which is the proof that it may be read.
    return known !== undefined && facts.spared !== undefined && mayPutOff(known, facts) ? PUT_OFF : { do: "ask" };
  }
  return known === undefined ? REFUSE : afterFault(known, asked, facts);
}

function before(known: Known, facts: FreshnessFacts): FreshnessDecision {
  if (known.goneSinceMs !== undefined) {
    return facts.absenceRemembered ? whenGone(known, facts) : { do: "ask" };
  }
  const ageMs = facts.nowMs - known.checkedAtMs;
  const leftMs = Math.min(facts.ttlMs - ageMs, proofLeftMs(facts));
  // A record from the future (a clock was set back) is worth no trust: it would stay fresh for as long as the clock was off.
  const isFresh = ageMs >= 0 && leftMs > 0;
  // What has been named and is not held is one GET away; what is not fresh any more, one question of whichever kind.
  const costs = isFresh ? facts.older !== undefined && facts.spared !== undefined : facts.spared === "all";
  if (costs && proofLeftMs(facts) > 0 && mayPutOff(facts.older ?? known, facts)) {
    return PUT_OFF;
  }
  return isFresh ? { do: "fresh", ttlMs: leftMs } : { do: "ask" };
}

/** Whether what is held may stand in for a while for what it would cost quota to find out or to fetch. */
function mayPutOff(held: Known, facts: FreshnessFacts): boolean {
  return held.goneSinceMs === undefined && !tooOld(held, facts);
}

function whileLate(known: Known, facts: FreshnessFacts): FreshnessDecision {
  if (known.goneSinceMs !== undefined) {
    const gone = whenGone(known, facts);
    return gone.do === "stale" ? gone : { do: "wait" };
  }
  // Slow is not silent: where permission itself is what has to be asked anew, the answer is worth the wait.
  const mayServe = proofLeftMs(facts) > 0 && !tooOld(known, facts);
  return mayServe ? { do: "stale", reason: "soft-deadline" } : { do: "wait" };
}

function afterFault(known: Known, fault: UpstreamFault, facts: FreshnessFacts): FreshnessDecision {
  switch (fault) {
    case "absent":
    case "denied":
      return whenGone(known, facts);
    case "credential":
    case "refused":
      return proofLeftMs(facts) > 0 && !tooOld(known, facts) ? { do: "stale", reason: "credential" } : REFUSE;
    case "withheld":
      // The caller gets what is held, as it is. That Weir may still read what is private has been seen to before.
      return known.goneSinceMs === undefined ? { do: "stale", reason: "withheld" } : whenGone(known, facts);
    case "quota":
    case "connect":
    case "tls":
    case "timeout":
    case "status":
    case "bad-answer":
      if (known.goneSinceMs !== undefined) {
        return whenGone(known, facts);
      }
      // An upstream in trouble says nothing about permission either way: the last that it said stands.
      return tooOld(known, facts) ? REFUSE : { do: "stale", reason: "stale-if-error" };
  }
}

function whenGone(known: Known, facts: FreshnessFacts): FreshnessDecision {
  // For a private repository "gone" may mean "not for you any more".
  if (facts.visibility === "private") {
    return REFUSE;
  }
  const { onGone } = facts.config;
  if (onGone === "keep") {
    return { do: "stale", reason: "gone" };
  }
  const goneForMs = facts.nowMs - (known.goneSinceMs ?? facts.nowMs);
  const kept = onGone !== "drop" && goneForMs < onGone.keepMs;
  return kept ? { do: "stale", reason: "gone" } : { do: "refuse", forget: true };
}

function tooOld(known: Known, facts: FreshnessFacts): boolean {
  return known.checkedAtMs !== 0 && facts.nowMs - known.checkedAtMs > facts.config.staleIfErrorMs;
}

function proofLeftMs(facts: FreshnessFacts): number {
  return facts.visibility === "public"
    ? Number.POSITIVE_INFINITY
    : facts.provedAtMs + facts.config.proofTtlMs - facts.nowMs;
}
