/** A host as it may stand in an image reference: letters, digits, dots and dashes, or an IPv6 literal; perhaps a port. */
const HOST =
  /^(?:(?:[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*\.?|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i;

/** DNS names end at 253 characters; a port comes on top. */
const MAX_HOST_LENGTH = 259;

/** One spelling for a host: lower case, no trailing dot, no default port. */
export function foldHost(host: string): string {
  const folded = host.toLowerCase();
  const [, name = folded, port = ""] = /^(.*?)(:\d+)?$/s.exec(folded) ?? [];
  return (name.endsWith(".") ? name.slice(0, -1) : name) + (port === ":443" ? "" : port);
}

export function isHost(text: string): boolean {
  return text.length <= MAX_HOST_LENGTH && HOST.test(text);
}

/** What a reference takes for a host and not for the first part of a repository's name. */
export function looksLikeHost(component: string): boolean {
  return isHost(component) && (/[.:]/.test(component) || component.toLowerCase() === "localhost");
}

/**
 * A DNS name with a dot. IP addresses are out in every notation: to resolvers and URL parsers, a name whose last label is a
 * number is an IPv4 address (`127.1`, `0x7f.1`).
 */
export function isDialable(host: string): boolean {
  const name = foldHost(host).replace(/:\d+$/, "");
  const lastLabel = name.slice(name.lastIndexOf(".") + 1);
  return (
    isHost(name) &&
    name.includes(".") &&
    !name.startsWith("[") &&
    !/^(?:\d+|0x[0-9a-f]*)$/.test(lastLabel) &&
    lastLabel !== "localhost"
  );
}
