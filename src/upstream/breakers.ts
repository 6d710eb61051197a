import { finished, type Readable } from "node:stream";
import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { Clock } from "../base/clock.ts";
import { Breaker, FAILURES_TO_OPEN, type Failure, type Outcome, type Tell } from "./breaker.ts";
import type { BreakerStatus } from "./outlook.ts";
import type { Lane } from "./transport.ts";
import {
  type OriginRole,
  UpstreamError,
  type UpstreamFault,
  type UpstreamKind,
  type UpstreamObserver,
} from "./upstream.ts";

/** A registry, its realm and the blob hosts of every region and storage class that it redirects to are fewer. */
const MAX_ORIGINS = 64;

/** These say that the request was not to the server's liking, and nothing about the next one. */
const REQUESTS_OWN_STATUSES: ReadonlySet<number> = new Set([501, 505]);

/** No answer, or none in time. What was refused before connecting, or not understood when it came, says nothing. */
const COUNTED_FAULTS: ReadonlySet<UpstreamFault> = new Set(["connect", "tls", "timeout"]);

export interface BreakersDeps {
  readonly upstream: string;
  /** The origin of the registry's own endpoint. */
  readonly registry: string;
  readonly clock: Clock;
  random(): number;
  readonly observer: Pick<UpstreamObserver, "breaker">;
}

/** What of an exchange decides how its outcome is read. */
interface Asked {
  readonly kind: UpstreamKind;
  readonly method: "GET" | "HEAD" | "POST";
  readonly lane: Lane;
}

interface Tracked {
  readonly breaker: Breaker;
  readonly role: OriginRole;
}

/** The breakers of one upstream: its registry, its token realms and wherever its redirects lead fail each for itself. */
export class Breakers {
  readonly #deps: BreakersDeps;
  readonly #tracked = new LRUCache<string, Tracked>({
    ...atMost(MAX_ORIGINS),
    dispose: ({ breaker, role }, origin) => {
      if (breaker.open) this.#report(origin, role, undefined);
    },
  });
  #retired = false;

  constructor(deps: BreakersDeps) {
    this.#deps = deps;
  }

  /** Throws an {@link UpstreamError} with `breakerOpen` where `origin` is not to be asked now. */
  check(origin: string): void {
    const refusal = this.refusal(origin);
    if (refusal === undefined) return;
    // One that is asked for is not the one to be forgotten.
    this.#tracked.get(origin);
    throw refusal;
  }

  /** What {@link check} would throw; changes nothing. */
  refusal(origin: string): UpstreamError | undefined {
    const refusal = this.#tracked.peek(origin)?.breaker.refusal();
    if (refusal === undefined) return undefined;
    const { upstream, clock } = this.#deps;
    const { failure, untilMs } = refusal;
    return new UpstreamError(
      upstream,
      failure.fault,
      `${upstream}: ${origin} is not asked before ${new Date(untilMs).toISOString()}: ${FAILURES_TO_OPEN} requests in a row have failed, and none has been answered since (${describe(failure)})`,
      { breakerOpen: true, retryAfterMs: untilMs - clock.now() },
    );
  }

  /** Of every origin that was asked of late. */
  status(): readonly BreakerStatus[] {
    return [...this.#tracked.entries()].map(([origin, { breaker, role }]) => {
      const failure = breaker.failure;
      return {
        origin,
        role,
        open: breaker.open,
        untilMs: breaker.refusal()?.untilMs,
        reason: failure === undefined ? undefined : describe(failure),
      };
    });
  }

  /** Lets one exchange with `origin` through, to be followed to its end; or throws as {@link check} does. */
  admit(origin: string, asked: Asked): ExchangeWatch {
    this.check(origin);
    const { breaker } = this.#tracked.get(origin) ?? this.#track(origin, asked.kind);
    return new ExchangeWatch(asked, breaker.admit());
  }

  /** Forgets everything; what was open is reported as closed. */
  clear(): void {
    this.#tracked.clear();
  }

  /** As {@link clear}, and nothing is reported any more; what is still asked goes through breakers all the same. */
  retire(): void {
    this.clear();
    this.#retired = true;
  }

  #track(origin: string, kind: UpstreamKind): Tracked {
    const role = this.#roleOf(origin, kind);
    const { clock } = this.#deps;
    const tracked: Tracked = {
      role,
      breaker: new Breaker({
        clock,
        random: () => this.#deps.random(),
        changed: (failure) => {
          // One that has fallen out of the cache has been reported for the last time.
          if (this.#tracked.peek(origin) === tracked) this.#report(origin, role, failure);
        },
      }),
    };
    this.#tracked.set(origin, tracked);
    return tracked;
  }

  #roleOf(origin: string, kind: UpstreamKind): OriginRole {
    if (origin === this.#deps.registry) return "registry";
    return kind === "token" ? "realm" : "blob";
  }

  #report(origin: string, role: OriginRole, failure: Failure | undefined): void {
    if (this.#retired) return;
    const { upstream, observer } = this.#deps;
    const reason = failure === undefined ? undefined : describe(failure);
    observer.breaker({ upstream, origin, role, open: failure !== undefined, reason });
  }
}

/** Follows one exchange and tells its origin's breaker how it has gone. */
class ExchangeWatch {
  readonly #asked: Asked;
  readonly #tell: Tell;
  #hasBytes = false;
  #awaitsBytes = false;

  constructor(asked: Asked, tell: Tell) {
    this.#asked = asked;
    this.#tell = tell;
  }

  /** There is no answer. */
  failed(error: unknown): void {
    this.#tell(outcomeOfError(error));
  }

  /** Some of the body has come; perhaps before the answer is known of. */
  received(): void {
    this.#hasBytes = true;
    if (this.#awaitsBytes) this.#tell("answered");
  }

  responded({ status, body }: { readonly status: number; readonly body: Readable }): void {
    if (status >= 500 && !REQUESTS_OWN_STATUSES.has(status)) {
      this.#tell({ fault: "status", status });
    } else if (this.#asked.method === "HEAD" || status >= 300) {
      this.#tell("answered");
    } else {
      finished(body, () => this.#tell(body.readableEnded ? "answered" : outcomeOfError(body.errored)));
      // A host that cuts every connection after some MiB of a blob still delivers; a document is worth nothing in part.
      this.#awaitsBytes = this.#asked.lane === "bodies";
      if (this.#hasBytes) this.received();
    }
  }
}

function outcomeOfError(error: unknown): Outcome {
  return error instanceof UpstreamError && COUNTED_FAULTS.has(error.fault)
    ? { fault: error.fault, status: undefined }
    : "inconclusive";
}

function describe({ fault, status }: Failure): string {
  return status === undefined ? fault : `status ${status}`;
}
