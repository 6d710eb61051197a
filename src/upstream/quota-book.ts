import type { Clock } from "../base/clock.ts";
import { type QuotaStatus, type RateLimit, shareLeft } from "./rate-limit.ts";
import type { UpstreamKind } from "./upstream.ts";

/** Addresses that one egress takes turns with, and accounts behind one label, are fewer; the oldest goes first. */
const MAX_SOURCES = 8;

/** The longest window that is believed, and so the longest time that anything stays closed. */
const LONGEST_CLOSED_MS = 24 * 3600_000;
const SHORTEST_CLOSED_MS = 1_000;

/** Docker Hub's window, for a quota that is spent before anything was told of it: its free question finds out sooner. */
const UNTOLD_WINDOW_MS = 6 * 3600_000;

/** The same where nothing free can be asked: one request a minute finds out. */
const UNTOLD_PAUSE_MS = 60_000;

/** How long a limit without a window is worth knowing. */
const UNTOLD_VALIDITY_MS = 3600_000;

/** How long free questions are not asked that the upstream has refused all the same. */
const FREE_REFUSED_MS = 60_000;

/** Where limits were told: what says nothing of them any more there has none any more. */
export type Place = "realm" | UpstreamKind;

/** What is known of the quota of one credential at one source. Plain data: it travels through the state store. */
export interface QuotaRecord {
  /** Whom the upstream counts; undefined where it does not say. */
  readonly source: string | undefined;
  /** When the latest of this was learnt; milliseconds since the epoch, as all instants here. */
  readonly atMs: number;
  readonly told: (RateLimit & { readonly atMs: number; readonly place: Place }) | undefined;
  readonly closed: Closing | undefined;
  /** Until when requests that do not count are refused as well. */
  readonly freeClosedUntilMs: number | undefined;
}

/** Since a quota is spent, nothing that counts is asked. */
export interface Closing {
  readonly untilMs: number;
  /** By the upstream's own word; otherwise it is worked out, and may be over sooner. */
  readonly exact: boolean;
}

/** A request that was refused because the quota is spent. */
interface Refused {
  /** How long the upstream asks to wait. */
  readonly askedMs: number | undefined;
  readonly limit: RateLimit | undefined;
  readonly place: Place;
  /** It does not count, and was refused all the same. */
  readonly free: boolean;
}

export interface QuotaBookDeps {
  readonly clock: Clock;
  countsAgainstQuota(kind: UpstreamKind, method: "GET" | "HEAD"): boolean;
  /** Whether something can be asked that shows the quota and costs nothing. */
  readonly canProbe: boolean;
}

/** What one upstream has told of its limits, by credential (undefined: anonymous) and source. */
export class QuotaBook {
  readonly #deps: QuotaBookDeps;
  /** The source that answered last stands first: it is the one that the next request counts under, as far as can be known. */
  readonly #records = new Map<string | undefined, readonly QuotaRecord[]>();

  constructor(deps: QuotaBookDeps) {
    this.#deps = deps;
  }

