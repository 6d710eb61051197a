import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";
import { rateLimitReader } from "./rate-limit-reader.ts";

/** GitLab: tokens come from its web host, which is the only part that counts requests. */
export const gitlab: Adapter = {
  ...generic,
  type: "gitlab",
  readRateLimit: rateLimitReader("ratelimit-name"),
  // Two hosts, two rate limiters: whoever has a token needs nothing of the web host.
  classify429: ({ kind }) => (kind === "token" ? "quota" : "abuse"),
  countsAgainstQuota: (kind) => kind === "token",
};
