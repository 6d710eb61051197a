import type { Clock } from "../base/clock.ts";
import type { UpstreamFault } from "./upstream.ts";

/** Failures in a row after which an origin is not asked any more (design, section 3 "Breaker"). */
export const FAILURES_TO_OPEN = 5;

/** From opening to the first probe; doubled with each probe that fails. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

/** When to ask again, for who comes while the probe is under way: answers that are worth waiting for take no longer. */
const PROBE_MS = 1_000;

/** Why an exchange counts against its origin. */
export interface Failure {
  readonly fault: UpstreamFault;
  /** The status that was the failure; undefined when there was none. */
  readonly status: number | undefined;
}

/**
 * What an exchange says about its origin: it works (whatever it answered), it does not, or nothing, as when a client of
 * ours has left before the end.
 */
export type Outcome = "answered" | "inconclusive" | Failure;

/** Tells how an exchange that was let through ended; the first call counts. To be called for every one. */
export type Tell = (outcome: Outcome) => void;

/** Since when and why an origin is not asked. */
export interface Refusal {
  /** Nothing is let through before; milliseconds since the epoch. */
  readonly untilMs: number;
  /** The failure that opened the breaker, or of the last probe. */
  readonly failure: Failure;
}

export interface BreakerOptions {
  readonly clock: Clock;
  /** From 0 to 1, for the spread of probes. */
  random(): number;
  /** Told when it opens and when it closes, and not of each probe. */
  changed(failure: Failure | undefined): void;
}

/**
 * Knows whether one origin is worth asking. Closed, it lets everything through; after {@link FAILURES_TO_OPEN} failures
 * in a row it is open and lets nothing through; after a pause one exchange at a time goes through as a probe. Any answer
 * closes it, a probe's failure makes the pause longer.
 */
export class Breaker {
  readonly #o: BreakerOptions;
  /** Of exchanges sent since the last answer. */
  #failures = 0;
  /** Answers so far: a failure of what was sent before the latest of them says nothing that it does not say better. */
  #answers = 0;
  #refusal: Refusal | undefined;
  #openings = 0;
  /** The probe under way; at most one. */
  #probe: Tell | undefined;

  constructor(o: BreakerOptions) {
    this.#o = o;
  }

  get open(): boolean {
    return this.#refusal !== undefined;
  }

  /** The failure that opened it, or of the last probe; undefined where it is closed. */
  get failure(): Failure | undefined {
    return this.#refusal?.failure;
  }

  /** Why nothing is let through now; undefined where {@link admit} may be called. */
  refusal(): Refusal | undefined {
    if (this.#refusal === undefined) return undefined;
    const nowMs = this.#o.clock.now();
    if (this.#probe !== undefined) return { ...this.#refusal, untilMs: nowMs + PROBE_MS };
    const leftMs = this.#refusal.untilMs - nowMs;
    // More than the longest pause is left only where the clock has been set back.
    return leftMs > 0 && leftMs <= LONGEST_PAUSE_MS ? this.#refusal : undefined;
  }

  /** Lets one exchange through, while it is open as the probe. Not to be called where there is a {@link refusal}. */
  admit(): Tell {
    const answersBefore = this.#answers;
    let told = false;
    const tell: Tell = (outcome) => {
      if (told) return;
      told = true;
      const isProbe = this.#probe === tell;
      if (isProbe) this.#probe = undefined;
      if (outcome === "answered") {
        this.#answered();
      } else if (outcome !== "inconclusive" && answersBefore === this.#answers) {
        this.#failed(outcome, isProbe);
      }
    };
    if (this.open) this.#probe = tell;
    return tell;
  }

  #answered(): void {
    const wasOpen = this.open;
    this.#answers += 1;
    this.#failures = 0;
    this.#openings = 0;
    this.#refusal = undefined;
    this.#probe = undefined;
    if (wasOpen) this.#o.changed(undefined);
  }

  #failed(failure: Failure, isProbe: boolean): void {
    if (isProbe) {
      this.#refuse(failure);
    } else if (!this.open) {
      this.#failures += 1;
      if (this.#failures < FAILURES_TO_OPEN) return;
      this.#refuse(failure);
      this.#o.changed(failure);
    }
  }

  #refuse(failure: Failure): void {
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#openings);
    this.#openings += 1;
    // Between half of the pause and all of it, so that a fleet does not come back in step.
    const untilMs = this.#o.clock.now() + Math.round(pauseMs * (0.5 + this.#o.random() / 2));
    this.#refusal = { untilMs, failure };
  }
}
