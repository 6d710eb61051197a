import { readRateLimitHeaders } from "../rate-limit.ts";
import type { Adapter } from "./adapter.ts";

/** Any registry that follows the distribution spec and whatever challenge it sends; what the others differ from. */
export const generic: Adapter = {
  type: "generic",
  normalise: (repository) => repository,
  realms: [],
  trustsSiblingRealms: true,
  basicOnly: false,
  tagActions: undefined,
  readFault: () => undefined,
  blobProof: "head",
  maxTags: undefined,
  redirectsReferrersToPages: false,
  manifestHeadMs: 0,
  readRateLimit: readRateLimitHeaders,
  // Rates per second or minute, of an address or a project: whatever is asked next counts as well.
  classify429: () => "abuse",
  countsAgainstQuota: (kind) => kind !== "token",
  quotaProbe: undefined,
};
