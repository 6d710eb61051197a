import type { Clock } from "../../src/base/clock.ts";
import { compileFreshness } from "../../src/config/freshness-match.ts";
import { parseConfig } from "../../src/config/parse.ts";
import type { Activity } from "../../src/proxy/overview/activity.ts";
import type { OverviewDeps } from "../../src/proxy/overview/create-overview.ts";

/** Nobody does anything. */
export const idle: Activity = { upstreams: async () => [], fills: async () => [], recent: async () => [] };

/** What an overview takes beside what is held: nothing is configured, pinned or remembered, and everything is public. */
export function overviewParts(clock: Clock): Omit<OverviewDeps, "index" | "repositories" | "store"> {
  const parsed = parseConfig({}, {}, "/");
  if (!parsed.ok) throw new Error("the built-in configuration is wrong");
  const { freshness } = parsed.config;
  const compiled = compileFreshness(freshness);
  return {
    activity: idle,
    upstreams: { get: () => undefined },
    standings: {
      known: async () => ({
        standing: { visibility: "public", provedAtMs: 0 },
        atMs: undefined,
        stands: true,
        recorded: false,
      }),
    },
    memory: { head: async () => undefined, absence: async () => undefined },
    room: {
      usage: () => ({ bytes: 0, blobs: 0, limitBytes: undefined, perUpstream: new Map(), counting: false }),
    },
    marks: () => undefined,
    driver: "filesystem",
    waitingUploads: () => undefined,
    pins: async () => [],
    freshnessOf: () => freshness,
    ttlOf: (repo, tag) => compiled.ttlMs(repo, tag),
    names: () => ({ upstream: (name) => name }),
    clock,
  };
}
