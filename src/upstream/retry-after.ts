import type { HeaderView } from "./header-view.ts";

/** No registry means more than a day; what says so is mistaken, and believing it would close an upstream for good. */
const MAX_DELAY_MS = 24 * 3600 * 1000;

/** Beyond this, a bare number is no delay but an instant in epoch seconds (Docker Hub's REST API, 2025-05). */
const EPOCH_SECONDS_FROM = 1e9;
const EPOCH_MILLISECONDS_FROM = 1e12;

const GO_UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/**
 * Milliseconds to wait as `Retry-After` has them: seconds, an HTTP date (RFC 9110 10.2.3), or an instant in epoch seconds.
 * Between 0 and a day; undefined when the header is absent or says nothing.
 */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  const text = header?.trim() ?? "";
  if (/^\d{1,15}(\.\d{1,9})?$/.test(text)) {
    const value = Number(text);
    if (value >= EPOCH_MILLISECONDS_FROM) {
      return clampDelay(value - nowMs);
    }
    return clampDelay(value >= EPOCH_SECONDS_FROM ? value * 1000 - nowMs : value * 1000);
  }
  // Date.parse takes far more than HTTP dates ("-1" is a year to it), so the shape is checked first.
  if (!/^[A-Za-z]{3,9},? [\w :-]{10,40}$/.test(text)) {
    return undefined;
  }
  const instant = Date.parse(text);
  return Number.isNaN(instant) ? undefined : clampDelay(instant - nowMs);
}

/** How long an answer asks to be left alone, milliseconds up to a day: by its header, or in its envelope's message. */
export function retryAfterOf(headers: HeaderView, message: string, nowMs: number): number | undefined {
  return parseRetryAfter(headers.get("retry-after"), nowMs) ?? retryAfterInMessage(message);
}

/** GHCR has no header; its message says `retry-after: 880.092µs, allowed: 44000/minute`. */
export function retryAfterInMessage(message: string): number | undefined {
  const duration = /retry-after:\s*([0-9.a-zµμ]{1,40})/i.exec(message)?.[1];
  return duration === undefined ? undefined : parseGoDuration(duration);
}

/** Milliseconds, rounded up, of a Go duration such as `1m30.5s` or `880.092µs`; at most a day. */
export function parseGoDuration(text: string): number | undefined {
  if (!/^(\d{1,15}(\.\d{1,12})?(ns|us|µs|μs|ms|s|m|h))+$/.test(text)) {
    return undefined;
  }
  let total = 0;
  for (const [, value, unit] of text.matchAll(/([\d.]+)([a-zµμ]+)/g)) {
    total += Number(value) * (GO_UNITS_MS[unit ?? ""] ?? 0);
  }
  return clampDelay(total);
}

function clampDelay(ms: number): number {
  return Math.min(Math.max(Math.ceil(ms), 0), MAX_DELAY_MS);
}
