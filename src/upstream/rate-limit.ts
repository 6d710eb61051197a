import type { HeaderView } from "./header-view.ts";

/** What an upstream tells of a limit on one answer. */
export interface RateLimit {
  /** Requests, or whatever else the upstream counts, in one window. */
  readonly limit: number;
  readonly remaining: number;
  /** Seconds; undefined where the upstream does not say. */
  readonly windowS: number | undefined;
  /** When the window starts anew, by our own clock; left out where the upstream does not say. */
  readonly resetAtMs?: number;
  /** Whom the upstream counts: an address, a network, an account. */
  readonly source?: string;
}

/** What is known of one limit: for `doctor` and `explain`. */
export interface QuotaStatus {
  /** The credential's label; undefined for anonymous requests. */
  readonly credential: string | undefined;
  /** Whom the upstream counts, where it says so. */
  readonly source: string | undefined;
  readonly limit: number | undefined;
  readonly remaining: number | undefined;
  readonly windowS: number | undefined;
  /** Milliseconds since the epoch. */
  readonly observedAtMs: number | undefined;
  /** Until when nothing that counts is asked; undefined while it is. Milliseconds since the epoch. */
  readonly closedUntilMs: number | undefined;
}

/** Beyond this, a reset is no delay but an instant in epoch seconds (GitLab). */
const EPOCH_SECONDS_FROM = 1e9;

/** No limit's window is longer than a day; what says so is mistaken, and would be believed for as long. */
const MAX_WINDOW_S = 24 * 3600;

/** Registries tell one limit, some also the policies behind it. */
const MAX_VALUES = 16;

interface Counted {
  readonly count: number;
  readonly windowS: number | undefined;
}

/**
 * `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, or the same with `X-` in front: whole numbers, perhaps with
 * a window (`100;w=21600`), perhaps several of them with commas between, of which the one with the least share left decides
 * (upstreams.md, section 12). Undefined where limit and remaining are not both there.
 */
export function readRateLimitHeaders(headers: HeaderView, nowMs: number): RateLimit | undefined {
  return readHeaders(headers, "ratelimit", nowMs) ?? readHeaders(headers, "x-ratelimit", nowMs);
}

function readHeaders(headers: HeaderView, prefix: string, nowMs: number): RateLimit | undefined {
  const limits = readCounted(headers.get(`${prefix}-limit`));
  const pairs = readCounted(headers.get(`${prefix}-remaining`)).flatMap((left, at) => {
    // Values belong together by their window, else by their place.
    const limit = limits.find(({ windowS }) => windowS !== undefined && windowS === left.windowS) ?? limits[at];
    return limit === undefined
      ? []
      : [{ limit: limit.count, remaining: left.count, windowS: left.windowS ?? limit.windowS }];
  });
  const [tightest] = pairs.toSorted((a, b) => shareLeft(a) - shareLeft(b));
  if (tightest === undefined) {
    return undefined;
  }
  const resetAtMs = readReset(headers.get(`${prefix}-reset`), nowMs);
  return { ...tightest, ...(resetAtMs === undefined ? {} : { resetAtMs }) };
}

/** How much of a limit is left, from 0 to 1. */
export function shareLeft({ limit, remaining }: Pick<RateLimit, "limit" | "remaining">): number {
  return limit === 0 ? 0 : Math.min(1, remaining / limit);
}

/** Parameters other than the window (`burst`, `comment`) mean nothing here; a value that is no whole number is left out. */
function readCounted(header: string | undefined): readonly Counted[] {
  return (header ?? "").split(",", MAX_VALUES).flatMap((text) => {
    const [, count, parameters = ""] = /^\s*(\d{1,12})\s*(;.*)?$/s.exec(text) ?? [];
    const window = /;\s*w\s*=\s*(\d{1,12})\s*(?:;|$)/.exec(parameters)?.[1];
    const windowS = Math.min(Number(window ?? 0), MAX_WINDOW_S);
    return count === undefined ? [] : [{ count: Number(count), windowS: windowS === 0 ? undefined : windowS }];
  });
}

/** Seconds from now, or an instant in epoch seconds. What lies outside of the next day is no reset. */
function readReset(header: string | undefined, nowMs: number): number | undefined {
  if (!/^\s*\d{1,12}\s*$/.test(header ?? "")) {
    return undefined;
  }
  const seconds = Number(header);
  const resetAtMs = seconds >= EPOCH_SECONDS_FROM ? seconds * 1000 : nowMs + seconds * 1000;
  return resetAtMs >= nowMs && resetAtMs <= nowMs + MAX_WINDOW_S * 1000 ? resetAtMs : undefined;
}
