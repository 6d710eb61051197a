import type { Clock } from "./clock.ts";

/** Shorter pauses cost more than they even out. */
const LEAST_PAUSE_MS = 20;

/** Holds work that nobody waits for to so many bytes a second. What was not used is not saved up. */
export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerS: number;
  #dueMs = 0;

  constructor(o: { readonly clock: Clock; readonly bytesPerS: number }) {
    this.#clock = o.clock;
    this.#bytesPerS = o.bytesPerS;
  }

  /** To be called after each piece of work; resolves when the next may begin. */
  async spent(bytes: number, signal: AbortSignal): Promise<void> {
    const now = this.#clock.now();
    this.#dueMs = Math.max(this.#dueMs, now) + (bytes / this.#bytesPerS) * 1000;
    const waitMs = this.#dueMs - now;
    if (waitMs >= LEAST_PAUSE_MS) await this.#clock.sleep(waitMs, signal);
  }
}
