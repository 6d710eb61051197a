import { resolve } from "node:path";
import { z } from "zod";
import { credentialConfigs, credentialSchema } from "./credentials.ts";
import { checkEndpoints, endpointConfigs, endpointsSchema } from "./endpoints.ts";
import { overlayFreshness, upstreamFreshnessSchema } from "./freshness.ts";
import { foldUpstreamName } from "./hosts.ts";
import { quotaProbe, quotaProbeMs, quotaProbeProblem } from "./quota-probe.ts";
import { SPACE } from "./room.ts";
import type { FreshnessConfig, UpstreamConfig } from "./types.ts";
import { guessType, UPSTREAM_TYPES } from "./upstream-type.ts";
import {
  choice,
  duration,
  filePath,
  flag,
  imagePattern,
  integer,
  mapping,
  platform,
  proxyAddress,
  realmHost,
  redirectTarget,
  size,
  TIMER,
  upstreamName,
} from "./values.ts";

/** What serves where the configuration has no `upstreams`: the public registries, asked anonymously. */
export const BUILT_IN_UPSTREAMS = [
  "docker.io",
  "quay.io",
  "gcr.io",
  "registry.gitlab.com",
  "public.ecr.aws",
  "ghcr.io",
  "registry.k8s.io",
  "mcr.microsoft.com",
] as const;

const DOCKER_HUB = "docker.io";

/** Other names under which clients know Docker Hub; its API is on registry-1 only. */
const DOCKER_HUB_ALIASES = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

export const upstreamSchema = mapping({
  type: choice(UPSTREAM_TYPES)
    .optional()
    .describe("How it differs from other registries; told by its name when left out."),
  aliases: z
    .array(upstreamName)
    .prefault([])
    .describe("Other names for it; docker.io has those of Docker Hub without being told."),
  endpoints: endpointsSchema,
  credentials: z.array(credentialSchema).prefault([]).describe("What Weir signs in with; anonymous without."),
  realms: z
    .array(realmHost)
    .prefault([])
    .describe("Hosts of token servers that are trusted with the credentials beyond those that the type trusts."),
  redirects: mapping({
    allow: z
      .array(redirectTarget)
      .prefault([])
      .describe("Hosts, addresses and CIDRs that blobs may be redirected to although they are private or local."),
  })
    .prefault({})
    .describe("Where its redirects may lead."),
  freshness: upstreamFreshnessSchema.optional(),
  timeouts: mapping({
    connect: duration(TIMER).prefault("5s").describe("For a connection, TLS included."),
    headers: duration(TIMER).prefault("15s").describe("From the request to the headers of the answer."),
    body: duration(TIMER).prefault("30s").describe("Between two pieces of a body."),
  })
    .prefault({})
    .describe("How long the upstream may take."),
  maxConnections: integer({ min: 1, max: 10_000 }).prefault(64).describe("Connections to one of its origins at once."),
  tls: mapping({
    ca: filePath.optional().describe("PEM file with the authorities to trust instead of the system's."),
    cert: filePath.optional().describe("PEM file with a client certificate; needs key."),
    key: filePath.optional().describe("PEM file with the client certificate's private key."),
    insecureSkipVerify: flag.prefault(false).describe("Accepts any certificate. For tests."),
  })
    .prefault({})
    .describe("TLS towards it."),
  maxSize: size(SPACE)
    .optional()
    .describe("How much of its blobs may be held; storage.maxSize bounds all upstreams together."),
  budgetStatus: choice([429, 503])
    .prefault(503)
    .describe(
      "Answer to requests with ?ns= while the upstream's quota is spent; containerd repeats a 429 at once, and moves on after a 503.",
    ),
  quotaProbe,
  sendNs: flag.prefault(false).describe("Sends ?ns= to it; for a Weir behind a Weir."),
  allow: z
    .array(imagePattern)
    .prefault([])
    .describe("Repositories, tags and digests that are served; everything when it is empty."),
  deny: z
    .array(imagePattern)
    .prefault([])
    .describe("Repositories, tags and digests that are not served; wins over allow."),
  platforms: z
    .array(platform)
    .prefault([])
    .describe("What is served of images for several platforms, such as linux/amd64; all of it when it is empty."),
  frozen: flag.prefault(false).describe("Serves what is held, and asks the upstream nothing on behalf of clients."),
  proxy: proxyAddress
    .optional()
    .describe("HTTP proxy on the way to it, or none; HTTPS_PROXY, HTTP_PROXY and NO_PROXY decide when left out."),
}).prefault({});

export const upstreamsSchema = z
  .record(z.string(), upstreamSchema)
  .optional()
  .describe("By the name that stands in image references. When the section is left out, the built-in upstreams serve.");

export type ParsedUpstream = z.output<typeof upstreamSchema>;

/** Takes a path below `upstreams`, and what is wrong there. */
type Report = (path: readonly (string | number)[], message: string) => void;

