import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";

/** A free question about a spent quota is asked this often at most (design, section 3 "Rate limits"). */
export const PROBE_PAUSE_MS = 60_000;

export interface QuotaProbesDeps {
  /** Of each round of the schedule; undefined for none. */
  readonly everyMs: number | undefined;
  /** Whom the schedule asks for, besides those that requests were made for; undefined = anonymous. */
  readonly credentials: readonly string[];
  /** False as soon as a quota that was spent is open again. */
  isSpent(credential: string | undefined): boolean;
  /** Asks what is left; the answer is taken in where it arrives. May reject. */
  ask(credential: string | undefined, o: CallOptions): Promise<void>;
  readonly clock: Clock;
  /** From 0 to 1, for the spread of rounds. */
  random(): number;
}

/**
 * Asks what is left of quotas where that is free: all of them now and then, from the first request on, and a spent one a
 * while after somebody wanted it.
 */
export class QuotaProbes {
  readonly #deps: QuotaProbesDeps;
  readonly #over = new AbortController();
  readonly #used = new Set<string | undefined>();
  /** Spent quotas that will be asked about. */
  readonly #wanted = new Set<string | undefined>();
  readonly #askedAtMs = new Map<string | undefined, number>();

  constructor(deps: QuotaProbesDeps) {
    this.#deps = deps;
  }

  /** A request is made on behalf of the credential. */
  used(credential: string | undefined): void {
    const isFirst = this.#used.size === 0;
    this.#used.add(credential);
    if (isFirst) this.#run((signal) => this.#schedule(signal));
  }

  /** The credential's quota has just been found spent: no need to ask for a while. */
  foundSpent(credential: string | undefined): void {
    this.#askedAtMs.set(credential, this.#deps.clock.now());
  }

  /** Somebody wants what a spent quota keeps back. */
  wanted(credential: string | undefined): void {
    if (this.#wanted.has(credential)) return;
    this.#wanted.add(credential);
    this.#run(async (signal) => {
      const { clock } = this.#deps;
      const agoMs = clock.now() - (this.#askedAtMs.get(credential) ?? 0);
      // No longer than the pause, should the clock have been set back.
      if (agoMs < PROBE_PAUSE_MS) await clock.sleep(Math.min(PROBE_PAUSE_MS - agoMs, PROBE_PAUSE_MS), signal);
      // Who comes while it is asked may want it asked again.
      this.#wanted.delete(credential);
      if (this.#deps.isSpent(credential)) await this.#ask(credential, signal);
    });
  }

  /** Repeatable. Nothing is asked any more. */
  stop(): void {
    this.#over.abort(new Error("the upstream's quota is not watched any more"));
  }

  async #schedule(signal: AbortSignal): Promise<void> {
    const { everyMs, credentials, clock } = this.#deps;
    if (everyMs === undefined) return;
    for (;;) {
      // Replicas that were started together do not ask together.
      await clock.sleep(Math.round(everyMs * (0.75 + this.#deps.random() / 2)), signal);
      for (const credential of new Set([...credentials, ...this.#used])) {
        await this.#ask(credential, signal);
      }
    }
  }

  async #ask(credential: string | undefined, signal: AbortSignal): Promise<void> {
    this.#askedAtMs.set(credential, this.#deps.clock.now());
    await this.#deps.ask(credential, { signal }).catch(() => {});
  }

  /** What ends this is {@link stop}; nobody waits for it. */
  #run(work: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#over;
    if (!signal.aborted) work(signal).catch(() => {});
  }
}
