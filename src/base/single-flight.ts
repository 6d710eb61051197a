import type { CallOptions } from "./call.ts";
import type { TracePlace } from "./trail.ts";

interface Flight<T> {
  readonly result: Promise<T>;
  readonly controller: AbortController;
  readonly begunIn: TracePlace | undefined;
  waiters: number;
}

/** What one waiter gets. */
export interface Landed<T> {
  readonly value: T;
  /** True for those who joined a run that another had started. */
  readonly shared: boolean;
  /** Where in a trace the run was started. */
  readonly begunIn: TracePlace | undefined;
}

/**
 * Runs one piece of work per key at a time and gives everybody who asks meanwhile its outcome, error included. A waiter
 * that aborts leaves the others alone; when the last one leaves, the work's own signal aborts. Nothing is kept once the
 * work has ended: whoever asks then starts anew.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** Keys with work under way that somebody waits for. */
  get size(): number {
    return this.#flights.size;
  }

  /**
   * Joins the run of `key` or starts one with `work`, whose `shared` signal aborts when nobody waits any more.
   * Rejects with the reason of `signal`, or with whatever `work` rejected with.
   */
  run(
    key: string,
    o: Pick<CallOptions, "signal" | "trail">,
    work: (shared: AbortSignal) => Promise<T>,
  ): Promise<Landed<T>> {
    const { signal, trail } = o;
    if (signal.aborted) {
      return Promise.reject(signal.reason);
    }
    const existing = this.#flights.get(key);
    const flight = existing ?? this.#start(key, trail?.place, work);
    const shared = existing !== undefined;
    flight.waiters += 1;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#leave(key, flight, signal.reason);
        reject(signal.reason);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      flight.result
        .finally(() => signal.removeEventListener("abort", onAbort))
        .then((value) => resolve({ value, shared, begunIn: flight.begunIn }), reject);
    });
  }

  #start(key: string, begunIn: TracePlace | undefined, work: (shared: AbortSignal) => Promise<T>): Flight<T> {
    const controller = new AbortController();
    // The work starts a microtask later, so that the flight is in its place should the work ask for the same key.
    const result = Promise.resolve().then(() => work(controller.signal));
    const flight: Flight<T> = { result, controller, begunIn, waiters: 0 };
    this.#flights.set(key, flight);
    const land = (): void => this.#forget(key, flight);
    result.then(land, land);
    return flight;
  }

  #leave(key: string, flight: Flight<T>, reason: unknown): void {
    flight.waiters -= 1;
    if (flight.waiters === 0) {
      // Forgotten at once: who comes now must not join work that has been told to stop.
      this.#forget(key, flight);
      flight.controller.abort(reason);
    }
  }

  #forget(key: string, flight: Flight<T>): void {
    if (this.#flights.get(key) === flight) {
      this.#flights.delete(key);
    }
  }
}
