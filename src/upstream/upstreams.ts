import { LRUCache } from "lru-cache";
import type { Upstream } from "./upstream.ts";

/** More hosts than one fleet pulls from; an idle one costs a few objects and no connection. */
const MAX_DYNAMIC = 256;

/** Every upstream that requests can be routed to. */
export interface Upstreams {
  /** Undefined for a name that is neither configured nor allowed by `routing.dynamic`. */
  get(name: string): Upstream | undefined;
  close(): Promise<void>;
}

export interface UpstreamsDeps {
  readonly configured: readonly Upstream[];
  /** Whether an upstream may be made for a host that is not configured. */
  allowsDynamic(host: string): boolean;
  createDynamic(host: string): Upstream;
}

export function createUpstreams({ configured, allowsDynamic, createDynamic }: UpstreamsDeps): Upstreams {
  const byName = new Map(configured.map((upstream) => [upstream.name, upstream]));
  // One that falls out is not closed: a body may be under way on it. Its idle connections end by themselves.
  const dynamic = new LRUCache<string, Upstream>({ max: MAX_DYNAMIC });
  return {
    get(name) {
      const known = byName.get(name) ?? dynamic.get(name);
      if (known !== undefined || !allowsDynamic(name)) return known;
      const made = createDynamic(name);
      dynamic.set(name, made);
      return made;
    },
    async close() {
      await Promise.all([...configured, ...dynamic.values()].map((upstream) => upstream.close()));
    },
  };
}
