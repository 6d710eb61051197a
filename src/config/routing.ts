import { z } from "zod";
import type { RoutingConfig } from "./types.ts";
import { glob, mapping, upstreamName, value } from "./values.ts";

/** No host is called so, since an upstream's name has a dot or a colon. */
const NO_DEFAULT = "none";

export const routingSchema = mapping({
  default: value(
    "the name of a configured upstream, or none",
    (input) => (input === NO_DEFAULT ? NO_DEFAULT : typeof input === "string" ? input.toLowerCase() : undefined),
    { type: "string" },
  )
    .optional()
    .describe("Upstream of requests that name none, as dockerd sends them: docker.io where it is configured, or none."),
  hosts: z
    .record(z.string(), upstreamName)
    .prefault({})
    .describe("Virtual hosts: requests for this host name, without port, go to that upstream and to no other."),
  dynamic: mapping({
    allow: z
      .array(glob)
      .prefault([])
      .describe("Globs over registry hosts that are served, anonymously, without being configured."),
  })
    .prefault({})
    .describe("Upstreams that are not configured."),
})
  .prefault({})
  .describe("Which upstream a request is for.");

export type ParsedRouting = z.output<typeof routingSchema>;

const VIRTUAL_HOST = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/;

/**
 * Resolves names and aliases to configured upstreams.
 *
 * @param canonical the upstream's own name for a name or alias; undefined where there is none
 * @param report takes the path below `routing`, and what is wrong there
 */
export function routingConfig(
  parsed: ParsedRouting,
  canonical: (name: string) => string | undefined,
  report: (path: readonly string[], message: string) => void,
): RoutingConfig {
  const hosts = new Map<string, string>();
  for (const [written, target] of Object.entries(parsed.hosts)) {
    const host = written.toLowerCase().replace(/\.$/, "");
    const upstream = canonical(target);
    if (!VIRTUAL_HOST.test(host)) {
      report(["hosts", written], "expected a host name without port, such as hub.mirror.example");
    } else if (hosts.has(host)) {
      report(["hosts", written], `the host ${host} is there twice`);
    } else if (upstream === undefined) {
      report(["hosts", written], `no upstream is called ${target}`);
    } else {
      hosts.set(host, upstream);
    }
  }
  return {
    default: defaultUpstream(parsed.default, canonical, report),
    hosts,
    dynamic: { allow: parsed.dynamic.allow },
  };
}

function defaultUpstream(
  written: string | undefined,
  canonical: (name: string) => string | undefined,
  report: (path: readonly string[], message: string) => void,
): string | undefined {
  if (written === undefined) {
    return canonical("docker.io");
  }
  if (written === NO_DEFAULT) {
    return undefined;
  }
  const name = canonical(written);
  if (name === undefined) {
    report(["default"], `no upstream is called ${written}; expected a configured one, or none`);
  }
  return name;
}
