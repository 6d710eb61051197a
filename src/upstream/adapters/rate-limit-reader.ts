import { printable } from "../../base/printable.ts";
import type { QuotaRules } from "../quota.ts";
import { readRateLimitHeaders } from "../rate-limit.ts";

/** An address or an account's id; no upstream has a reason to say more. */
const MAX_SOURCE = 100;

/** Reads the usual headers, and whom the registry counts from one of its own. */
export function rateLimitReader(sourceHeader: string): QuotaRules["readRateLimit"] {
  return (headers, nowMs) => {
    const limit = readRateLimitHeaders(headers, nowMs);
    const source = printable(headers.get(sourceHeader)?.trim() ?? "", MAX_SOURCE);
    return limit === undefined || source === "" ? limit : { ...limit, source };
  };
}
