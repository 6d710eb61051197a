import type { Clock } from "../base/clock.ts";
import { FairSemaphore } from "../base/fair-semaphore.ts";
import type { Log } from "../base/log.ts";
import type {
  CredentialConfig,
  EndpointConfig,
  EnvironmentProxies,
  LimitsConfig,
  UpstreamConfig,
} from "../config/types.ts";
import type { Reference } from "../oci/reference.ts";
import { adapterOf } from "./adapters/index.ts";
import { type AddressClass, classifyAddress } from "./address.ts";
import { Authenticator } from "./auth.ts";
import { Breakers } from "./breakers.ts";
import { DistributionClient } from "./client.ts";
import { createConnectRules } from "./connect-rule.ts";
import { createCredentialPool } from "./credentials/create-pool.ts";
import type { CredentialPool } from "./credentials/credential.ts";
import type { ParkedCredentials } from "./credentials/parked.ts";
import type { CredentialObserver } from "./credentials/pool.ts";
import { EndpointChain } from "./endpoint-chain.ts";
import { Exchange } from "./exchange.ts";
import { FirstLogins } from "./first-logins.ts";
import { headManifest } from "./manifest-calls.ts";
import type { QuotaContext, Quotas } from "./quota.ts";
import { createQuotas } from "./quotas.ts";
import type { ReceiveMemory } from "./receive-memory.ts";
import { RegistryCalls } from "./registry-calls.ts";
import { TokenService } from "./tokens.ts";
import { createTransport, type Lookup } from "./transport.ts";
import type { Upstream, UpstreamObserver } from "./upstream.ts";

export interface UpstreamDeps {
  readonly clock: Clock;
  /** From 0 to 1, for the spread of retries and of a breaker's probes. */
  random(): number;
  readonly log: Log;
  readonly observer: UpstreamObserver;
  /** Credentials that were refused, beyond a restart. */
  readonly parked: ParkedCredentials;
  readonly credentialObserver: CredentialObserver;
  /** What the limits of all upstreams share. */
  readonly quotas: QuotaContext;
  readonly limits: LimitsConfig;
  /** Says what kind of network an address is in; tests put loopback where they need it. */
  readonly classifyAddress?: (ip: string) => AddressClass;
  /** Name resolution; the system's if left out. */
  readonly lookup?: Lookup;
  /** The environment's, for upstreams without a proxy of their own. */
  readonly proxies?: EnvironmentProxies | undefined;
  /** What the connections of all upstreams share; each has its own if left out. */
  readonly memory?: ReceiveMemory;
  /** Made for a host that a client named: the registry must then have public addresses only. */
  readonly dynamic?: boolean;
}

/** Puts one upstream together. Makes no connection; throws when a TLS file that the configuration names cannot be read. */
export function createUpstream(config: UpstreamConfig, deps: UpstreamDeps): Upstream {
  const isOnly = config.endpoints.length === 1;
  const [first, ...others] = config.endpoints.map((endpoint, i) =>
    createClient(config, endpoint, { ...deps, isFirst: i === 0, isOnly }),
  );
  if (first === undefined) {
    throw new RangeError(`${config.name} has no endpoint`);
  }
  return isOnly ? first : new EndpointChain({ first, others, clock: deps.clock, random: () => deps.random() });
}

/** Where an endpoint stands among the upstream's. */
export interface Place {
  readonly isFirst: boolean;
  readonly isOnly: boolean;
}

/** What one endpoint is asked with. */
export interface EndpointParts {
  readonly calls: RegistryCalls;
  readonly exchange: Exchange;
  readonly credentials: CredentialPool;
  readonly quotas: Quotas;
  readonly breakers: Breakers;
  /** Credentials that are for this endpoint. */
  readonly configured: readonly CredentialConfig[];
  /** It is shown a client certificate, by which it knows Weir whatever else is sent. */
  readonly certified: boolean;
  /** Ends every connection. */
  close(): Promise<void>;
}

function createClient(config: UpstreamConfig, endpoint: EndpointConfig, deps: UpstreamDeps & Place): Upstream {
  const parts = createEndpoint(config, endpoint, deps);
  const { calls, credentials, quotas, breakers, configured, certified, close } = parts;
  return new DistributionClient({
    name: config.name,
    origin: endpoint.url.origin,
    breakers,
    calls,
    credentials,
    quotas,
    configured,
    certified,
    retire() {
      breakers.retire();
      quotas.close();
      credentials.close();
    },
    close,
  });
}

/** As {@link createUpstream}, for one of its endpoints. */
export function createEndpoint(
  config: UpstreamConfig,
  endpoint: EndpointConfig,
  deps: UpstreamDeps & Place,
): EndpointParts {
  const { clock, log, observer, limits, isFirst, isOnly } = deps;
  const random = (): number => deps.random();
  const { name } = config;
  const adapter = adapterOf(endpoint.type, isFirst ? name : endpoint.url.host);
  const rules = createConnectRules({
    upstream: name,
    allow: config.redirects.allow,
    classify: deps.classifyAddress ?? classifyAddress,
    dynamic: deps.dynamic ?? false,
  });
  // What the client certificate stands for is no more for every endpoint than the credentials are.
  const mayShowCertificate = isFirst || endpoint.credentials.length > 0;
  const transport = createTransport({
    upstream: mayShowCertificate ? config : withoutClientCertificate(config),
    registry: endpoint.url.origin,
    clock,
    rules,
    maxHeaderBytes: limits.responseHeaders,
    lookup: deps.lookup,
    proxies: deps.proxies,
    memory: deps.memory,
  });
  const breakers = new Breakers({ upstream: name, registry: endpoint.url.origin, clock, random, observer });
  const exchange = new Exchange({ upstream: name, registry: endpoint.url, transport, breakers, clock, observer });
  const configured = config.credentials.filter(({ label }) => endpoint.credentials.includes(label));
  const { quotaProbe } = adapter;
  const quotas = createQuotas({
    upstream: name,
    registry: endpoint.url.origin,
    rules: adapter,
    credentials: configured.map(({ label }) => label),
    probeEveryMs: config.quotaProbeMs,
    probe: async (credential, o) => {
      if (quotaProbe === undefined) return;
      const reference: Reference = { kind: "tag", tag: quotaProbe.reference };
      await headManifest(calls, quotaProbe.repository, reference, o, { credential });
    },
    context: deps.quotas,
    clock,
    random,
    log,
  });
  const credentials = createCredentialPool({
    upstream: config,
    endpoint,
    quotaLeft: (label) => quotas.left(label),
    parked: deps.parked,
    observer: deps.credentialObserver,
    clock,
    log,
  });
  const logins = new FirstLogins({ upstream: name, clock });
  const tokens = new TokenService({ upstream: name, adapter, exchange, quotas, logins, clock, random });
  const calls = new RegistryCalls({
    upstream: config,
    endpoint,
    adapter,
    credentials,
    quotas,
    exchange,
    auth: new Authenticator({ upstream: config, registry: endpoint.url, adapter, tokens }),
    logins,
    bodies: new FairSemaphore(config.maxConnections),
    retries: isOnly,
    clock,
    random,
    log,
    limits,
  });
  return {
    calls,
    exchange,
    credentials,
    quotas,
    breakers,
    configured,
    certified: mayShowCertificate && config.tls.cert !== undefined,
    async close() {
      await transport.close();
      breakers.clear();
      quotas.close();
      credentials.close();
    },
  };
}

function withoutClientCertificate(config: UpstreamConfig): UpstreamConfig {
  return { ...config, tls: { ...config.tls, cert: undefined, key: undefined } };
}
