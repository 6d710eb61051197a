import type { Clock } from "../base/clock.ts";

/** From the first refusal to the next request; doubled each time that one is refused after waiting. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 5 * 60_000;

/**
 * However long the upstream asks to be left alone: bans last an hour (GitLab), and one request in that time finds out that
 * a longer word was mistaken.
 */
const LONGEST_ASKED_MS = 3600_000;

export interface BackoffDeps {
  readonly clock: Clock;
  /** From 0 to 1, for the spread of pauses. */
  random(): number;
}

/** Leaves alone for a while an upstream that refuses requests because there are too many of them. */
export class Backoff {
  readonly #deps: BackoffDeps;
  /** Pauses since the last answer that was no refusal. */
  #pauses = 0;
  #untilMs = 0;

  constructor(deps: BackoffDeps) {
    this.#deps = deps;
  }

  /** Until when nothing is to be asked; milliseconds since the epoch. Undefined where it is. */
  get untilMs(): number | undefined {
    const leftMs = this.#untilMs - this.#deps.clock.now();
    // More than the longest pause is left only where the clock has been set back.
    return leftMs > 0 && leftMs <= LONGEST_ASKED_MS ? this.#untilMs : undefined;
  }

  /**
   * A request was refused; `askedMs` is how long the upstream asks to wait. True when a pause begins: what was sent before,
   * and is refused during it, makes it no longer than the upstream asks.
   */
  refused(askedMs: number | undefined): boolean {
    const nowMs = this.#deps.clock.now();
    const begins = this.untilMs === undefined;
    if (begins) {
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#pauses);
      this.#pauses += 1;
      // Between half of the pause and all of it, so that a fleet does not come back in step.
      this.#untilMs = nowMs + Math.round(pauseMs * (0.5 + this.#deps.random() / 2));
    }
    this.#untilMs = Math.max(this.#untilMs, nowMs + Math.min(askedMs ?? 0, LONGEST_ASKED_MS));
    return begins;
  }

  /** A request was not refused. During a pause that says nothing: it was sent before. */
  answered(): void {
    if (this.untilMs === undefined) this.#pauses = 0;
  }
}
