import type { Clock } from "../../src/base/clock.ts";

interface Sleeper {
  readonly atMs: number;
  wake(): void;
}

/** A clock that stands still until a test turns it. */
export class ManualClock implements Clock {
  #nowMs: number;
  readonly #sleepers = new Set<Sleeper>();
  #watchers: (() => void)[] = [];

  constructor(nowMs: number = Date.UTC(2026, 0, 1)) {
    this.#nowMs = nowMs;
  }

  now(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#sleepers.delete(sleeper);
        signal.removeEventListener("abort", onAbort);
      };
      const onAbort = (): void => {
        leave();
        reject(signal.reason);
      };
      const sleeper: Sleeper = {
        atMs: this.#nowMs + ms,
        wake() {
          leave();
          resolve();
        },
      };
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      signal.addEventListener("abort", onAbort, { once: true });
      this.#sleepers.add(sleeper);
      const watchers = this.#watchers;
      this.#watchers = [];
      for (const tell of watchers) {
        tell();
      }
    });
  }

  /** Moves time on and wakes who was to be woken by then. */
  advance(ms: number): void {
    this.#nowMs += ms;
    for (const sleeper of [...this.#sleepers].sort((a, b) => a.atMs - b.atMs)) {
      if (sleeper.atMs <= this.#nowMs) {
        sleeper.wake();
      }
    }
  }

  /** Resolves when somebody sleeps. */
  async sleeping(): Promise<void> {
    while (this.#sleepers.size === 0) {
      await new Promise<void>((resolve) => {
        this.#watchers.push(resolve);
      });
    }
  }

  /** How many sleep now; a test that has ended leaves none. */
  get sleepers(): number {
    return this.#sleepers.size;
  }
}
