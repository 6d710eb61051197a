import type { Digest } from "../oci/digest.ts";

/** The entity tag of content with that digest: strong, since the digest names the bytes. */
export function entityTag(digest: Digest): string {
  return `"${digest}"`;
}

/** One member of a list of entity tags: quoted, perhaps weak, or bare as some registry clients send it. */
const ENTITY_TAG = /(?:W\/)?"([^"]*)"|([^\s,"]+)/g;

/**
 * Whether `If-None-Match` names the content, so that the answer is 304 (RFC 9110, 13.1.2, weak comparison). Takes `*`,
 * lists, weak tags and bare digests.
 */
export function matchesEntityTag(ifNoneMatch: string | undefined, digest: Digest): boolean {
  if (ifNoneMatch === undefined) {
    return false;
  }
  if (ifNoneMatch.trim() === "*") {
    return true;
  }
  for (const [, quoted, bare] of ifNoneMatch.matchAll(ENTITY_TAG)) {
    if ((quoted ?? bare) === digest) {
      return true;
    }
  }
  return false;
}

/**
 * Whether a `Range` counts in view of `If-Range` (RFC 9110, 13.1.5, strong comparison). A date never matches, since no
 * answer carries `Last-Modified`.
 */
export function rangeApplies(ifRange: string | readonly string[] | undefined, digest: Digest): boolean {
  return ifRange === undefined || ifRange === entityTag(digest) || ifRange === digest;
}
