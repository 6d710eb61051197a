import { isIP } from "node:net";
import type { EnvironmentProxies, ProxyConfig, UpstreamConfig } from "../config/types.ts";
import { classifyAddress, compileAddressList, foldHost } from "./address.ts";

/** Where a connection is wanted; a `URL` is one. */
export interface Destination {
  /** `http:` or `https:`. */
  readonly protocol: string;
  /** IPv6 with or without brackets. */
  readonly hostname: string;
  /** Empty for the protocol's own. */
  readonly port: string;
}

/** Which way an upstream's connections take. */
export interface Egress {
  /** Undefined = straight there. */
  proxyFor(destination: Destination): ProxyConfig | undefined;
}

const DIRECT: Egress = { proxyFor: () => undefined };

/**
 * A proxy of the upstream's own is the way to everything of it. Otherwise the environment decides as it does for Go's
 * programs, container engines among them: NO_PROXY lists exceptions, and this machine itself is never behind a proxy.
 */
export function createEgress(configured: UpstreamConfig["proxy"], environment: EnvironmentProxies | undefined): Egress {
  if (configured === "none") {
    return DIRECT;
  }
  if (configured !== undefined) {
    return { proxyFor: () => configured };
  }
  if (environment?.https === undefined && environment?.http === undefined) {
    return DIRECT;
  }
  const { https, http, except } = environment;
  const exceptions = except.map(compileException);
  return {
    proxyFor(destination) {
      const proxy = destination.protocol === "https:" ? https : http;
      if (proxy === undefined) {
        return undefined;
      }
      const host = foldHost(destination.hostname.replace(/^\[(.*)\]$/, "$1"));
      const port = destination.port || (destination.protocol === "https:" ? "443" : "80");
      const direct = isThisMachine(host) || exceptions.some((matches) => matches(host, port));
      return direct ? undefined : proxy;
    },
  };
}

export function isThisMachine(host: string): boolean {
  return (
    host === "localhost" || host.endsWith(".localhost") || (isIP(host) !== 0 && classifyAddress(host) === "loopback")
  );
}

/** One entry of NO_PROXY: `*`, `example.com` (with all below it), `.example.com` or `*.example.com` (all below it), an address, a CIDR; a port restricts it. */
function compileException(entry: string): (host: string, port: string) => boolean {
  if (entry === "*") {
    return () => true;
  }
  if (entry.includes("/") || isIP(entry) !== 0) {
    const listed = compileAddressList([entry]);
    return (host) => isIP(host) !== 0 && listed(host, host);
  }
  const [, name = entry, onlyPort] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(entry) ?? [];
  const exact = foldHost(name);
  const suffix = exact.startsWith("*.") ? exact.slice(1) : exact;
  const below = suffix.startsWith(".") ? suffix : `.${suffix}`;
  return (host, port) => (onlyPort === undefined || onlyPort === port) && (host === suffix || host.endsWith(below));
}
