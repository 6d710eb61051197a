import type { UpstreamConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { compileImagePattern, type ImagePattern } from "../oci/image-pattern.ts";
import type { Platform } from "../oci/manifest.ts";
import type { Reference } from "../oci/reference.ts";

/**
 * What of an upstream may be served, to whomever (`upstreams.<name>.allow`, `deny`, `platforms` and `frozen`). Each function
 * gives the configuration key that forbids it, or undefined. Pure: nothing is asked, and what is held does not count.
 */
export interface ContentRules {
  /** The repository as such: its tag list, its place in the catalog. */
  repository(repository: string): string | undefined;
  /** A manifest by what the client calls it. */
  manifest(repository: string, reference: Reference): string | undefined;
  /** A blob, or a manifest that a tag or an index has led to. */
  content(repository: string, digest: Digest): string | undefined;
  /** An image that an index lists for that platform; undefined where all are served. */
  readonly platform: ((platform: Platform) => string | undefined) | undefined;
  /** Set where the upstream is not asked for what is not held. */
  readonly frozen: string | undefined;
}

/** Where nothing is configured. */
export const NO_CONTENT_RULES: ContentRules = {
  repository: () => undefined,
  manifest: () => undefined,
  content: () => undefined,
  platform: undefined,
  frozen: undefined,
};

interface Rule {
  readonly key: string;
  readonly pattern: ImagePattern;
}

/**
 * `deny` wins over `allow`; where `allow` has entries, everything else is denied.
 *
 * A rule with a tag judges requests by tag only: the same manifest by its digest is another request. An `allow` entry with a
 * tag therefore opens its repository to requests by digest, since the images below an index, and blobs, have no other name.
 * One with a digest opens it to manifests of that digest, and to blobs.
 *
 * @param normalise a repository's full name at this upstream: `nginx` is `library/nginx` on Docker Hub
 * @throws Error where an entry cannot be compiled, which a checked configuration has none of
 */
export function compileContentRules(
  { name, allow, deny, platforms, frozen }: Pick<UpstreamConfig, "name" | "allow" | "deny" | "platforms" | "frozen">,
  normalise: (repository: string) => string,
): ContentRules {
  const others = {
    platform: platforms.length === 0 ? undefined : platformRule(`upstreams.${name}.platforms`, new Set(platforms)),
    frozen: frozen ? `upstreams.${name}.frozen` : undefined,
  };
  if (allow.length === 0 && deny.length === 0) {
    return { ...NO_CONTENT_RULES, ...others };
  }
  const compile = (entries: readonly string[], list: string): readonly Rule[] =>
    entries.map((entry, i) => ({
      key: `upstreams.${name}.${list}[${i}]`,
      pattern: compileImagePattern(entry, normalise),
    }));
  const denied = compile(deny, "deny");
  const allowed = compile(allow, "allow");
  const allowKey = `upstreams.${name}.allow`;

  const forbids = (repository: string, fits: (pattern: ImagePattern) => boolean): string | undefined =>
    denied.find(({ pattern }) => fits(pattern) && pattern.repository(repository))?.key;
  const unlisted = (repository: string, fits: (pattern: ImagePattern) => boolean): string | undefined =>
    allowed.length === 0 || allowed.some(({ pattern }) => fits(pattern) && pattern.repository(repository))
      ? undefined
      : allowKey;

  return {
    repository: (repository) => forbids(repository, ({ part }) => part === "all") ?? unlisted(repository, () => true),
    manifest: (repository, reference) =>
      reference.kind === "tag"
        ? (forbids(repository, (pattern) => pattern.part === "all" || hasTag(pattern, reference.tag)) ??
          unlisted(repository, (pattern) => pattern.part === "all" || hasTag(pattern, reference.tag)))
        : (forbids(repository, (pattern) => pattern.part === "all" || hasDigest(pattern, reference.digest)) ??
          unlisted(repository, (pattern) => pattern.part !== "digest" || hasDigest(pattern, reference.digest))),
    content: (repository, digest) =>
      forbids(repository, (pattern) => pattern.part === "all" || hasDigest(pattern, digest)) ??
      unlisted(repository, () => true),
    ...others,
  };
}

/** What says of itself that it is for no platform, such as an attestation, belongs to whatever it lies beside. */
function platformRule(key: string, kept: ReadonlySet<string>): ContentRules["platform"] {
  return ({ os, architecture }) =>
    kept.has(`${os}/${architecture}`) || (os === "unknown" && architecture === "unknown") ? undefined : key;
}

function hasTag(pattern: ImagePattern, tag: string): boolean {
  return pattern.part === "tag" && pattern.tag(tag);
}

function hasDigest(pattern: ImagePattern, digest: Digest): boolean {
  return pattern.part === "digest" && pattern.digest === digest;
}
