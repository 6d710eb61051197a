import { z } from "zod";
import { isLoopbackHost } from "./hosts.ts";
import { isMapping, type Path } from "./tree.ts";
import type { EndpointConfig, UpstreamType } from "./types.ts";
import { guessType, UPSTREAM_TYPES } from "./upstream-type.ts";
import { choice, endpoint, mapping, text, value } from "./values.ts";

/** What can stand in front of a repository's name: the grammar of its components, without the bound on the whole. */
const PREFIX = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;

/** A longer one would leave no room for a repository within the 255 characters of a name. */
const MAX_PREFIX_LENGTH = 128;

const prefix = value(
  "a path such as mygroup/dependency_proxy/containers, as it stands in front of repositories",
  (input) => {
    const path = typeof input === "string" ? input.replace(/^\/|\/$/g, "") : "";
    return PREFIX.test(path) && path.length <= MAX_PREFIX_LENGTH ? path : undefined;
  },
  { type: "string", minLength: 1 },
);

const entry = mapping({
  url: endpoint.describe("Address of the API, without a path."),
  prefix: prefix.optional().describe("Path in front of every repository there."),
  type: choice(UPSTREAM_TYPES)
    .optional()
    .describe(
      "How it differs from other registries; told by its address, or the upstream's own for the first endpoint.",
    ),
  credentials: z
    .array(text)
    .optional()
    .describe("Labels of the upstream's credentials that are for it: all for the first endpoint, none for the others."),
});

const DOCKER_HUB_API = "https://registry-1.docker.io";

const JSON_SCHEMA = { io: "input", unrepresentable: "any" } as const;

function withoutDialect({
  $schema: _,
  ...schema
}: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return schema;
}

type ParsedEndpoint = z.output<typeof entry>;

/** An address, or a mapping with more to say about it. */
const endpointSchema = z
  .unknown()
  .transform((input, ctx): ParsedEndpoint => {
    const parsed = isMapping(input)
      ? entry.safeParse(input)
      : endpoint.transform((url): ParsedEndpoint => ({ url })).safeParse(input);
    if (parsed.success) {
      return parsed.data;
    }
    // They lose nothing on the way but the types that tie a code to its input.
    ctx.issues.push(...parsed.error.issues.map((issue) => ({ ...issue, input }) as z.core.$ZodRawIssue));
    return z.NEVER;
  })
  .meta({ anyOf: [z.toJSONSchema(endpoint, JSON_SCHEMA), z.toJSONSchema(entry, JSON_SCHEMA)].map(withoutDialect) });

export const endpointsSchema = z
  .array(endpointSchema)
  .min(1)
  .optional()
  .describe(
    "Where its API is, tried in order: addresses, or {url, prefix, type, credentials}. https://registry-1.docker.io for dockerhub, else https://<name>. http:// is plain HTTP.",
  );

/** What of an upstream decides over its endpoints. */
export interface EndpointContext {
  /** Of the upstream. */
  readonly name: string;
  readonly type: UpstreamType;
  /** Labels of its credentials. */
  readonly labels: readonly string[];
}

/** The endpoints in the order in which they are tried; at least one. */
export function endpointConfigs(
  parsed: z.output<typeof endpointsSchema>,
  { name, type, labels }: EndpointContext,
): readonly EndpointConfig[] {
  const written = parsed ?? [{ url: new URL(type === "dockerhub" ? DOCKER_HUB_API : `https://${name}`) }];
  return written.map(({ url, prefix = "", type: ownType, credentials }, i) => ({
    url,
    prefix,
    type: ownType ?? (i === 0 ? type : guessType(url.host)),
    // A second address is somebody else's until it is said that it is not.
    credentials: credentials ?? (i === 0 ? labels : []),
  }));
}

/** Reports what does not go together; `report` takes paths below the upstream. */
export function checkEndpoints(
  endpoints: readonly EndpointConfig[],
  labels: readonly string[],
  report: (path: Path, message: string) => void,
): void {
  const seen = new Set<string>();
  for (const [i, { url, prefix, credentials }] of endpoints.entries()) {
    const place = `${url.origin}/${prefix}`;
    if (seen.has(place)) {
      report(["endpoints", i], "another endpoint of this upstream is the same");
    }
    seen.add(place);
    for (const [j, label] of credentials.entries()) {
      if (!labels.includes(label)) {
        report(["endpoints", i, "credentials", j], "no credential of this upstream has this label");
      }
    }
    if (url.protocol === "http:" && credentials.length > 0 && !isLoopbackHost(url.hostname)) {
      report(
        i === 0 ? ["credentials"] : ["endpoints", i, "credentials"],
        `the password would travel in the clear to ${url.origin}; use an https:// endpoint, or leave the credentials out`,
      );
    }
  }
}
