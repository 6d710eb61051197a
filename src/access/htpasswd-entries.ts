import { quote } from "../base/quote.ts";

/** One person's line of an htpasswd file. */
export interface HtpasswdEntry {
  /** As bcrypt writes it. */
  readonly hash: string;
  /** Rounds, as a power of two. */
  readonly cost: number;
}

/** Hashes of a few thousand people; a mistaken path to something else is told from it. */
export const MAX_HTPASSWD_BYTES = 1 << 20;

/** Each more takes twice the time: this one takes a second or more, and clients wait for it. */
const MAX_COST = 15;

const MAX_NAME_LENGTH = 255;

const BCRYPT = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;

/** What else htpasswd writes, by how it begins. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [/^\$apr1\$/, "MD5 (apr1)"],
  [/^\{SHA\}/, "SHA-1"],
  [/^\$5\$/, "SHA-256"],
  [/^\$6\$/, "SHA-512"],
  [/^\$2/, "not a whole bcrypt hash"],
];

/** What is wrong with an htpasswd file, and in which line; shows nothing of a hash. */
export class HtpasswdError extends Error {
  override readonly name = "HtpasswdError";
}

/**
 * Reads an htpasswd file: `name:hash` a line, empty lines and those that begin with `#` apart.
 *
 * @throws HtpasswdError naming the line of the first thing that is wrong
 */
export function parseHtpasswd(text: string): ReadonlyMap<string, HtpasswdEntry> {
  const entries = new Map<string, HtpasswdEntry>();
  const lines = text.split(/\r?\n/);
  for (const [i, line] of lines.entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const wrong = (what: string): HtpasswdError => new HtpasswdError(`line ${i + 1}: ${what}`);
    const colon = line.indexOf(":");
    const name = line.slice(0, colon);
    const hash = line.slice(colon + 1).trimEnd();
    if (colon === -1) throw wrong("expected name:hash");
    if (name === "" || name.length > MAX_NAME_LENGTH || /\p{Cc}/u.test(name)) {
      throw wrong(`expected a name of 1 to ${MAX_NAME_LENGTH} characters in front of the colon`);
    }
    if (entries.has(name)) throw wrong(`${quote(name)} is there twice`);
    const cost = Number(BCRYPT.exec(hash)?.[1]);
    if (Number.isNaN(cost)) {
      const kind = OTHERS.find(([begins]) => begins.test(hash))?.[1] ?? "not a hash that Weir knows";
      throw wrong(`the password of ${quote(name)} is ${kind}; only bcrypt is taken, which htpasswd -B writes`);
    }
    if (cost < 4 || cost > MAX_COST) {
      throw wrong(`the password of ${quote(name)} has the cost ${cost}; from 4 to ${MAX_COST} is taken`);
    }
    entries.set(name, { hash, cost });
  }
  return entries;
}
