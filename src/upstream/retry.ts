import type { Clock } from "../base/clock.ts";
import { isReset } from "./transport-error.ts";
import { UpstreamError } from "./upstream.ts";

const MAX_RETRIES = 2;
const FIRST_PAUSE_MS = 200;

/** No retry starts later than this after the first attempt: beyond it the caller has better answers, such as a stale one. */
const RETRY_WINDOW_MS = 5_000;

/** 501 and 505 will not change their mind. */
const RETRIED_STATUSES: ReadonlySet<number | undefined> = new Set([500, 502, 503, 504]);

/**
 * Runs an idempotent exchange, and again at most twice where the connection broke or the upstream answered with a passing
 * 5xx. The pauses grow and are spread by chance, so that a fleet does not come back in step. Never retries a time-out: that
 * has cost its time already.
 */
export async function withRetries<T>(
  deps: { readonly clock: Clock; random(): number },
  signal: AbortSignal,
  attempt: () => Promise<T>,
): Promise<T> {
  const giveUpMs = deps.clock.now() + RETRY_WINDOW_MS;
  for (let retry = 0; ; retry += 1) {
    try {
      return await attempt();
    } catch (error) {
      const step = FIRST_PAUSE_MS * 2 ** retry;
      const pauseMs = Math.round(step / 2 + (deps.random() * step) / 2);
      if (retry === MAX_RETRIES || !isPassing(error, pauseMs) || deps.clock.now() + pauseMs > giveUpMs) {
        throw error;
      }
      await deps.clock.sleep(pauseMs, signal);
    }
  }
}

function isPassing(error: unknown, pauseMs: number): boolean {
  if (!(error instanceof UpstreamError)) {
    return false;
  }
  const passing = isReset(error) || (error.fault === "status" && RETRIED_STATUSES.has(error.status));
  return passing && (error.retryAfterMs ?? 0) <= pauseMs;
}
