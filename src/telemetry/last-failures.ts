import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { Clock } from "../base/clock.ts";
import { printable } from "../base/printable.ts";
import type { UpstreamFailure } from "../proxy/overview/overview.ts";
import type { UpstreamExchange, UpstreamFault, UpstreamObserver } from "../upstream/upstream.ts";

/** More than anybody configures; those made by `routing.dynamic` come and go. */
const MAX_UPSTREAMS = 512;

/** Characters; a URL with the longest names, and what went wrong with it. */
const MAX_TEXT = 400;

/** A clear "no" to what a client asked for is no failure of the upstream. */
const NO_FAILURES: ReadonlySet<UpstreamFault> = new Set(["absent", "denied"]);

/** The latest failure of each upstream, in a few hundred bytes each. */
export interface LastFailures {
  of(upstream: string): UpstreamFailure | undefined;
  /** Takes failures down, and passes everything on to `next`. */
  readonly observer: UpstreamObserver;
}

export function createLastFailures(clock: Clock, next: UpstreamObserver): LastFailures {
  const failures = new LRUCache<string, UpstreamFailure>(atMost(MAX_UPSTREAMS));
  return {
    of: (upstream) => failures.peek(upstream),
    observer: {
      exchange(e) {
        next.exchange(e);
        const { upstream, fault } = e;
        if (fault !== undefined && !NO_FAILURES.has(fault)) failures.set(upstream, failureOf(e, fault, clock.now()));
      },
      received: (upstream, kind, bytes) => next.received(upstream, kind, bytes),
      breaker: (change) => next.breaker(change),
    },
  };
}

/** Of what was sent and what came back, nothing but the address, the status and our own words. */
function failureOf(
  { method, url, status, detail }: UpstreamExchange,
  fault: UpstreamFault,
  atMs: number,
): UpstreamFailure {
  const reason = fault === "status" && status !== undefined ? `status ${status}` : fault;
  const text = detail ?? `${method} ${url}: ${status === undefined ? "no answer" : `answered ${status}`} (${fault})`;
  return { atMs, reason, text: printable(text, MAX_TEXT) };
}
