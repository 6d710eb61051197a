/** Labels of letters, digits and inner hyphens, as image references have them; no underscore, which the storage layout needs for itself. */
const UPSTREAM_NAME = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::([1-9]\d{0,4}))?$/;

/** DNS allows 253 for the host; the rest is the port. */
const MAX_NAME_LENGTH = 253 + 6;

/**
 * The name of an upstream as it stands in an image reference, folded: lower case, without a trailing dot and without the
 * default port. Undefined where clients would take it for the first part of a repository instead of a host.
 */
export function foldUpstreamName(text: string): string | undefined {
  const lower = text
    .toLowerCase()
    .replace(/\.$/, "")
    .replace(/\.(?=:\d+$)/, "");
  const match = UPSTREAM_NAME.exec(lower);
  if (match === null || lower.length > MAX_NAME_LENGTH || Number(match[1] ?? 1) > 65_535) {
    return undefined;
  }
  const name = lower.replace(/:443$/, "");
  const folded = isHostLike(name) ? name : lower;
  return isHostLike(folded) ? folded : undefined;
}

function isHostLike(name: string): boolean {
  return name.includes(".") || name.includes(":") || name === "localhost";
}

/** A host with or without a port, IPv6 in brackets, in the form that `URL.host` has for https; undefined if it is something else. */
export function parseHost(text: string): string | undefined {
  if (!/^[A-Za-z0-9.:[\]-]+$/.test(text) || !URL.canParse(`https://${text}/`)) {
    return undefined;
  }
  return new URL(`https://${text}/`).host.replace(/\.(?=$|:)/, "");
}

/** True where what is sent to the host (as in `URL.hostname`) never leaves the machine. */
export function isLoopbackHost(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}
