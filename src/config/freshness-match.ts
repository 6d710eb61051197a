import { compileGlob } from "../base/glob.ts";
import { compilePattern, probePattern } from "../base/pattern.ts";
import { quote } from "../base/quote.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { FreshnessConfig } from "./types.ts";

/** How long a tag is fresh, and by which rule. */
export interface Ttl {
  readonly ttlMs: number;
  /** Its `match` as written, or `default`. */
  readonly rule: string;
  /** Where it stands: `upstreams.docker.io.freshness.rules[0]`. */
  readonly key: string;
}

/** The rules of a freshness section, ready to be asked; first match wins (design section 7). */
export interface Freshness {
  ttlMs(repo: RepoRef, tag: string): Ttl;
}

/** @param upstream whose section it is; left out for the global one */
export function compileFreshness(config: FreshnessConfig, upstream?: string): Freshness {
  const own = config.own ?? { rules: 0, default: false };
  const sectionOf = (isOwn: boolean): string => (isOwn ? `upstreams.${upstream}.freshness` : "freshness");
  const rules = config.rules.map((rule, i) => {
    const isOwn = i < own.rules;
    const key = `${sectionOf(isOwn)}.rules[${isOwn ? i : i - own.rules}]`;
    return { matches: compileMatch(rule.match), ttl: { ttlMs: rule.ttlMs, rule: rule.match, key } };
  });
  const fallback: Ttl = { ttlMs: config.defaultMs, rule: "default", key: `${sectionOf(own.default)}.default` };
  return {
    ttlMs: (repo, tag) => rules.find((rule) => rule.matches(repo, tag))?.ttl ?? fallback,
  };
}

/**
 * Compiles `<upstream>/<repository>:<tag>`: globs in which `**` crosses `/`; the tag part may be a `/regex/` that must match
 * the whole tag.
 *
 * @throws Error with a sentence for the operator
 */
export function compileMatch(match: string): (repo: RepoRef, tag: string) => boolean {
  const parts = split(match);
  const matchesName = compileGlob(parts.name);
  const matchesTag = compilePattern(parts.tag);
  return (repo, tag) => matchesTag(tag) && matchesName(formatRepo(repo));
}

/**
 * Tries the tag part, if it is a `/regex/`, on what makes careless ones take for ever.
 *
 * @throws Error with a sentence for the operator
 */
export function probeMatch(match: string): void {
  probePattern(split(match).tag);
}

/** The part of a match that means repositories. */
export function matchName(match: string): string {
  return split(match).name;
}

function split(match: string): { readonly name: string; readonly tag: string } {
  const regexAt = match.indexOf(":/");
  if (regexAt !== -1 && match.endsWith("/") && match.length > regexAt + 3) {
    return { name: match.slice(0, regexAt), tag: match.slice(regexAt + 1) };
  }
  // Not the colon of a port, which has a slash behind it.
  const colon = match.lastIndexOf(":");
  if (colon < 1 || colon === match.length - 1 || match.indexOf("/", colon) !== -1) {
    throw new Error(
      `${quote(match)} has no tag part: expected <upstream>/<repository>:<tag>, such as **:latest or quay.io/**:*`,
    );
  }
  return { name: match.slice(0, colon), tag: match.slice(colon + 1) };
}
