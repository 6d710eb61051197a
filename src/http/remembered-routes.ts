import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { RequestLine, RoutedCall } from "./route.ts";

/** What the nodes of a large cluster pull in a while. Whoever makes names up pushes out others' only, and takes some megabytes. */
const MAX_REMEMBERED = 4_096;

/** Characters of a host and target together: the longest repository with a digest is below that, and `ns` beside it. */
const MAX_LENGTH = 512;

/**
 * What the latest GETs and HEADs meant, which costs more to find out than all the rest of a hit. For one route table: another may
 * understand them differently. What cannot be understood is not remembered.
 */
export class RememberedRoutes {
  readonly #calls = new LRUCache<string, RoutedCall>(atMost(MAX_REMEMBERED));

  get(line: RequestLine): RoutedCall | undefined {
    const key = keyOf(line);
    return key === undefined ? undefined : this.#calls.get(key);
  }

  keep(line: RequestLine, call: RoutedCall): void {
    const key = keyOf(line);
    if (key !== undefined) this.#calls.set(key, call);
  }
}

/** Undefined for what is not remembered. */
function keyOf({ method, target, host }: RequestLine): string | undefined {
  if ((method !== "GET" && method !== "HEAD") || host === undefined) return undefined;
  return host.length + target.length > MAX_LENGTH ? undefined : `${host}\0${target}`;
}
