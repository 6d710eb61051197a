import { type AddressClass, compileAddressList, foldHost } from "./address.ts";
import { isThisMachine } from "./egress.ts";

/** One connection about to be made: the name asked for and the address that it turned out to be. */
export interface ConnectTarget {
  readonly host: string;
  readonly address: string;
}

/** Decides over a connection at the moment it is made: a sentence that says why not, or undefined to go ahead. */
export type ConnectRule = (target: ConnectTarget) => string | undefined;

/**
 * Decides over a host name that a proxy on the way would resolve, so that its address stays unknown here: `go` leaves it to
 * the proxy, `resolve` looks it up here, has the address judged, and gives the proxy that instead of the name.
 */
export type NameRule = (host: string) => "go" | "resolve" | { readonly refused: string };

export interface ConnectRuleOptions {
  /** As in the configuration, for messages. */
  readonly upstream: string;
  readonly allow: readonly string[];
  readonly classify: (address: string) => AddressClass;
  /** Made on behalf of a client's host name rather than the operator's configuration: the registry itself must be public. */
  readonly dynamic: boolean;
}

export interface ConnectRules {
  /** For the registry's origin and what else the operator wrote down. */
  readonly own: ConnectRule;
  /** For where redirects and untold token realms lead. */
  readonly foreign: ConnectRule;
  /** The same two, for names behind a proxy. Literal addresses are judged as anywhere. */
  readonly behindProxy: { readonly own: NameRule; readonly foreign: NameRule };
}

/**
 * The addresses that an upstream may make Weir connect to (design, section 3 "Redirects"). The registry's own address decides
 * whether private ones are at home here: it counts as private while every address seen for it was.
 */
export function createConnectRules(options: ConnectRuleOptions): ConnectRules {
  const listed = compileAddressList(options.allow);
  const unlisted = (host: string, kind: AddressClass): string =>
    `${host} is at a ${kind} address; list it under upstreams.${options.upstream}.redirects.allow if it is meant to be reached`;
  let ownAddress: "unknown" | "private" | "public" = "unknown";

  return {
    own: ({ host, address }) => {
      const kind = options.classify(address);
      if (options.dynamic && kind !== "public") {
        return `${host} is at a ${kind} address, and hosts that are not configured must be public`;
      }
      const atHome = kind === "private" || kind === "loopback";
      ownAddress = atHome && ownAddress !== "public" ? "private" : "public";
      return undefined;
    },
    foreign: ({ host, address }) => {
      const kind = options.classify(address);
      const atHome = kind === "private" && ownAddress === "private";
      if (kind === "public" || atHome || listed(host, address)) {
        return undefined;
      }
      return unlisted(host, kind);
    },
    behindProxy: {
      own: () => (options.dynamic ? "resolve" : "go"),
      foreign: (host) => {
        if (options.dynamic) {
          return "resolve";
        }
        return isThisMachine(foldHost(host)) && !listed(host, "") ? { refused: unlisted(host, "loopback") } : "go";
      },
    },
  };
}