/** Reports whatever does not go together within one upstream; undefined when that leaves nothing to use. */
export function upstreamConfig(
  written: string,
  parsed: ParsedUpstream,
  globalFreshness: FreshnessConfig,
  cwd: string,
  report: Report,
): UpstreamConfig | undefined {
  const name = foldUpstreamName(written);
  if (name === undefined) {
    report(
      [written],
      "expected a registry's host name as it stands in image references, such as quay.io or registry.example:5000",
    );
    return undefined;
  }
  if (DOCKER_HUB_ALIASES.includes(name)) {
    report([written], `${name} is another name of ${DOCKER_HUB}; configure ${DOCKER_HUB}`);
    return undefined;
  }
  const assembled = assemble(name, parsed, globalFreshness, cwd);
  const credentials = credentialConfigs(parsed.credentials, { upstream: assembled, cwd }, (path, message) =>
    report([written, "credentials", ...path], message),
  );
  const config = { ...assembled, credentials };
  checkEndpoints(
    config.endpoints,
    parsed.credentials.map(({ label }) => label),
    (path, message) => report([written, ...path], message),
  );
  checkTls(written, config, report);
  checkPatterns(written, config, report);
  const probeProblem = quotaProbeProblem(parsed.quotaProbe, config.type);
  if (probeProblem !== undefined) {
    report([written, "quotaProbe"], probeProblem);
  }
  return config;
}

/** An upstream that nobody configured, for `routing.dynamic`: anonymous, with all defaults. `host` is lower case. */
export function defaultUpstream(host: string, globalFreshness: FreshnessConfig): UpstreamConfig {
  return assemble(host, upstreamSchema.parse(undefined), globalFreshness, "/");
}

function assemble(name: string, parsed: ParsedUpstream, globalFreshness: FreshnessConfig, cwd: string): UpstreamConfig {
  const type = parsed.type ?? guessType(name);
  return {
    name,
    type,
    aliases: name === DOCKER_HUB ? [...new Set([...DOCKER_HUB_ALIASES, ...parsed.aliases])] : parsed.aliases,
    endpoints: endpointConfigs(parsed.endpoints, { name, type, labels: parsed.credentials.map(({ label }) => label) }),
    credentials: [],
    realms: parsed.realms,
    redirects: { allow: parsed.redirects.allow },
    allow: parsed.allow,
    deny: parsed.deny,
    platforms: parsed.platforms,
    frozen: parsed.frozen,
    proxy: parsed.proxy,
    freshness: overlayFreshness(globalFreshness, parsed.freshness),
    timeouts: {
      connectMs: parsed.timeouts.connect,
      headersMs: parsed.timeouts.headers,
      bodyMs: parsed.timeouts.body,
    },
    maxConnections: parsed.maxConnections,
    maxSize: parsed.maxSize,
    tls: {
      ca: absolute(cwd, parsed.tls.ca),
      cert: absolute(cwd, parsed.tls.cert),
      key: absolute(cwd, parsed.tls.key),
      insecureSkipVerify: parsed.tls.insecureSkipVerify,
    },
    budgetStatus: parsed.budgetStatus,
    // What is frozen is not asked what is left of its quota, either.
    quotaProbeMs: parsed.frozen ? undefined : quotaProbeMs(parsed.quotaProbe, type),
    sendNs: parsed.sendNs,
  };
}

/** Maps every name and alias to its upstream's name, and reports those that more than one upstream claims. */
export function nameTable(upstreams: readonly UpstreamConfig[], report: Report): ReadonlyMap<string, string> {
  const owners = new Map<string, string>();
  for (const upstream of upstreams) {
    if (owners.has(upstream.name)) {
      report([upstream.name], "there are two upstreams of this name, which is read without regard to case");
    }
    owners.set(upstream.name, upstream.name);
  }
  for (const upstream of upstreams) {
    for (const alias of upstream.aliases) {
      const owner = owners.get(alias);
      if (owner !== undefined && owner !== upstream.name) {
        report([upstream.name, "aliases"], `${alias} already means the upstream ${owner}`);
      }
      owners.set(alias, owner ?? upstream.name);
    }
  }
  return owners;
}

function checkTls(written: string, { endpoints, tls }: UpstreamConfig, report: Report): void {
  const { ca, cert, key, insecureSkipVerify } = tls;
  const isSet = ca !== undefined || cert !== undefined || key !== undefined || insecureSkipVerify;
  const [plain] = endpoints;
  if (isSet && plain !== undefined && endpoints.every(({ url }) => url.protocol === "http:")) {
    report([written, "tls"], `has no effect, since the endpoint ${plain.url.origin} is plain HTTP`);
  }
  if ((cert === undefined) !== (key === undefined)) {
    report([written, "tls"], "cert and key go together; one of them is missing");
  }
}

/** A pattern that names the upstream itself would silently never match. */
function checkPatterns(written: string, config: UpstreamConfig, report: Report): void {
  for (const list of ["allow", "deny"] as const) {
    for (const [i, pattern] of config[list].entries()) {
      const own = [config.name, ...config.aliases].find((name) => pattern.toLowerCase().startsWith(`${name}/`));
      if (own !== undefined) {
        report([written, list, i], `the upstream is ${config.name} already; leave ${own}/ out, as in library/*`);
      }
    }
  }
}

function absolute(cwd: string, path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(cwd, path);
}
