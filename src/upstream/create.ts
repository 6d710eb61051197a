import type { Clock } from "../base/clock.ts";
import { FairSemaphore } from "../base/fair-semaphore.ts";
import type { Log } from "../base/log.ts";
import type { LimitsConfig, UpstreamConfig } from "../config/types.ts";
import { adapterOf } from "./adapters/index.ts";
import { type AddressClass, classifyAddress } from "./address.ts";
import { Authenticator } from "./auth.ts";
import { Breakers } from "./breakers.ts";
import { DistributionClient } from "./client.ts";
import { createConnectRules } from "./connect-rule.ts";
import { compileCredentials } from "./credentials/select.ts";
import { Exchange } from "./exchange.ts";
import { TokenService } from "./tokens.ts";
import { createTransport, type Lookup } from "./transport.ts";
import type { Upstream, UpstreamObserver } from "./upstream.ts";

export interface UpstreamDeps {
  readonly clock: Clock;
  /** From 0 to 1, for the spread of retries and of a breaker's probes. */
  random(): number;
  readonly log: Log;
  readonly observer: UpstreamObserver;
  readonly limits: LimitsConfig;
  /** Says what kind of network an address is in; tests put loopback where they need it. */
  readonly classifyAddress?: (ip: string) => AddressClass;
  /** Name resolution; the system's if left out. */
  readonly lookup?: Lookup;
  /** Made for a host that a client named: the registry must then have public addresses only. */
  readonly dynamic?: boolean;
}

/** Puts one upstream together. Makes no connection; throws when a TLS file that the configuration names cannot be read. */
export function createUpstream(config: UpstreamConfig, deps: UpstreamDeps): Upstream {
  const { clock, log, observer, limits } = deps;
  const random = (): number => deps.random();
  const adapter = adapterOf(config.type);
  const rules = createConnectRules({
    upstream: config.name,
    allow: config.redirects.allow,
    classify: deps.classifyAddress ?? classifyAddress,
    dynamic: deps.dynamic ?? false,
  });
  const transport = createTransport({
    upstream: config,
    clock,
    rules,
    maxHeaderBytes: limits.responseHeaders,
    lookup: deps.lookup,
  });
  const breakers = new Breakers({ upstream: config.name, registry: config.endpoint.origin, clock, random, observer });
  const exchange = new Exchange({ upstream: config, transport, breakers, clock, observer });
  const tokens = new TokenService({ upstream: config.name, exchange, clock, random });
  return new DistributionClient({
    upstream: config,
    adapter,
    credentialFor: compileCredentials(config.credentials),
    exchange,
    auth: new Authenticator({ upstream: config, adapter, tokens }),
    bodies: new FairSemaphore(config.maxConnections),
    clock,
    random,
    log,
    limits,
    retire: () => breakers.retire(),
    close: async () => {
      await transport.close();
      breakers.clear();
    },
  });
}
