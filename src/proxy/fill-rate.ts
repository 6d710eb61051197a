import type { Clock } from "../base/clock.ts";

/** The past counts for less the longer ago it was; after this time for about a third. */
const MEMORY_MS = 2_000;
/** Shorter spans say more about the timing of packets than about the rate. */
const LEAST_SPAN_MS = 50;

/** How fast a download has been of late, pauses included: an exponentially weighted average. */
export class Rate {
  readonly #clock: Clock;
  #bytesPerMs: number | undefined;
  #since: number;
  #bytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#since = clock.now();
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    this.#fold();
  }

  /** Bytes per millisecond; 0 while nothing has been measured. */
  get(): number {
    this.#fold();
    return this.#bytesPerMs ?? 0;
  }

  #fold(): void {
    const span = this.#clock.now() - this.#since;
    if (span < LEAST_SPAN_MS) return;
    const rate = this.#bytes / span;
    const weight = Math.exp(-span / MEMORY_MS);
    this.#bytesPerMs = this.#bytesPerMs === undefined ? rate : this.#bytesPerMs * weight + rate * (1 - weight);
    this.#since += span;
    this.#bytes = 0;
  }
}

/** How long a body is watched before it is judged. */
const FLOOR_WINDOW_MS = 30_000;

/**
 * Finds a body that is too slow to be worth waiting for (design, `download.minRate`). Counts only the time in which
 * somebody waits for bytes: a reader that is held up itself learns nothing about the upstream.
 */
export class RateFloor {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  #waitingSince: number | undefined;
  #waitedMs = 0;
  #bytes = 0;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** To be called when the next bytes are asked for. */
  asked(): void {
    this.#waitingSince = this.#clock.now();
  }

  /** To be called when they have come. */
  got(bytes: number): void {
    this.#waitedMs = this.#waited();
    this.#waitingSince = undefined;
    this.#bytes += bytes;
  }

  /** Resolves when the body has been too slow; rejects with the signal's reason. */
  async breached(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(Math.max(1, FLOOR_WINDOW_MS - this.#waited()), signal);
      const waitedMs = this.#waited();
      if (waitedMs < FLOOR_WINDOW_MS) continue;
      if (this.#bytes < (this.#bytesPerSecond * waitedMs) / 1000) return;
      this.#bytes = 0;
      this.#waitedMs = 0;
      if (this.#waitingSince !== undefined) this.#waitingSince = this.#clock.now();
    }
  }

  #waited(): number {
    return this.#waitedMs + (this.#waitingSince === undefined ? 0 : this.#clock.now() - this.#waitingSince);
  }
}
