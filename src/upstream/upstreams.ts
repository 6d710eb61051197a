import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import { fingerprint } from "../base/fingerprint.ts";
import type { UpstreamConfig } from "../config/types.ts";
import type { Upstream } from "./upstream.ts";

/** More hosts than one fleet pulls from; an idle one costs a few objects and no connection. */
const MAX_DYNAMIC = 256;

/** Every upstream that requests can be routed to; none is configured at first. */
export interface Upstreams {
  /** Undefined for a name that is neither configured nor allowed by `routing.dynamic`. */
  get(name: string): Upstream | undefined;
  /** Those that are configured, in their order, and then those that were made for other hosts; makes none. */
  all(): readonly UpstreamInUse[];
  /**
   * Makes the upstreams of another configuration; those that it leaves as they are stay, with their tokens, connections and
   * breakers. Throws when one cannot be made. Nothing changes until the result is put in force.
   */
  prepare(configs: readonly UpstreamConfig[]): PreparedUpstreams;
  close(): Promise<void>;
}

export interface UpstreamInUse {
  readonly upstream: Upstream;
  /** Not in the configuration, but allowed by `routing.dynamic`. */
  readonly dynamic: boolean;
}

/** The configured upstreams to be, by name, compared with those that are. */
export interface PreparedUpstreams {
  readonly added: readonly string[];
  /** Made anew, since their configuration or a file that it names is another one. */
  readonly replaced: readonly string[];
  readonly removed: readonly string[];
  /** All at once, for every {@link Upstreams.get} from now on. */
  putInForce(): void;
}

export interface UpstreamsDeps {
  create(config: UpstreamConfig): Upstream;
  /** Whether an upstream may be made for a host that is not configured. */
  allowsDynamic(host: string): boolean;
  createDynamic(host: string): Upstream;
}

interface Configured {
  readonly identity: string;
  readonly upstream: Upstream;
}

export function createUpstreams({ create, allowsDynamic, createDynamic }: UpstreamsDeps): Upstreams {
  // An upstream that is replaced, removed, or falls out of the cache is never closed: requests and downloads that began on
  // it end on it, and a download may go on for hours. Its idle connections end by themselves.
  let configured: ReadonlyMap<string, Configured> = new Map();
  const dynamic = new LRUCache<string, Upstream>(atMost(MAX_DYNAMIC));
  return {
    get(name) {
      const known = configured.get(name);
      if (known !== undefined) return known.upstream;
      // Asked also for what has been made: the list may have become shorter since.
      if (!allowsDynamic(name)) return undefined;
      const made = dynamic.get(name);
      if (made !== undefined) return made;
      const fresh = createDynamic(name);
      dynamic.set(name, fresh);
      return fresh;
    },
    all() {
      const inConfig = [...configured.values()].map(({ upstream }) => ({ upstream, dynamic: false }));
      const made = [...dynamic.entries()].filter(([name]) => !configured.has(name) && allowsDynamic(name));
      return [...inConfig, ...made.map(([, upstream]) => ({ upstream, dynamic: true }))];
    },
    prepare(configs) {
      const next = new Map(
        configs.map((config): [string, Configured] => {
          const identity = identityOf(config);
          const known = configured.get(config.name);
          return [config.name, known?.identity === identity ? known : { identity, upstream: create(config) }];
        }),
      );
      const names = [...next.keys()];
      return {
        added: names.filter((name) => !configured.has(name)),
        replaced: names.filter((name) => configured.has(name) && configured.get(name) !== next.get(name)),
        removed: [...configured.keys()].filter((name) => !next.has(name)),
        putInForce() {
          const before = configured;
          configured = next;
          for (const [name, known] of before) {
            if (next.get(name) !== known) known.upstream.retire();
          }
        },
      };
    },
    async close() {
      const held = [...configured.values()].map(({ upstream }) => upstream);
      await Promise.all([...held, ...dynamic.values()].map((upstream) => upstream.close()));
    },
  };
}

/** The same for two configurations if an upstream made of one serves for the other. Freshness and content are the proxy's business. */
function identityOf({
  freshness: _freshness,
  allow: _allow,
  deny: _deny,
  platforms: _platforms,
  ...config
}: UpstreamConfig): string {
  const { ca, cert, key } = config.tls;
  return fingerprint([config, [ca, cert, key].map(contentHash)]);
}

/** Undefined also for a file that cannot be read: making the upstream says so better. */
function contentHash(path: string | undefined): string | undefined {
  if (path === undefined) {
    return undefined;
  }
  try {
    return createHash("sha256").update(readFileSync(path)).digest("hex");
  } catch {
    return undefined;
  }
}
