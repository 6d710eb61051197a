import ipaddr from "ipaddr.js";
import { z } from "zod";
import { compileGlob } from "../base/glob.ts";
import { formatDuration, formatSize, parseDuration, parseSize } from "../base/units.ts";
import { probeImagePattern } from "../oci/image-pattern.ts";
import { foldUpstreamName, parseHost } from "./hosts.ts";
import { parseProxyAddress } from "./proxies.ts";
import { closest } from "./spelling.ts";
import type { ListenAddress, ProxyConfig } from "./types.ts";

/** What a value says about itself when it is wrong; see `describeIssue`. */
export interface IssueParams {
  /** "expected <this>, got <the value>". */
  readonly expected?: string;
  /** Says everything by itself. */
  readonly sentence?: string;
}

/** A value that is understood but not accepted, with the whole reason. */
export class Refusal {
  readonly sentence: string;

  constructor(sentence: string) {
    this.sentence = sentence;
  }
}

type JsonSchema = Readonly<Record<string, unknown>>;

/** So that editors do not mark `"${PORT}"` where a number or one of a few words is expected. */
const INTERPOLATED: JsonSchema = { type: "string", pattern: "\\$\\{" };

/** A single value: `parse` gives undefined for what is not `expected`. */
export function value<T>(expected: string, parse: (value: unknown) => T | undefined | Refusal, json: JsonSchema) {
  return z
    .unknown()
    .transform((input, ctx): T => {
      const parsed = parse(input);
      if (parsed instanceof Refusal) {
        ctx.addIssue(issue(input, { sentence: parsed.sentence }));
        return z.NEVER;
      }
      if (parsed === undefined) {
        ctx.addIssue(issue(input, { expected }));
        return z.NEVER;
      }
      return parsed;
    })
    .meta({ ...json });
}

function issue(input: unknown, params: IssueParams) {
  return { code: "custom" as const, input, params: { ...params } };
}

/** A mapping with these keys and no others. */
export function mapping<S extends z.ZodRawShape>(shape: S) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    // One line a key, in the order of `issue.keys`.
    error: (issue) =>
      issue.code === "unrecognized_keys" ? issue.keys.map((key) => unknownKey(key, known)).join("\n") : undefined,
  });
}

function unknownKey(key: string, known: readonly string[]): string {
  const meant = closest(key, known);
  return meant === undefined
    ? `there is no such key; expected one of ${known.join(", ")}`
    : `there is no such key; did you mean ${meant}?`;
}

/** Milliseconds. */
export function duration(bounds: { readonly min: string; readonly max: string }) {
  const parse = durationWithin(bounds);
  return value(
    `a duration from ${bounds.min} to ${bounds.max}, such as 500ms, 90s, 10m, 12h or 7d`,
    (input) => (typeof input === "string" ? parse(input) : undefined),
    { type: "string", pattern: "^\\d+(ms|s|m|h|d)$|\\$\\{" },
  );
}

/** Milliseconds, or undefined for what is no duration or lies outside. */
export function durationWithin(bounds: { readonly min: string; readonly max: string }) {
  const min = parseDuration(bounds.min) ?? 0;
  const max = parseDuration(bounds.max) ?? 0;
  return (text: string): number | undefined => {
    const ms = parseDuration(text);
    return ms !== undefined && ms >= min && ms <= max ? ms : undefined;
  };
}

/** Bytes. */
export function size(bounds: { readonly min: number; readonly max: number }) {
  return value(
    `a size from ${formatSize(bounds.min)} to ${formatSize(bounds.max)}, such as 64KiB, 4MiB or 200GiB`,
    (input) => {
      const bytes = typeof input === "string" || typeof input === "number" ? parseSize(String(input)) : undefined;
      return bytes !== undefined && bytes >= bounds.min && bytes <= bounds.max ? bytes : undefined;
    },
    { type: ["string", "integer"], pattern: "^\\d+([KMGT]i?B|B)?$|\\$\\{" },
  );
}

export function integer(bounds: { readonly min: number; readonly max: number }) {
  return value(
    `a whole number from ${bounds.min} to ${bounds.max}`,
    (input) => {
      const number = typeof input === "string" && /^\d+$/.test(input) ? Number(input) : input;
      return typeof number === "number" && Number.isInteger(number) && number >= bounds.min && number <= bounds.max
        ? number
        : undefined;
    },
    { type: ["integer", "string"], minimum: bounds.min, maximum: bounds.max, pattern: "^\\d+$|\\$\\{" },
  );
}

export const flag = value(
  "true or false",
  (input) => {
    if (typeof input === "boolean") {
      return input;
    }
    return input === "true" || input === "false" ? input === "true" : undefined;
  },
  { anyOf: [{ type: "boolean" }, { enum: ["true", "false"] }, INTERPOLATED] },
);

/** One of a few words or numbers. */
export function choice<const T extends string | number>(values: readonly T[]) {
  return value(
    values.length === 1 ? String(values[0]) : `one of ${values.join(", ")}`,
    (input) =>
      typeof input === "string" || typeof input === "number"
        ? values.find((candidate) => String(candidate) === String(input))
        : undefined,
    { anyOf: [{ enum: values }, INTERPOLATED] },
  );
}

