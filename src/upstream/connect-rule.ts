import { type AddressClass, compileAddressList } from "./address.ts";

/** One connection about to be made: the name asked for and the address that it turned out to be. */
export interface ConnectTarget {
  readonly host: string;
  readonly address: string;
}

/** Decides over a connection at the moment it is made: a sentence that says why not, or undefined to go ahead. */
export type ConnectRule = (target: ConnectTarget) => string | undefined;

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
}

/**
 * The addresses that an upstream may make Weir connect to (design, section 3 "Redirects"). The registry's own address decides
 * whether private ones are at home here: it counts as private while every address seen for it was.
 */
export function createConnectRules(options: ConnectRuleOptions): ConnectRules {
  const listed = compileAddressList(options.allow);
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
      return `${host} is at a ${kind} address; list it under upstreams.${options.upstream}.redirects.allow if it is meant to be reached`;
    },
  };
}