  /** An answer has told what is left. `free`: to a request that does not count, so that it opens what is closed. */
  told(
    credential: string | undefined,
    { limit, place, free }: { limit: RateLimit; place: Place; free: boolean },
  ): void {
    const atMs = this.#deps.clock.now();
    const known = this.#of(credential, limit.source);
    const opens = free && limit.remaining > 0;
    this.#put(credential, {
      source: limit.source ?? known?.source,
      atMs,
      told: { ...limit, atMs, place },
      // What counts and is answered while it is closed was sent before.
      closed: opens ? undefined : known && this.#closed(known),
      freeClosedUntilMs: free ? undefined : known?.freeClosedUntilMs,
    });
  }

  /**
   * A good answer has not told what is left. Where others had, the credential has no limit any more; where it is closed
   * without ever having been told of, a free answer opens it, though not more often than a request that counts may find out.
   */
  silent(credential: string | undefined, { place, free }: { place: Place; free: boolean }): void {
    const record = this.current(credential);
    if (record === undefined) return;
    const opens =
      free &&
      place === "manifest" &&
      record.told === undefined &&
      this.#deps.clock.now() - record.atMs >= UNTOLD_PAUSE_MS;
    if (record.told?.place === place || opens) this.#records.delete(credential);
  }

  /** A request was refused because the quota is spent. */
  spent(credential: string | undefined, { askedMs, limit, place, free }: Refused): void {
    const atMs = this.#deps.clock.now();
    const known = this.#of(credential, limit?.source);
    const told = limit ?? known?.told;
    const pauseMs = askedMs ?? this.#untilWindowEnds(told, atMs);
    this.#put(credential, {
      source: limit?.source ?? known?.source,
      atMs,
      told: told && { ...told, remaining: 0, atMs, place: known?.told?.place ?? place },
      closed: {
        untilMs: atMs + Math.min(Math.max(pauseMs, SHORTEST_CLOSED_MS), LONGEST_CLOSED_MS),
        exact: askedMs !== undefined,
      },
      freeClosedUntilMs: free ? atMs + FREE_REFUSED_MS : known?.freeClosedUntilMs,
    });
  }

  /** Why such a request is not to be sent; undefined where it is. */
  closing(credential: string | undefined, kind: UpstreamKind, method: "GET" | "HEAD"): Closing | undefined {
    const record = this.current(credential);
    if (record === undefined) return undefined;
    if (this.#deps.countsAgainstQuota(kind, method)) return this.closed(credential);
    const untilMs = record.freeClosedUntilMs ?? 0;
    return kind === "manifest" && this.#isAhead(untilMs) ? { untilMs, exact: false } : undefined;
  }

  /** Until when nothing that counts is to be sent; undefined while it is. */
  closed(credential: string | undefined): Closing | undefined {
    const record = this.current(credential);
    return record && this.#closed(record);
  }

  /** What is left now, as far as it is known. */
  limit(credential: string | undefined): RateLimit | undefined {
    const record = this.current(credential);
    if (record?.told === undefined) return undefined;
    const { told } = record;
    const endsMs =
      told.resetAtMs ?? told.atMs + (told.windowS === undefined ? UNTOLD_VALIDITY_MS : told.windowS * 1000);
    return this.#closed(record) !== undefined || this.#deps.clock.now() < endsMs ? told : undefined;
  }

  /** From 0 to 1; undefined where it is not known. */
  left(credential: string | undefined): number | undefined {
    if (this.closed(credential) !== undefined) return 0;
    const limit = this.limit(credential);
    return limit && shareLeft(limit);
  }

  current(credential: string | undefined): QuotaRecord | undefined {
    return this.#records.get(credential)?.[0];
  }

  records(credential: string | undefined): readonly QuotaRecord[] {
    return this.#records.get(credential) ?? [];
  }

  /** Takes over what others have learnt since. Anonymous requests count by address: theirs may be another one. */
  merge(credential: string | undefined, others: readonly QuotaRecord[]): void {
    for (const other of others) {
      const mine = this.records(credential);
      const known = mine.find(({ source }) => source === other.source);
      if (known === undefined && credential !== undefined) {
        this.#records.set(credential, [...mine, other].slice(0, MAX_SOURCES));
      } else if (known !== undefined && known.atMs < other.atMs) {
        this.#records.set(
          credential,
          mine.map((record) => (record === known ? other : record)),
        );
      }
    }
  }

  status(): readonly QuotaStatus[] {
    return [...this.#records].flatMap(([credential, records]) =>
      records.map((record) => ({
        credential,
        source: record.source,
        limit: record.told?.limit,
        remaining: record.told?.remaining,
        windowS: record.told?.windowS,
        observedAtMs: record.atMs,
        closedUntilMs: this.#closed(record)?.untilMs,
      })),
    );
  }

  /** The record of a source; of the one that answered last where the answer does not say whose it is. */
  #of(credential: string | undefined, source: string | undefined): QuotaRecord | undefined {
    const records = this.records(credential);
    if (source === undefined) return records[0];
    return records.find((record) => record.source === source) ?? records.find((record) => record.source === undefined);
  }

  #put(credential: string | undefined, record: QuotaRecord): void {
    const others = this.records(credential).filter(({ source }) => source !== undefined && source !== record.source);
    this.#records.set(credential, [record, ...others].slice(0, MAX_SOURCES));
  }

  #untilWindowEnds(limit: RateLimit | undefined, nowMs: number): number {
    if (limit?.resetAtMs !== undefined && limit.resetAtMs > nowMs) return limit.resetAtMs - nowMs;
    if (limit?.windowS !== undefined) return limit.windowS * 1000;
    return this.#deps.canProbe ? UNTOLD_WINDOW_MS : UNTOLD_PAUSE_MS;
  }

  #closed({ closed }: QuotaRecord): Closing | undefined {
    return closed !== undefined && this.#isAhead(closed.untilMs) ? closed : undefined;
  }

  /** More than the longest time is left only where the clock has been set back. */
  #isAhead(untilMs: number): boolean {
    const leftMs = untilMs - this.#deps.clock.now();
    return leftMs > 0 && leftMs <= LONGEST_CLOSED_MS;
  }
}