export const text = value(
  "text that is not empty (a number or a word like true or null goes in quotes)",
  (input) => (typeof input === "string" && input !== "" && !input.includes("\0") ? input : undefined),
  { type: "string", minLength: 1 },
);

/** As written; relative ones are resolved against the working directory later. */
export const filePath = value(
  "a path",
  (input) => (typeof input === "string" && input !== "" && !input.includes("\0") ? input : undefined),
  { type: "string", minLength: 1 },
);

export const listenAddress = value(
  "an address such as 127.0.0.1:5000, [::1]:5000, or :5000 for every IPv4 address",
  (input) => (typeof input === "string" ? parseListenAddress(input) : undefined),
  { type: "string", pattern: ":\\d+$|\\$\\{" },
);

function parseListenAddress(input: string): ListenAddress | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(input);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535 || (match[1] !== undefined && !ipaddr.IPv6.isValid(match[1]))) {
    return undefined;
  }
  const host = (match[1] ?? match[2] ?? "").toLowerCase();
  return { host: host === "" ? "0.0.0.0" : host, port };
}

export const endpoint = value(
  "an address such as https://registry.example or http://127.0.0.1:5000, without path, query, user name or password",
  (input) => (typeof input === "string" ? parseEndpoint(input) : undefined),
  { type: "string", pattern: "^https?://[^/?#@]+/?$|\\$\\{" },
);

function parseEndpoint(input: string): URL | undefined {
  if (!/^https?:\/\/[^/?#@\\\s]+\/?$/i.test(input) || !URL.canParse(input)) {
    return undefined;
  }
  return new URL(input);
}

export const upstreamName = value(
  "a registry's host name as it stands in image references, such as quay.io or registry.example:5000",
  (input) => (typeof input === "string" ? foldUpstreamName(input) : undefined),
  { type: "string" },
);

export const realmHost = value(
  "a host, with its port if it is not 443, such as auth.example or auth.example:8443",
  (input) => (typeof input === "string" ? parseHost(input) : undefined),
  { type: "string" },
);

export const redirectTarget = value(
  "a host without port, an address or a CIDR, such as minio.internal, 10.1.2.3 or 10.0.0.0/8",
  (input) => {
    if (typeof input !== "string") {
      return undefined;
    }
    if (ipaddr.isValid(input) || ipaddr.isValidCIDR(input)) {
      return input.toLowerCase();
    }
    return input.includes(":") ? undefined : parseHost(input);
  },
  { type: "string" },
);

export const network = value(
  "an address or a CIDR, such as 10.1.2.3, 10.0.0.0/8 or fd00::/8",
  (input) =>
    typeof input === "string" && (isAddress(input) || (input.includes("/") && ipaddr.isValidCIDR(input)))
      ? input.toLowerCase()
      : undefined,
  { type: "string" },
);

/** As it is written everywhere: to ipaddr.js, `10.1` and `0x0a000001` are addresses too. */
function isAddress(input: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(input) || (ipaddr.IPv6.isValid(input) && !input.includes("%"));
}

/** Checked here; compiled by whoever uses it. */
export const glob = value(
  "a glob such as myorg/* or **",
  (input) => (typeof input === "string" ? checkedBy(compileGlob, input) : undefined),
  { type: "string", minLength: 1 },
);

export const imagePattern = value(
  "a repository, such as library/* or **, perhaps with :<tag>, :/<regex>/ or @<digest>",
  (input) => (typeof input === "string" ? checkedBy(probeImagePattern, input) : undefined),
  { type: "string", minLength: 1 },
);

export const platform = value(
  "<os>/<architecture>, such as linux/amd64 or windows/amd64",
  (input) => (typeof input === "string" && /^[a-z0-9]+\/[a-z0-9]+$/.test(input) ? input : undefined),
  { type: "string", pattern: "^[a-z0-9]+/[a-z0-9]+$|\\$\\{" },
);

export const proxyAddress = value(
  "none, or a proxy's address such as http://proxy.example:3128 or https://user:password@proxy.example",
  (input): ProxyConfig | "none" | undefined =>
    input === "none" ? input : typeof input === "string" ? parseProxyAddress(input) : undefined,
  { type: "string", pattern: "^none$|^https?://[^/?#]+/?$|\\$\\{" },
);

/** The text itself, or why `compile` does not take it. */
export function checkedBy(compile: (text: string) => unknown, input: string): string | Refusal {
  try {
    compile(input);
    return input;
  } catch (error) {
    return new Refusal(error instanceof Error ? error.message : String(error));
  }
}

/** The largest delay of a Node timer is a little under 25 days; what waits is bounded well below. */
export const TIMER = { min: "1ms", max: "1h" } as const;

/** For ages of records, which are compared and never waited for. */
export const AGE = { min: "0s", max: formatDuration(3650 * 86_400_000) } as const;
