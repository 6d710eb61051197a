import type { Secret } from "../../src/base/secret.ts";
import type { PageSource } from "../../src/http/page/page-source.ts";
import type { Overview } from "../../src/proxy/overview/overview.ts";

/** An overview that shows what a test says, and rejects what it says nothing of. */
export function fakeOverview(shows: Partial<Overview> = {}): Overview {
  const unexpected = (): Promise<never> => Promise.reject(new Error("not asked for"));
  return {
    upstreams: unexpected,
    storage: unexpected,
    repositories: unexpected,
    repository: unexpected,
    fills: unexpected,
    recent: unexpected,
    ...shows,
  };
}

/** What the status page is made of. Random bytes are the same every time; nobody is a proxy. */
export function fakePage(token?: Secret, source: Partial<PageSource> = {}): PageSource {
  return {
    token,
    overview: fakeOverview(),
    version: "1.2.3",
    clients: { addressOf: (peer) => peer, isProxy: () => false, networkOf: (address) => address },
    random: (bytes) => new Uint8Array(bytes).fill(7),
    ...source,
  };
}
