import type { Log } from "../base/log.ts";
import type { UpstreamObserver } from "../upstream/upstream.ts";

/**
 * Writes a line for each exchange with an upstream, under the id of the request that it was for, and one whenever an origin
 * is given up or found again; passes everything on to `next`. A URL in it has no query: that is where signatures and tokens
 * stand.
 */
export function logExchanges(log: Log, next: UpstreamObserver): UpstreamObserver {
  return {
    exchange(e) {
      next.exchange(e);
      log.info({ ...e, durationMs: Math.round(e.durationMs) }, "upstream");
    },
    received: (upstream, kind, bytes) => next.received(upstream, kind, bytes),
    breaker(change) {
      next.breaker(change);
      const { open, ...fields } = change;
      if (open) {
        log.warn(fields, "upstream breaker opened: requests to this origin fail at once until it answers again");
      } else {
        log.info(fields, "upstream breaker closed");
      }
    },
  };
}
