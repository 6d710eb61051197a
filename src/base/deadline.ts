import type { Clock } from "./clock.ts";
import { NO_MORE } from "./no-more.ts";

/** A signal that aborts with its parent or when time is up; `clear` ends the timer and is to be called in a `finally`. */
export interface Deadline {
  readonly signal: AbortSignal;
  /** Repeatable. Afterwards the signal follows its parent only. */
  clear(): void;
}

/** The reason of a {@link Deadline}'s signal when time was up. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

/** `signal`, and no longer than `ms` milliseconds; then it aborts with a {@link DeadlineError}. */
export function withDeadline(signal: AbortSignal, ms: number, clock: Clock): Deadline {
  const expired = new AbortController();
  const timer = new AbortController();
  const stopTimer = AbortSignal.any([signal, timer.signal]);
  clock.sleep(ms, stopTimer).then(
    () => expired.abort(new DeadlineError(`no result within ${ms} ms`)),
    () => {}, // the parent aborted or the deadline was cleared: nothing is left to do
  );
  return { signal: AbortSignal.any([signal, expired.signal]), clear: () => timer.abort(NO_MORE) };
}

/**
 * What `work` gives, but no later than `ms` milliseconds from now: then it rejects with a {@link DeadlineError}, and with the
 * reason of `signal` when that aborts, whether or not `work` heeds the signal that it is handed.
 */
export async function beforeDeadline<T>(
  ms: number,
  o: { readonly signal: AbortSignal; readonly clock: Clock },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { signal, clear } = withDeadline(o.signal, ms, o.clock);
  let onAbort = (): void => {};
  try {
    return await new Promise<T>((resolve, reject) => {
      onAbort = () => reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      signal.throwIfAborted();
      work(signal).then(resolve, reject);
    });
  } finally {
    // Node keeps such a signal for ever while somebody listens to it.
    signal.removeEventListener("abort", onAbort);
    clear();
  }
}
