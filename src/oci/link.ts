import { readQuoted } from "./quoted-text.ts";

/** One link of a `Link` header (RFC 8288 3). */
export interface Link {
  /** As it stands between the angle brackets: absolute or relative. */
  readonly url: string;
  /** The `rel` parameter; may hold several relations, parted by spaces. */
  readonly rel: string | undefined;
  /** By lower-case name; the first of two equal ones counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** A registry sends one; the rest would be somebody's attempt to keep us busy. */
const MAX_LINKS = 16;
const MAX_PARAMETERS = 16;

/** Reads a `Link` header, as much of it as makes sense. Never throws. */
export function parseLink(header: string): Link[] {
  const links: Link[] = [];
  let i = header.indexOf("<");
  while (i !== -1 && links.length < MAX_LINKS) {
    const close = header.indexOf(">", i);
    if (close === -1) {
      break;
    }
    const { parameters, end } = readParameters(header, close + 1);
    links.push({ url: header.slice(i + 1, close).trim(), rel: parameters.get("rel"), parameters });
    i = header.indexOf("<", end);
  }
  return links;
}

/** The value of a `Link` header that names the next page; the argument is a path with its query, escaped for a URL. */
export function formatNextLink(pathAndQuery: string): string {
  return `<${pathAndQuery}>; rel="next"`;
}

/** Reads `;name=value` as long as there are any; `end` is behind the comma that ends the link. */
function readParameters(header: string, start: number): { parameters: ReadonlyMap<string, string>; end: number } {
  const parameters = new Map<string, string>();
  let i = start;
  while (i < header.length && header[i] !== ",") {
    if (header[i] === ";") {
      const nameEnd = scan(header, i + 1, "=;,");
      const name = header
        .slice(i + 1, nameEnd)
        .trim()
        .toLowerCase();
      const value = header[nameEnd] === "=" ? readValue(header, nameEnd + 1) : { text: "", end: nameEnd };
      if (name !== "" && !parameters.has(name) && parameters.size < MAX_PARAMETERS) {
        parameters.set(name, value.text);
      }
      i = value.end;
    } else {
      i += 1;
    }
  }
  return { parameters, end: Math.min(i + 1, header.length) };
}

function readValue(header: string, start: number): { text: string; end: number } {
  let i = start;
  while (header[i] === " " || header[i] === "\t") {
    i += 1;
  }
  if (header[i] === '"') {
    return readQuoted(header, i);
  }
  const end = scan(header, i, ";,");
  return { text: header.slice(i, end).trim(), end };
}

/** The position of the next of `stops`, or the end. */
function scan(header: string, start: number, stops: string): number {
  let i = start;
  while (i < header.length && !stops.includes(header.charAt(i))) {
    i += 1;
  }
  return i;
}
