import type { Secret } from "../../base/secret.ts";
import type { Overview } from "../../proxy/overview/overview.ts";

/** What the status page shows beside what `/setup/` and `/control/` have, and who is let in. */
export interface PageSource {
  /** `admin.token`; without one the page says how to set it, and nothing else. */
  readonly token: Secret | undefined;
  readonly overview: Overview;
  /** Weir's own. */
  readonly version: string;
  readonly clients: PageClients;
  /** So many bytes that nobody can foresee. */
  random(bytes: number): Uint8Array;
}

/** Who asks, also from behind a proxy. */
export interface PageClients {
  /**
   * @param peer the other end of the connection
   * @param forwardedFor `X-Forwarded-For`
   */
  addressOf(peer: string | undefined, forwardedFor: string | undefined): string | undefined;
  /** Whether what the peer says of its client is to be believed (`server.trustedProxies`). */
  isProxy(peer: string | undefined): boolean;
  /** What an address counts as that tries to come in: all that its owner has of IPv6 count as one. */
  networkOf(address: string): string;
}
