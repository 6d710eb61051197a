import type { Clock } from "./clock.ts";

/** Lets what may happen thousands of times a second be told of now and then only, each cause by itself. */
export class Seldom<Cause extends string> {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #causes = new Map<Cause, { toldAtMs: number; untold: number }>();

  /** @param o.everyMs how long a cause is quiet for after it was told of */
  constructor(o: { readonly clock: Clock; readonly everyMs: number }) {
    this.#clock = o.clock;
    this.#everyMs = o.everyMs;
  }

  /** Calls `tell` where it is time to, with how often this has happened since the last time, this time included. */
  tell(cause: Cause, tell: (times: number) => void): void {
    const now = this.#clock.now();
    const known = this.#causes.get(cause);
    if (known !== undefined && now - known.toldAtMs < this.#everyMs) {
      known.untold += 1;
      return;
    }
    this.#causes.set(cause, { toldAtMs: now, untold: 0 });
    tell((known?.untold ?? 0) + 1);
  }
}
