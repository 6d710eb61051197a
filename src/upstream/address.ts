import ipaddr from "ipaddr.js";

/**
 * What kind of network an address belongs to. `private` includes carrier-grade NAT and unique local addresses,
 * `link-local` the cloud metadata addresses, `other` everything that nobody has a registry on (unspecified, multicast,
 * reserved, documentation, broadcast).
 */
export type AddressClass = "public" | "private" | "loopback" | "link-local" | "other";

type Ip = ReturnType<typeof ipaddr.parse>;
type Ipv6 = InstanceType<typeof ipaddr.IPv6>;

/** Classes by ipaddr.js range; a range that is not here is `other`. */
const CLASS_OF_RANGE: Readonly<Record<string, AddressClass>> = {
  unicast: "public",
  private: "private",
  uniqueLocal: "private",
  carrierGradeNat: "private",
  deprecatedSiteLocal: "private",
  loopback: "loopback",
  linkLocal: "link-local",
};

/**
 * Classifies an IPv4 or IPv6 address. IPv6 forms that carry an IPv4 address (mapped, NAT64, 6to4, RFC 6145) count as what
 * they carry, since that is where a packet to them ends up. Text that is no address is `other`.
 */
export function classifyAddress(ip: string): AddressClass {
  const address = parseAddress(ip);
  if (address === undefined) {
    return "other";
  }
  const range: string = address.range();
  // Of the IPv6 space only 2000::/3 is handed out; the rest of what ipaddr.js calls unicast leads nowhere public.
  if (isIpv6(address) && range === "unicast" && ((address.parts[0] ?? 0) & 0xe000) !== 0x2000) {
    return "other";
  }
  return CLASS_OF_RANGE[range] ?? "other";
}

/**
 * Compiles a list of host names, addresses and CIDRs (`redirects.allow`) into a test over a connection's host and the
 * address it resolved to. Host names compare case-insensitively and whole.
 */
export function compileAddressList(entries: readonly string[]): (host: string, address: string) => boolean {
  const hosts = new Set<string>();
  const networks: [Ip, number][] = [];
  for (const entry of entries) {
    const bare = entry.replace(/^\[(.*)\]$/, "$1");
    if (ipaddr.isValidCIDR(bare)) {
      networks.push(ipaddr.parseCIDR(bare));
    } else if (ipaddr.isValid(bare)) {
      const address = ipaddr.process(bare);
      networks.push([address, isIpv6(address) ? 128 : 32]);
    } else {
      hosts.add(foldHost(entry));
    }
  }
  return (host, address) => {
    if (hosts.has(foldHost(host))) {
      return true;
    }
    const parsed = parseAddress(address);
    return (
      parsed !== undefined &&
      networks.some(([network, bits]) => network.kind() === parsed.kind() && parsed.match(network, bits))
    );
  };
}

/** Lower case, without the root's trailing dot. */
export function foldHost(host: string): string {
  return host.toLowerCase().replace(/\.$/, "");
}

function parseAddress(ip: string): Ip | undefined {
  if (!ipaddr.isValid(ip)) {
    return undefined;
  }
  const address = ipaddr.parse(ip);
  return isIpv6(address) ? (carriedIpv4(address) ?? address) : address;
}

function carriedIpv4(address: Ipv6): Ip | undefined {
  const range: string = address.range();
  const bytes = address.toByteArray();
  if (range === "ipv4Mapped" || range === "rfc6145") {
    return ipaddr.fromByteArray(bytes.slice(12));
  }
  // 64:ff9b::/96 only: in the local-use 64:ff9b:1::/48 the place of the IPv4 address depends on the network (RFC 8215).
  if (range === "rfc6052" && bytes.slice(4, 12).every((byte) => byte === 0)) {
    return ipaddr.fromByteArray(bytes.slice(12));
  }
  return range === "6to4" ? ipaddr.fromByteArray(bytes.slice(2, 6)) : undefined;
}

function isIpv6(address: Ip): address is Ipv6 {
  return address.kind() === "ipv6";
}
