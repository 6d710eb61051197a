import { readFileSync } from "node:fs";
import { isIP, type LookupFunction } from "node:net";
import { getCACertificates } from "node:tls";
import { buildConnector } from "undici";
import type { Clock } from "../base/clock.ts";
import type { ProxyConfig, UpstreamConfig } from "../config/types.ts";
import type { ConnectRules } from "./connect-rule.ts";
import type { Destination, Egress } from "./egress.ts";
import type { LargeReads } from "./large-reads.ts";
import type { Lookup, ResolvedAddress, Side } from "./transport.ts";
import { AddressRefusedError, asError, ProxyError } from "./transport-error.ts";
import { openTunnel } from "./tunnel.ts";

/** Node kills an attempt at one of several addresses after 250 ms, which is less than a far registry's handshake takes. */
const ADDRESS_ATTEMPT_MS = 500;

export interface ConnectorOptions {
  readonly upstream: UpstreamConfig;
  /** Origin that the client certificate is for. */
  readonly registry: string;
  readonly clock: Clock;
  readonly rules: ConnectRules;
  readonly reads: LargeReads;
  readonly egress: Egress;
  readonly resolve: Lookup;
}

type Target = buildConnector.Options;
type Connector = buildConnector.connector;
type Connected = Parameters<Parameters<Connector>[1]>;

/**
 * How connections of one side are made: straight, or through a proxy. The rule about addresses is asked about each of them at
 * the moment of connecting, so that a name that resolves differently from one look-up to the next gains nothing. One
 * forbidden address among several is enough to refuse the host.
 *
 * Reads the TLS files that the configuration names; throws with the key when one cannot be read.
 */
export function createConnector(options: ConnectorOptions, side: Side): Connector {
  const { upstream, registry, rules, egress, resolve } = options;
  const rule = rules[side];
  const judged: Lookup = async (hostname) => {
    const addresses = await resolve(hostname);
    for (const { address } of addresses) {
      const refusal = rule({ host: hostname, address });
      if (refusal !== undefined) {
        throw new AddressRefusedError(refusal);
      }
    }
    return addresses;
  };
  const common = {
    allowH2: false,
    timeout: upstream.timeouts.connectMs,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
  };
  const tls = readTls(upstream);
  const straight = { ...common, lookup: asNodes(judged) };
  // Behind TLS bytes come in records of 16 KiB at most, however they are read.
  const inTheClear: Connector = (target, callback) => {
    const reading = options.reads.connection();
    buildConnector({ ...straight, ...reading.options })(target, (...connected) => {
      const [, socket] = connected;
      if (socket !== null) reading.attach(socket);
      callback(...connected);
    });
  };
  const connectors = (certificate: ClientCertificate): Readonly<Record<"straight" | "throughTunnel", Connector>> => ({
    straight: buildConnector({ ...tls, ...certificate, ...straight }),
    throughTunnel: buildConnector({ ...tls, ...certificate, ...common }),
  });
  const toRegistry = connectors(side === "own" ? readClientCertificate(upstream) : {});
  const toOthers = connectors({});
  const connectorsFor = ({ protocol, host = "" }: Target): typeof toOthers =>
    new URL(`${protocol}//${host}`).origin === registry ? toRegistry : toOthers;
  // The operator wrote its address down, so nothing is judged; its certificate is checked whatever the upstream's is.
  const toProxy = buildConnector({ ...tls, rejectUnauthorized: true, ...common, lookup: asNodes(resolve) });

  const tunnel = async (target: Target, proxy: ProxyConfig, address: string): Promise<Connected> => {
    const socket = await dial(toProxy, proxy);
    if (target.protocol !== "https:") {
      return [null, socket];
    }
    const authority = `${isIP(address) === 6 ? `[${address}]` : address}:${destinationOf(target).port || "443"}`;
    const { clock } = options;
    await openTunnel(socket, { proxy, authority, timeoutMs: upstream.timeouts.connectMs, clock });
    return await new Promise((done) => {
      // TLS that fails takes the connection below it along.
      connectorsFor(target).throughTunnel({ ...target, httpSocket: socket }, (...connected) => done(connected));
    });
  };

  /** What the proxy is to connect to: the name, or the address that it was found to have here. */
  const throughProxy = async (target: Target, proxy: ProxyConfig, literal: string | undefined): Promise<Connected> => {
    if (literal !== undefined) {
      return await tunnel(target, proxy, literal);
    }
    const { hostname } = target;
    const decision = rules.behindProxy[side](hostname);
    if (decision === "go") {
      return await tunnel(target, proxy, hostname);
    }
    if (decision !== "resolve") {
      throw new AddressRefusedError(decision.refused);
    }
    if (target.protocol !== "https:") {
      throw new AddressRefusedError(
        `${hostname} is not asked in the clear through a proxy, which would resolve its name`,
      );
    }
    const [first] = await judged(hostname);
    if (first === undefined) {
      throw noAddress(hostname);
    }
    return await tunnel(target, proxy, first.address);
  };

  return (target, callback) => {
    const bare = target.hostname.replace(/^\[(.*)\]$/, "$1");
    const literal = isIP(bare) === 0 ? undefined : bare;
    const refusal = literal === undefined ? undefined : rule({ host: literal, address: literal });
    if (refusal !== undefined) {
      queueMicrotask(() => callback(new AddressRefusedError(refusal), null));
      return;
    }
    const proxy = egress.proxyFor(destinationOf(target));
    if (proxy === undefined) {
      const connect = target.protocol === "http:" ? inTheClear : connectorsFor(target).straight;
      connect(target, callback);
      return;
    }
    throughProxy(target, proxy, literal).then(
      (connected) => callback(...connected),
      (error: unknown) => callback(asError(error), null),
    );
  };
}

