import { isIP, isIPv4 } from "node:net";
import ipaddr from "ipaddr.js";

type Ip = ReturnType<typeof ipaddr.parse>;

/** A set of addresses. */
export interface Networks {
  readonly size: number;
  /** The place in the list of the first entry that has the address; undefined where none has, or it is no address. */
  find(address: string): number | undefined;
}

/**
 * Compiles addresses and CIDRs. An IPv4 address that is written in IPv6 (`::ffff:10.0.0.1`), as a listener on every address
 * sees it, is that IPv4 address, in entries too. No other form that carries an IPv4 address is: who comes from 6to4 or NAT64 is
 * not where that address is.
 *
 * @throws Error where an entry is neither, which a checked configuration has none of
 */
export function compileNetworks(entries: readonly string[]): Networks {
  const networks = entries.map(parseNetwork);
  return {
    size: networks.length,
    find(address) {
      const parsed = parseAddress(address);
      if (parsed === undefined) {
        return undefined;
      }
      const at = networks.findIndex(
        ([network, bits]) => network.kind() === parsed.kind() && parsed.match(network, bits),
      );
      return at === -1 ? undefined : at;
    },
  };
}

/** One spelling for an address: IPv4 as such, no zone; undefined for what is none. */
export function normaliseAddress(text: string): string | undefined {
  const bare = bareAddress(text);
  return isIPv4(bare) ? bare : parseAddress(bare)?.toString();
}

/** IPv6 networks are handed out in blocks of 2^64 addresses: whoever has one of them has all. */
const IPV6_CLIENT_BYTES = 8;

/** What counts as one client where the number of connections is limited; undefined for what is no address. */
export function clientNetwork(address: string): string | undefined {
  const bare = bareAddress(address);
  if (isIPv4(bare)) {
    return bare;
  }
  const parsed = parseAddress(bare);
  return parsed instanceof ipaddr.IPv6
    ? `${new ipaddr.IPv6([...parsed.toByteArray().slice(0, IPV6_CLIENT_BYTES), ...Array<number>(IPV6_CLIENT_BYTES).fill(0)])}/64`
    : parsed?.toString();
}

/** The bits of an IPv6 address in front of the IPv4 address that it carries. */
const MAPPED_BITS = 96;

function parseNetwork(entry: string): [Ip, number] {
  if (!entry.includes("/")) {
    const address = ipaddr.process(entry);
    return [address, address.kind() === "ipv4" ? 32 : 128];
  }
  const [network, bits] = ipaddr.parseCIDR(entry);
  if (network instanceof ipaddr.IPv6 && network.isIPv4MappedAddress() && bits >= MAPPED_BITS) {
    return [network.toIPv4Address(), bits - MAPPED_BITS];
  }
  return [network, bits];
}

function parseAddress(text: string): Ip | undefined {
  const bare = bareAddress(text);
  return isIP(bare) === 0 ? undefined : ipaddr.process(bare);
}

/** Without a zone, and without what makes IPv6 of an IPv4 address: parsing that costs far more, and each request has one. */
function bareAddress(text: string): string {
  const zone = text.indexOf("%");
  return (zone === -1 ? text : text.slice(0, zone)).replace(/^::ffff:(?=\d+\.)/i, "");
}
