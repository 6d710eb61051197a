import { resolve } from "node:path";
import { z } from "zod";
import { Secret } from "../base/secret.ts";
import { overlayFreshness, upstreamFreshnessSchema } from "./freshness.ts";
import { foldUpstreamName, isLoopbackHost } from "./hosts.ts";
import type { CredentialConfig, FreshnessConfig, UpstreamConfig, UpstreamType } from "./types.ts";
import {
  choice,
  duration,
  endpoint,
  filePath,
  flag,
  glob,
  integer,
  later,
  mapping,
  NOT_BUILT_YET,
  realmHost,
  redirectTarget,
  TIMER,
  text,
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

const credentialSchema = mapping({
  label: text.describe("Names the credential in errors, logs and metrics."),
  username: text.describe("User name."),
  password: text.describe("Password or access token; better from a variable or a file than written here."),
  repositories: z
    .array(glob)
    .min(1)
    .optional()
    .describe("Globs over the upstream's repositories that it is for; all of them when left out."),
  dockerConfig: later("taking credentials from a docker config file"),
  aws: later("taking credentials from AWS"),
  gcp: later("taking credentials from Google Cloud"),
});

export const upstreamSchema = mapping({
  type: choice(["generic", "dockerhub"], ["quay", "gcr", "gitlab", "ecr", "ecr-public", "ghcr", "acr"])
    .optional()
    .describe("How it differs from others: dockerhub for docker.io, generic for every other name."),
  aliases: z
    .array(upstreamName)
    .prefault([])
    .describe("Other names for it; docker.io has those of Docker Hub without being told."),
  endpoints: z
    .array(endpoint)
    .min(1)
    .optional()
    .describe(
      "Where its API is, one address: https://registry-1.docker.io for dockerhub, else https://<name>. http:// is plain HTTP.",
    ),
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
  budgetStatus: choice([429, 503])
    .prefault(503)
    .describe(
      "Answer to requests with ?ns= while the upstream's quota is spent; containerd repeats a 429 at once, and moves on after a 503.",
    ),
  sendNs: flag.prefault(false).describe("Sends ?ns= to it; for a Weir behind a Weir."),
  allow: later("allowing or denying repositories of an upstream"),
  deny: later("allowing or denying repositories of an upstream"),
  proxy: later("reaching an upstream through a proxy"),
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
  const config = assemble(name, parsed, globalFreshness, cwd);
  checkEndpoint(written, parsed, config.endpoint, report);
  checkLabels(written, parsed, report);
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
    endpoint: parsed.endpoints?.[0] ?? new URL(defaultEndpoint(type, name)),
    credentials: parsed.credentials.map(toCredential),
    realms: parsed.realms,
    redirects: { allow: parsed.redirects.allow },
    freshness: overlayFreshness(globalFreshness, parsed.freshness),
    timeouts: {
      connectMs: parsed.timeouts.connect,
      headersMs: parsed.timeouts.headers,
      bodyMs: parsed.timeouts.body,
    },
    maxConnections: parsed.maxConnections,
    tls: {
      ca: absolute(cwd, parsed.tls.ca),
      cert: absolute(cwd, parsed.tls.cert),
      key: absolute(cwd, parsed.tls.key),
      insecureSkipVerify: parsed.tls.insecureSkipVerify,
    },
    budgetStatus: parsed.budgetStatus,
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

function guessType(name: string): UpstreamType {
  return name === DOCKER_HUB ? "dockerhub" : "generic";
}

function defaultEndpoint(type: UpstreamType, name: string): string {
  switch (type) {
    case "dockerhub":
      return "https://registry-1.docker.io";
    case "generic":
      return `https://${name}`;
  }
}

function checkEndpoint(name: string, parsed: ParsedUpstream, url: URL, report: Report): void {
  if ((parsed.endpoints?.length ?? 1) > 1) {
    report([name, "endpoints"], `more than one endpoint ${NOT_BUILT_YET}; leave one`);
  }
  const { ca, cert, key, insecureSkipVerify } = parsed.tls;
  if (url.protocol === "http:") {
    if (parsed.credentials.length > 0 && !isLoopbackHost(url.hostname)) {
      report(
        [name, "credentials"],
        `the password would travel in the clear to ${url.origin}; use an https:// endpoint, or leave the credentials out`,
      );
    }
    if (ca !== undefined || cert !== undefined || key !== undefined || insecureSkipVerify) {
      report([name, "tls"], `has no effect, since the endpoint ${url.origin} is plain HTTP`);
    }
  }
  if ((cert === undefined) !== (key === undefined)) {
    report([name, "tls"], "cert and key go together; one of them is missing");
  }
}

function checkLabels(name: string, parsed: ParsedUpstream, report: Report): void {
  const seen = new Set<string>();
  for (const [i, { label }] of parsed.credentials.entries()) {
    if (seen.has(label)) {
      report([name, "credentials", i, "label"], "another credential of this upstream has the same label");
    }
    seen.add(label);
  }
}

function toCredential(parsed: z.output<typeof credentialSchema>): CredentialConfig {
  return {
    label: parsed.label,
    username: parsed.username,
    password: new Secret(parsed.password),
    repositories: parsed.repositories,
  };
}

function absolute(cwd: string, path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(cwd, path);
}
