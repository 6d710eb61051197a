import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { failureOf } from "./errors.ts";

/** How long a call to the S3 server is worth trying. */
export interface Patience {
  /** In all. */
  readonly attempts: number;
  /** Before the second attempt, in milliseconds; doubles from there. */
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
  /** For all attempts together, in milliseconds. */
  readonly deadlineMs: number;
}

/** Somebody waits for it, and where it fails the upstream may still have what they want. */
export const SOMEBODY_WAITS: Patience = { attempts: 5, firstPauseMs: 50, longestPauseMs: 800, deadlineMs: 20_000 };

/** The same where a local disk has what is asked for most of the time. */
export const DISK_IN_FRONT: Patience = { attempts: 3, firstPauseMs: 50, longestPauseMs: 400, deadlineMs: 4_000 };

/** An upload goes on beside its readers: a server that asks to slow down gets the time. A part of 64 MiB may take minutes. */
export const NOBODY_WAITS: Patience = {
  attempts: 8,
  firstPauseMs: 100,
  longestPauseMs: 10_000,
  deadlineMs: 30 * 60_000,
};

export interface RetryDeps {
  readonly clock: Clock;
  /** As `Math.random`; spreads the pauses, so that a fleet does not come back in step. */
  readonly random: () => number;
}

/** Runs `attempt` until it succeeds, its failure is not a passing one, or patience ends; rejects with the last failure. */
export async function retrying<T>(
  { clock, random }: RetryDeps,
  patience: Patience,
  o: CallOptions,
  attempt: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { signal, clear } = withDeadline(o.signal, patience.deadlineMs, clock);
  try {
    for (let failures = 0; ; ) {
      signal.throwIfAborted();
      try {
        return await attempt(signal);
      } catch (error) {
        // The SDK has an error of its own for an aborted call.
        signal.throwIfAborted();
        failures += 1;
        if (failures === patience.attempts || failureOf(error).kind !== "passing") throw error;
      }
      await clock.sleep(pauseMs(patience, failures, random), signal);
    }
  } finally {
    clear();
  }
}

/** Half of it is chance. */
export function pauseMs(patience: Patience, failures: number, random: () => number): number {
  const most = Math.min(patience.longestPauseMs, patience.firstPauseMs * 2 ** (failures - 1));
  return Math.round(most / 2 + (random() * most) / 2);
}