function dial(connect: Connector, { url }: ProxyConfig): Promise<NonNullable<Connected[1]>> {
  const { protocol, hostname, host, port } = url;
  return new Promise((resolve, reject) => {
    connect({ protocol, hostname, host, port }, (error, socket) => {
      if (error !== null) {
        const code = "code" in error ? ` (${String(error.code)})` : "";
        reject(new ProxyError(`the proxy ${host} cannot be reached${code}`, { cause: error }));
      } else {
        resolve(socket);
      }
    });
  });
}

function destinationOf({ protocol, hostname, port }: Target): Destination {
  return { protocol, hostname, port: port ?? "" };
}

function asNodes(lookup: Lookup): LookupFunction {
  return (hostname, wanted, callback) => {
    const failed = (error: unknown): void => callback(asError(error), "", 0);
    lookup(hostname).then((addresses: readonly ResolvedAddress[]) => {
      const [first] = addresses;
      if (first === undefined) {
        failed(noAddress(hostname));
      } else if (wanted.all === true) {
        callback(null, [...addresses]);
      } else {
        callback(null, first.address, first.family);
      }
    }, failed);
  };
}

function noAddress(hostname: string): Error {
  return new Error(`${hostname} has no address`);
}

/** The operator's CAs count beside the usual ones, and everywhere. Throws with the key when its file cannot be read. */
export function readTls(upstream: UpstreamConfig): TrustedAuthorities {
  const ca = readTlsFile(upstream, "ca");
  return {
    rejectUnauthorized: !upstream.tls.insecureSkipVerify,
    ...(ca === undefined ? {} : { ca: [...getCACertificates("default"), ca] }),
  };
}

export interface TrustedAuthorities {
  readonly rejectUnauthorized: boolean;
  /** PEM texts; the system's where it is left out. */
  readonly ca?: string[];
}

/** PEM texts. */
export interface ClientCertificate {
  readonly cert?: string;
  readonly key?: string;
}

/** For the registry's own origin, as its credentials are: whoever else asks for it learns nothing. */
export function readClientCertificate(upstream: UpstreamConfig): ClientCertificate {
  const cert = readTlsFile(upstream, "cert");
  const key = readTlsFile(upstream, "key");
  return { ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) };
}

function readTlsFile(upstream: UpstreamConfig, key: "ca" | "cert" | "key"): string | undefined {
  const path = upstream.tls[key];
  if (path === undefined) {
    return undefined;
  }
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new Error(`upstreams.${upstream.name}.tls.${key}: cannot read ${path}`, { cause });
  }
}
