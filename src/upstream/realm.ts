import { createRequire } from "node:module";
import { isIP } from "node:net";
import type * as Tldts from "tldts";
import { foldHost } from "./address.ts";

const require = createRequire(import.meta.url);

/** Domains below which each name is another tenant's, though their owners have not entered them into the public suffix list. */
const TENANT_SUFFIXES: readonly string[] = [
  "azurecr.io",
  "azurecr.cn",
  "azurecr.us",
  "jfrog.io",
  "tencentcloudcr.com",
  "nip.io",
  "sslip.io",
  "svc.cluster.local",
];

export interface RealmRules {
  readonly endpoint: URL;
  /** Hosts that the adapter knows as the realm of its kind of registry. */
  readonly pinned: readonly string[];
  /** Hosts (`host` or `host:port`) from the configuration. */
  readonly listed: readonly string[];
  /** Whether a realm of the registry's own registrable domain is trusted. */
  readonly trustsSiblings: boolean;
}

/**
 * - `own`: the registry's own host, or one that the operator wrote down: gets credentials, and may have any address
 * - `trusted`: gets credentials, but only at an address that a redirect might lead to as well
 * - `foreign`: gets no credential, and the same rule about addresses
 * - `refused`: is not asked at all: a realm that is no http(s) URL, or a plain one for a registry that speaks TLS
 */
export type RealmTrust = "own" | "trusted" | "foreign" | "refused";

/** Decides what the token realm that a registry's challenge names may be told. */
export function judgeRealm(realm: URL, rules: RealmRules): RealmTrust {
  const plainDowngrade = realm.protocol === "http:" && rules.endpoint.protocol === "https:";
  if ((realm.protocol !== "http:" && realm.protocol !== "https:") || plainDowngrade) {
    return "refused";
  }
  const host = foldHost(realm.hostname);
  const listed = rules.listed.map((entry) => entry.toLowerCase());
  if (host === foldHost(rules.endpoint.hostname) || listed.includes(host) || listed.includes(realm.host)) {
    return "own";
  }
  if (rules.pinned.includes(host)) {
    return "trusted";
  }
  return rules.trustsSiblings && sameRegistrableDomain(host, foldHost(rules.endpoint.hostname)) ? "trusted" : "foreign";
}

/** With the private part of the public suffix list: two tenants of `github.io` are strangers. */
function sameRegistrableDomain(a: string, b: string): boolean {
  if (isIP(a.replace(/^\[|\]$/g, "")) !== 0) {
    return false;
  }
  const domain = registrableDomain(a);
  return domain !== undefined && domain === registrableDomain(b);
}

function registrableDomain(host: string): string | undefined {
  const suffix = TENANT_SUFFIXES.find((candidate) => host.endsWith(`.${candidate}`));
  if (suffix !== undefined) {
    const tenant = host
      .slice(0, -suffix.length - 1)
      .split(".")
      .at(-1);
    return `${tenant}.${suffix}`;
  }
  // Only now: the public suffix list is large, and most registries' realms are known without it.
  const { getDomain } = require("tldts") as typeof Tldts;
  return getDomain(host, { allowPrivateDomains: true }) ?? undefined;
}
