import type { QuotaRules } from "../quota.ts";
import { readRateLimitHeaders } from "../rate-limit.ts";

/** Reads the usual headers, and whom the registry counts from one of its own. */
export function rateLimitReader(sourceHeader: string): QuotaRules["readRateLimit"] {
  return (headers, nowMs) => {
    const limit = readRateLimitHeaders(headers, nowMs);
    const source = headers.get(sourceHeader)?.trim() ?? "";
    return limit === undefined || source === "" ? limit : { ...limit, source };
  };
}
