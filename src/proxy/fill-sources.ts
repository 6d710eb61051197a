import type { Clock } from "../base/clock.ts";
import { NO_MORE } from "../base/no-more.ts";
import { UpstreamError } from "../upstream/upstream.ts";
import { PeerStreamError } from "./fill-errors.ts";
import type { FillSource } from "./fill-source.ts";

/** Waiting time after the first attempt without progress; doubled with each further one. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;
/** After a body that broke off having delivered something. */
const SHORT_PAUSE_MS = 100;
/** An upstream that is out of quota, or not to be asked at all, is asked again this often at most and at least. */
const LEAST_HOLD_MS = 1_000;
const LONGEST_HOLD_MS = 60_000;
/** Where the upstream does not say when to come back; or half of it, by chance, so that a pull's blobs do not come back at once. */
const QUOTA_HOLD_MS = 10_000;
/** How long a source may be held back so before it is given up; no client waits longer. */
const PATIENCE_MS = 10 * 60_000;
/**
 * The same for a fill without a byte yet, whose source is known to be down: a client that has nothing is better told at
 * once, and only the shortest of outages is waited for.
 */
const DOWN_PATIENCE_MS = 5_000;

/** One of a fill's sources, and how it has done so far. */
export interface SourceEntry {
  source: FillSource;
  /** Attempts without progress since there was any, from whichever source. */
  stalled: number;
  notBeforeMs: number;
  /** Since when it has been held back, for want of quota or as known to be down, without a byte of progress in between. */
  heldSinceMs: number | undefined;
  /** Its range answers cannot be trusted: it is asked from byte 0, and what is there already is skipped. */
  rangeless: boolean;
}

export interface FillSourcesOptions {
  readonly clock: Clock;
  /** As `Math.random`. */
  readonly random: () => number;
  /** Attempts without progress after which a source is given up. */
  readonly stalledAttempts: number;
  /** A source has said no for good; see {@link FillSources.refusal}. */
  readonly onRefused?: () => void;
}

/** The repositories that a fill can ask, and which of them is next. */
export class FillSources {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #stalledAttempts: number;
  readonly #onRefused: () => void;
  /** In the order in which they joined. */
  readonly #live = new Map<string, SourceEntry>();
  /** Those that said no, for good, with what they said. */
  readonly #refusals = new Map<string, unknown>();
  #current: SourceEntry | undefined;
  #lastError: unknown;
  /** Some source has delivered something. */
  #begun = false;
  #newcomer = new AbortController();

  constructor(o: FillSourcesOptions) {
    this.#clock = o.clock;
    this.#random = o.random;
    this.#stalledAttempts = o.stalledAttempts;
    this.#onRefused = o.onRefused ?? (() => {});
  }

  /** A known key gets the new source in the old one's place. */
  add(source: FillSource): void {
    this.#refusals.delete(source.key);
    const known = this.#live.get(source.key);
    if (known !== undefined) {
      known.source = source;
      return;
    }
    this.#live.set(source.key, { source, stalled: 0, notBeforeMs: 0, heldSinceMs: undefined, rangeless: false });
    this.#newcomer.abort(NO_MORE);
    this.#newcomer = new AbortController();
  }

  /** Those that have not been given up. */
  get live(): readonly FillSource[] {
    return [...this.#live.values()].map((entry) => entry.source);
  }

  /** Why this source will not give the blob to anybody, if it has said so. */
  refusal(key: string): unknown {
    return this.#refusals.get(key);
  }

  /** The source to ask now, once its pause is over. Rejects with the last error when no source is left. */
  async next(signal: AbortSignal): Promise<SourceEntry> {
    for (;;) {
      signal.throwIfAborted();
      const entry = this.#soonest();
      if (entry === undefined) throw this.#lastError;
      const pauseMs = entry.notBeforeMs - this.#clock.now();
      if (pauseMs <= 0) {
        this.#current = entry;
        return entry;
      }
      await this.#pause(pauseMs, signal);
    }
  }

  /** Bytes came: whatever was held against any source is forgotten. */
  progressed(): void {
    this.#begun = true;
    for (const entry of this.#live.values()) {
      entry.stalled = 0;
      entry.heldSinceMs = undefined;
    }
  }

  /** The attempt ended early. `moved` tells whether it delivered anything new. */
  failed(entry: SourceEntry, error: unknown, moved: boolean): void {
    this.#lastError = error;
    if (error instanceof UpstreamError && !error.trouble) {
      this.#drop(entry);
      this.#refusals.set(entry.source.key, error);
      this.#onRefused();
    } else if (error instanceof UpstreamError && (error.breakerOpen || error.fault === "quota")) {
      this.#holdBack(entry, error);
    } else if (moved || error instanceof PeerStreamError) {
      this.#pauseFor(entry, SHORT_PAUSE_MS);
    } else {
      entry.stalled += 1;
      if (entry.stalled >= this.#stalledAttempts) this.#drop(entry);
      else this.#pauseFor(entry, Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (entry.stalled - 1)));
    }
  }

  /** Neither a 429 nor a known outage is an attempt without progress: only the time without a byte is bounded. */
  #holdBack(entry: SourceEntry, error: UpstreamError): void {
    const now = this.#clock.now();
    entry.heldSinceMs ??= now;
    const asked = error.retryAfterMs ?? this.#spread(QUOTA_HOLD_MS);
    const pauseMs = Math.min(LONGEST_HOLD_MS, Math.max(LEAST_HOLD_MS, asked));
    const patienceMs = error.breakerOpen && !this.#begun ? DOWN_PATIENCE_MS : PATIENCE_MS;
    if (now + pauseMs - entry.heldSinceMs > patienceMs) this.#drop(entry);
    else entry.notBeforeMs = now + pauseMs;
  }

  #drop(entry: SourceEntry): void {
    this.#live.delete(entry.source.key);
  }

  /** Between half of `ms` and all of it, so that many fills do not come back at once. */
  #pauseFor(entry: SourceEntry, ms: number): void {
    entry.notBeforeMs = this.#clock.now() + this.#spread(ms);
  }

  #spread(ms: number): number {
    return ms * (0.5 + this.#random() / 2);
  }

  /** The one that may be asked first; of several, the one asked last time, else the oldest. */
  #soonest(): SourceEntry | undefined {
    const now = this.#clock.now();
    let best: SourceEntry | undefined;
    for (const entry of this.#live.values()) {
      const wait = Math.max(0, entry.notBeforeMs - now);
      const bestWait = best === undefined ? Number.POSITIVE_INFINITY : Math.max(0, best.notBeforeMs - now);
      if (wait < bestWait || (wait === bestWait && entry === this.#current)) best = entry;
    }
    return best;
  }

  /** Ends early when another source comes. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const newcomer = this.#newcomer.signal;
    try {
      await this.#clock.sleep(ms, AbortSignal.any([signal, newcomer]));
    } catch (error) {
      if (signal.aborted || !newcomer.aborted) throw error;
    }
  }
}
