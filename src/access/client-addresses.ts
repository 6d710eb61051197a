import type { AccessConfig } from "../config/types.ts";
import { AccessDeniedError } from "./denied-error.ts";
import { compileNetworks, type Networks, normaliseAddress } from "./networks.ts";

/** Who may come in at a listener, by address. */
export interface AddressGate {
  /** @throws AccessDeniedError naming the key; `client` undefined = not known, which no list has */
  admit(client: string | undefined): void;
}

/**
 * `deny` wins over `allow`; where `allow` has entries, everybody else is denied. An address that is not known is let in only
 * where there are no lists.
 *
 * @param section the configuration's, for messages: `access`
 */
export function createAddressGate(section: string, { allow, deny }: Pick<AccessConfig, "allow" | "deny">): AddressGate {
  const allowed = compileNetworks(allow);
  const denied = compileNetworks(deny);
  return {
    admit(client) {
      if (allowed.size === 0 && denied.size === 0) {
        return;
      }
      const refuse = (key: string, why: string): never => {
        throw new AccessDeniedError(
          "address",
          key,
          `requests from ${client ?? "an unknown address"} are refused: ${why}`,
        );
      };
      if (client === undefined) {
        return refuse(`${section}.${allowed.size > 0 ? "allow" : "deny"}`, "it cannot be held against the lists");
      }
      const at = denied.find(client);
      if (at !== undefined) {
        const key = `${section}.deny[${at}]`;
        return refuse(key, `${key} has it`);
      }
      if (allowed.size > 0 && allowed.find(client) === undefined) {
        const key = `${section}.allow`;
        return refuse(key, `${key} does not have it`);
      }
    },
  };
}

/**
 * Finds out who a request is from. Each proxy appends whom it got the request from to `X-Forwarded-For`, so the list is true
 * from its right end up to the first address that is not a trusted proxy's: that is the client, and what stands left of it may
 * be made up.
 */
export class ClientAddresses {
  readonly #trusted: Networks;

  /** @param trustedProxies addresses and CIDRs */
  constructor(trustedProxies: readonly string[]) {
    this.#trusted = compileNetworks(trustedProxies);
  }

  /** Whether the other end of a connection is a trusted proxy. */
  isProxy(peer: string | undefined): boolean {
    const address = peer === undefined ? undefined : normaliseAddress(peer);
    return address !== undefined && this.#trusted.find(address) !== undefined;
  }

  /**
   * The client's address; undefined where a trusted proxy names something that is none.
   *
   * @param peer the other end of the connection
   * @param forwardedFor the header, lines joined with commas; undefined when there is none
   */
  of(peer: string | undefined, forwardedFor: string | undefined): string | undefined {
    const address = peer === undefined ? undefined : normaliseAddress(peer);
    if (address === undefined || forwardedFor === undefined || this.#trusted.find(address) === undefined) {
      return address;
    }
    let client: string | undefined = address;
    for (const hop of forwardedFor.split(",").reverse()) {
      client = normaliseAddress(withoutPort(hop.trim()));
      if (client === undefined || this.#trusted.find(client) === undefined) {
        break;
      }
    }
    return client;
  }
}

/** Some proxies write the port behind the address: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function withoutPort(hop: string): string {
  return /^\[([^\]]*)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
}
