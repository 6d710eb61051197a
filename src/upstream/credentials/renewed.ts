import type { CallOptions } from "../../base/call.ts";
import { beforeDeadline, DeadlineError } from "../../base/deadline.ts";
import { SingleFlight } from "../../base/single-flight.ts";
import { type CredentialSource, type ResolvedSecret, type SourceDeps, SourceError } from "./source.ts";

/** What a cloud or a helper gave, and for how long it serves. */
export interface Lease extends Omit<ResolvedSecret, "expiresAtMs"> {
  /** From when it was asked for; by the issuer's own clock, so that a wrong one of this machine does not matter. */
  readonly lifetimeMs: number;
  /** Whether it is worthless then, or only to be looked at again. */
  readonly expires: boolean;
}

/** Who gives it. */
export interface Lessor {
  /** Begins a sentence about what it did. */
  readonly name: string;
  /** How long it may take. */
  readonly timeoutMs: number;
  /** Rejects with {@link SourceError}. Need not heed the signal. */
  lease(o: CallOptions): Promise<Lease>;
}

/** Share of its life after which the next one is fetched, while this one is still used. */
const RENEWED_SHARE = 0.5;

/** Share of its life after which it is not used any more: a request takes time, and so does a download that begins with it. */
const USED_SHARE = 0.95;

/** Nobody waits again so soon after a failure; long enough that a broken set-up does not delay every pull. */
const FAILED_MS = 15_000;

/** Between two renewals, whatever became of them: clouds limit them, and a password that is refused is not asked for by the second. */
const MIN_INTERVAL_MS = 60_000;

interface Held {
  readonly resolved: ResolvedSecret;
  readonly renewMs: number;
  readonly usedUntilMs: number;
}

/**
 * A secret that serves for a while and is fetched anew in time: once, whoever asks meanwhile, and off the path of requests
 * while it is used at all. Nothing is fetched for an upstream that nobody uses.
 */
export class RenewedSource implements CredentialSource {
  readonly renews = true;
  readonly #deps: SourceDeps;
  readonly #lessor: Lessor;
  readonly #flights = new SingleFlight<Held>();
  readonly #closing = new AbortController();
  #held: Held | undefined;
  #refused = false;
  #triedMs = Number.NEGATIVE_INFINITY;
  #failure: { readonly error: SourceError; readonly untilMs: number } | undefined;

  constructor(lessor: Lessor, deps: SourceDeps) {
    this.#lessor = lessor;
    this.#deps = deps;
  }

  async resolve(o: CallOptions): Promise<ResolvedSecret> {
    const now = this.#deps.clock.now();
    const held = this.#held;
    const mayTry = now >= this.#triedMs + MIN_INTERVAL_MS;
    if (held !== undefined && now < held.usedUntilMs && !(this.#refused && mayTry)) {
      if (now >= held.renewMs && mayTry) {
        this.#renewBehind();
      }
      return held.resolved;
    }
    if (this.#failure !== undefined && now < this.#failure.untilMs) {
      throw this.#failure.error;
    }
    return (await this.#renew(o)).resolved;
  }

  refused(): void {
    this.#refused = true;
  }

  close(): void {
    this.#closing.abort();
  }

  #renewBehind(): void {
    const { signal } = this.#closing;
    this.#renew({ signal }).catch((error: unknown) => {
      if (!signal.aborted) {
        const { log, where } = this.#deps;
        log.warn(
          { where, err: error },
          "a credential could not be renewed in advance; what there is serves until its end",
        );
      }
    });
  }

  async #renew(o: CallOptions): Promise<Held> {
    return (await this.#flights.run("", o, (signal) => this.#lease({ ...o, signal }))).value;
  }

  async #lease(o: CallOptions): Promise<Held> {
    const { clock } = this.#deps;
    const { name, timeoutMs } = this.#lessor;
    const askedMs = clock.now();
    this.#triedMs = askedMs;
    try {
      const { lifetimeMs, expires, ...secret } = await beforeDeadline(
        timeoutMs,
        { signal: o.signal, clock },
        (signal) => this.#lessor.lease({ ...o, signal }),
      );
      this.#held = {
        resolved: { ...secret, expiresAtMs: expires ? askedMs + lifetimeMs : undefined },
        renewMs: askedMs + lifetimeMs * RENEWED_SHARE,
        usedUntilMs: askedMs + lifetimeMs * USED_SHARE,
      };
      this.#refused = false;
      this.#failure = undefined;
      return this.#held;
    } catch (cause) {
      o.signal.throwIfAborted();
      const error =
        cause instanceof DeadlineError
          ? new SourceError("timeout", `${name} gave no answer within ${timeoutMs / 1000} s`)
          : cause;
      if (error instanceof SourceError) {
        this.#failure = { error, untilMs: clock.now() + FAILED_MS };
      }
      throw error;
    }
  }
}
