import type { UpstreamError } from "../upstream/upstream.ts";
import type { CacheInfo } from "./answers.ts";
import type { StaleReason } from "./freshness.ts";

/** What an answer that may be out of date has to tell. */
export interface StaleFacts {
  /** What is answered, as a reference is written. */
  readonly what: string;
  /** When the upstream last said so; milliseconds since the epoch, 0 = never heard. */
  readonly checkedAtMs: number;
  /** What came of asking, if it has been asked. */
  readonly error: UpstreamError | undefined;
}

/** Marks answers that may be out of date, and reports each of them. */
export class Stale {
  readonly #served: (upstream: string, reason: StaleReason) => void;

  constructor(served: (upstream: string, reason: StaleReason) => void) {
    this.#served = served;
  }

  answer(upstream: string, reason: StaleReason, facts: StaleFacts): CacheInfo {
    this.#served(upstream, reason);
    const status = facts.error?.status;
    return {
      outcome: "stale",
      detail: reason,
      ...(status === undefined ? {} : { fwdStatus: status }),
      warning: `${facts.what} is answered as of ${asOf(facts.checkedAtMs)}: ${why(upstream, reason, facts.error)}`,
    };
  }
}

function asOf(checkedAtMs: number): string {
  return checkedAtMs === 0 ? "an unknown time" : new Date(checkedAtMs).toISOString();
}

function why(upstream: string, reason: StaleReason, error: UpstreamError | undefined): string {
  switch (reason) {
    case "stale-if-error":
      return `${upstream} is in trouble (${described(error)})`;
    case "soft-deadline":
      return `${upstream} is slow to answer`;
    case "gone":
      return `${upstream} does not have it any more`;
    case "credential":
      return `${upstream} could not be asked with the configured credential (${described(error)})`;
    case "budget-low":
      return `little is left of the pull quota at ${upstream}, so that it is not asked for anything newer`;
    case "withheld":
      return error?.message ?? `${upstream} is not asked`;
  }
}

function described(error: UpstreamError | undefined): string {
  if (error === undefined) {
    return "unknown";
  }
  return error.status === undefined ? error.fault : `${error.fault}, status ${error.status}`;
}
