import { type Piece, readQuoted } from "./quoted-text.ts";

/** One challenge of a `WWW-Authenticate` header (RFC 9110 11.6.1). */
export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** By lower-case name; the first of two equal ones counts. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly token68?: string;
}

/** Registries send one or two; a header beyond these bounds is not a registry's. */
const MAX_CHALLENGES = 16;
const MAX_PARAMETERS = 64;
/** Characters of all headers together: a truncated realm would be worse than none, so a header that does not fit is left out whole. */
const MAX_LENGTH = 8192;

interface Draft {
  readonly scheme: string;
  readonly parameters: Map<string, string>;
  token68?: string;
}

/**
 * Reads the challenges of all `WWW-Authenticate` headers of an answer, in order, several in one header included. Takes
 * what registries really send: bare URLs as values, parameters parted by spaces, blanks around `=`, quotes never closed.
 * Never throws.
 */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  const challenges: Draft[] = [];
  let room = MAX_LENGTH;
  for (const header of headers) {
    if (header.length <= room) {
      room -= header.length;
      readHeader(header, challenges);
    }
  }
  return challenges.slice(0, MAX_CHALLENGES);
}

/** One challenge; parameters without a value are left out. Values are of our own making: no quotes, no control characters. */
export function formatChallenge(scheme: string, parameters: Readonly<Record<string, string | undefined>>): string {
  const written = Object.entries(parameters).flatMap(([name, value]) => {
    if (value !== undefined && !QUOTABLE.test(value)) {
      throw new RangeError(`${name} cannot stand in a challenge: ${JSON.stringify(value)}`);
    }
    return value === undefined ? [] : [`${name}="${value}"`];
  });
  return `${scheme} ${written.join(",")}`;
}

const QUOTABLE = /^[\x20-\x21\x23-\x5b\x5d-\x7e]*$/;

function readHeader(header: string, challenges: Draft[]): void {
  let current: Draft | undefined;
  let i = 0;
  while (i < header.length) {
    const name = readWhile(header, i, isTokenCharacter);
    if (name.text === "") {
      // A separator, or a character that has no business here.
      i = header[i] === '"' ? readQuoted(header, i).end : i + 1;
      continue;
    }
    const next = skipBlanks(header, name.end);
    if (header[next] === "=") {
      const value = readValue(header, skipBlanks(header, next + 1));
      keepParameter(current, name.text, value.text);
      i = value.end;
      continue;
    }
    current = { scheme: name.text.toLowerCase(), parameters: new Map() };
    challenges.push(current);
    const token68 = next > name.end ? readToken68(header, next) : undefined;
    if (token68 !== undefined) {
      current.token68 = token68.text;
    }
    i = token68?.end ?? next;
  }
}

function keepParameter(challenge: Draft | undefined, name: string, value: string): void {
  const parameters = challenge?.parameters;
  const key = name.toLowerCase();
  if (parameters !== undefined && !parameters.has(key) && parameters.size < MAX_PARAMETERS) {
    parameters.set(key, value);
  }
}

/** The blob of schemes such as `Negotiate`: it fills the place up to the next comma. Undefined when parameters stand there. */
function readToken68(header: string, start: number): Piece | undefined {
  const body = readWhile(header, start, isToken68Character);
  const padded = readWhile(header, body.end, (c) => c === "=");
  const after = skipBlanks(header, padded.end);
  const alone = after === header.length || header[after] === ",";
  return body.text !== "" && alone ? { text: body.text + padded.text, end: padded.end } : undefined;
}

function readValue(header: string, start: number): Piece {
  if (header[start] === '"') {
    return readQuoted(header, start);
  }
  // More than a token may hold: realms are sent without quotes too.
  return readWhile(header, start, (c) => c !== "," && c !== " " && c !== "\t");
}

function readWhile(header: string, start: number, accept: (character: string) => boolean): Piece {
  let end = start;
  while (end < header.length && accept(header.charAt(end))) {
    end += 1;
  }
  return { text: header.slice(start, end), end };
}

function skipBlanks(header: string, start: number): number {
  return readWhile(header, start, (c) => c === " " || c === "\t").end;
}

/** RFC 9110 5.6.2. */
function isTokenCharacter(character: string): boolean {
  return /[!#$%&'*+.^_`|~0-9A-Za-z-]/.test(character);
}

/** RFC 9110 11.2. */
function isToken68Character(character: string): boolean {
  return /[A-Za-z0-9._~+/-]/.test(character);
}
