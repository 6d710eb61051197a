/** A transport by itself, over a configuration as an operator would write it. */
import { systemClock } from "../../../src/base/system-clock.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import { environmentProxies } from "../../../src/config/proxies.ts";
import type { UpstreamConfig } from "../../../src/config/types.ts";
import { type AddressClass, classifyAddress } from "../../../src/upstream/address.ts";
import { createConnectRules } from "../../../src/upstream/connect-rule.ts";
import { createTransport, type Lookup, type Side, type Transport } from "../../../src/upstream/transport.ts";

export interface TransportBenchOptions {
  /** The section of the upstream `reg.example`. */
  readonly upstream?: Readonly<Record<string, unknown>>;
  readonly env?: NodeJS.ProcessEnv;
  readonly lookup?: Lookup;
  readonly classify?: (address: string) => AddressClass;
  readonly dynamic?: boolean;
}

export interface TransportBench {
  readonly transport: Transport;
  /** Status and body. */
  get(url: string | URL, side?: Side, headers?: Readonly<Record<string, string>>): Promise<[number, string]>;
}

export function upstreamOf(section: Readonly<Record<string, unknown>>): UpstreamConfig {
  const parsed = parseConfig({ upstreams: { "reg.example": section } }, {});
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const [upstream] = parsed.config.upstreams;
  if (upstream === undefined) throw new Error("no upstream");
  return upstream;
}

/** Closed with `stack`. */
export function openTransport(stack: AsyncDisposableStack, options: TransportBenchOptions = {}): TransportBench {
  const upstream = upstreamOf(options.upstream ?? {});
  const transport = createTransport({
    upstream,
    registry: upstream.endpoints[0]?.url.origin ?? "",
    clock: systemClock,
    rules: createConnectRules({
      upstream: upstream.name,
      allow: upstream.redirects.allow,
      classify: options.classify ?? classifyAddress,
      dynamic: options.dynamic ?? false,
    }),
    maxHeaderBytes: 64 * 1024,
    lookup: options.lookup,
    proxies: environmentProxies(options.env ?? {}),
  });
  stack.defer(() => transport.close());
  return {
    transport,
    async get(url, side = "own", headers = {}) {
      const { status, body } = await transport.send({
        method: "GET",
        url: new URL(url),
        headers,
        lane: "documents",
        side,
        signal: new AbortController().signal,
        received: () => {},
      });
      const chunks: Buffer[] = [];
      for await (const chunk of body) chunks.push(Buffer.from(chunk));
      return [status, Buffer.concat(chunks).toString()];
    },
  };
}
