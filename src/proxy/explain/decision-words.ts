import { humanTime } from "../../base/human.ts";
import type { FreshnessDecision, FreshnessFacts, Known, StaleReason } from "../freshness.ts";

/** A decision with its reason in words. */
export interface Told {
  readonly does: FreshnessDecision["do"];
  readonly reason: StaleReason | undefined;
  readonly why: string;
}

/** Says why a decision is what it is. Decides nothing itself: everything is read off the decision and its facts. */
export function told(decision: FreshnessDecision, facts: FreshnessFacts): Told {
  const reason = decision.do === "stale" ? decision.reason : undefined;
  return { does: decision.do, reason, why: why(decision, facts) };
}

function why(decision: FreshnessDecision, facts: FreshnessFacts): string {
  switch (decision.do) {
    case "fresh":
      return decision.ttlMs === Number.POSITIVE_INFINITY
        ? "content by digest never goes stale"
        : `fresh for ${humanTime(decision.ttlMs)} more`;
    case "ask":
      return whyAsk(facts);
    case "wait":
      return "the upstream is slow, and nothing that is held may be served in the meantime";
    case "stale":
      return whyStale(decision.reason, facts);
    case "refuse":
      return whyRefuse(facts);
  }
}

function whyAsk({ known, asked, ttlMs, nowMs, visibility, provedAtMs, config }: FreshnessFacts): string {
  if (asked === "moved") {
    return "only a GET can tell or bring what it means now";
  }
  if (known === undefined) {
    return "nothing is known of it";
  }
  if (known.goneSinceMs !== undefined) {
    return "the upstream had it no more when it was last asked: perhaps it is back";
  }
  if (known.checkedAtMs === 0) {
    return "the upstream has never been asked about it";
  }
  const isPastProof = visibility === "private" && nowMs - provedAtMs >= config.proofTtlMs;
  const ageMs = nowMs - known.checkedAtMs;
  return isPastProof && ageMs < ttlMs
    ? `the repository is private, and the last proof that Weir may read it is older than freshness.proofTtl (${humanTime(config.proofTtlMs)})`
    : `checked ${humanTime(ageMs)} ago, which is past its time to live of ${humanTime(ttlMs)}`;
}

function whyStale(reason: StaleReason, { known, asked, config, nowMs }: FreshnessFacts): string {
  switch (reason) {
    case "stale-if-error":
      return `the upstream is in trouble (${asked}): what is held is served${until(known, config.staleIfErrorMs, nowMs)}`;
    case "soft-deadline":
      return "the upstream has not answered within freshness.softDeadline: what is held is served, and asking goes on";
    case "gone":
      return "the upstream does not have it any more, and freshness.onGone keeps what is held";
    case "credential":
      return `the upstream could not be asked with the configured credential (${asked}): what is held is served`;
    case "budget-low":
      return "little is left of the pull quota (freshness.whenBudgetLow): what is held is served";
    case "withheld":
      return "the upstream is not asked: what is held is served";
  }
}

function until(known: Known | undefined, staleIfErrorMs: number, nowMs: number): string {
  return known === undefined || known.checkedAtMs === 0
    ? ""
    : ` for ${humanTime(known.checkedAtMs + staleIfErrorMs - nowMs)} more (freshness.staleIfError)`;
}

function whyRefuse({ asked, known, absenceRemembered, visibility, config, nowMs }: FreshnessFacts): string {
  if (asked === "not-yet") {
    return absenceRemembered
      ? "the upstream said a moment ago that there is no such thing (freshness.negative)"
      : "nothing may be served";
  }
  if (known === undefined) {
    return `the upstream's answer was ${asked}, and nothing is held that could be served instead`;
  }
  if (asked === "absent" || asked === "denied" || known.goneSinceMs !== undefined) {
    return visibility === "private"
      ? "the upstream does not give it any more, and what is private is not kept then"
      : "the upstream does not have it any more, and freshness.onGone does not keep what is held";
  }
  const isTooOld = known.checkedAtMs !== 0 && nowMs - known.checkedAtMs > config.staleIfErrorMs;
  return isTooOld
    ? `the upstream's answer was ${asked}, and what is held is older than freshness.staleIfError (${humanTime(config.staleIfErrorMs)})`
    : `the upstream's answer was ${asked}, and what is held may not be served without it`;
}
