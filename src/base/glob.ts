import { quote } from "./quote.ts";

/** Longer than any `<upstream>/<repository>:<tag>` can be. */
const MAX_GLOB_LENGTH = 512;

/** `segments` is a `**` with the `/` behind it: nothing at all, or any text that ends in `/`. */
type Token =
  | { readonly kind: "literal"; readonly character: string }
  | { readonly kind: "one" | "star" | "globstar" | "segments" };

/**
 * Compiles a glob over names such as `quay.io/coreos/etcd:v3.5`: `*` is any text without `/`, `**` any text, `?` one
 * character other than `/`, and a `**` with its slash may stand for nothing (`**` + `/nginx` matches `nginx`). Everything
 * else, dots included, means itself; characters that no name can hold (braces, brackets, negation) are refused, since such
 * a glob would silently never match. Matching takes time proportional to glob times name, whatever the glob.
 *
 * Glob packages let `**` cross `/` only where it fills a whole path segment, which `**:latest` does not.
 *
 * @throws Error with a sentence for the operator
 */
export function compileGlob(pattern: string): (name: string) => boolean {
  if (pattern.length === 0 || pattern.length > MAX_GLOB_LENGTH) {
    throw new Error(`the glob ${quote(pattern)} must have 1 to ${MAX_GLOB_LENGTH} characters`);
  }
  const foreign = /[^A-Za-z0-9._:/@*?-]/u.exec(pattern);
  if (foreign !== null) {
    throw new Error(
      `the glob ${quote(pattern)} contains ${quote(foreign[0])}, which is neither part of a name nor *, ** or ?`,
    );
  }
  const tokens = tokenize(pattern);
  const wildAt = tokens.findIndex(({ kind }) => kind !== "literal");
  if (wildAt === -1) {
    return (name) => name === pattern;
  }
  // Most names differ from most globs in what stands before the first wildcard, and many globs end there with `**`.
  const start = pattern.slice(0, wildAt);
  const isOpen = wildAt === tokens.length - 1 && tokens[wildAt]?.kind === "globstar";
  return (name) => name.startsWith(start) && (isOpen || matches(tokens, name));
}

function tokenize(pattern: string): readonly Token[] {
  const tokens: Token[] = [];
  for (let i = 0; i < pattern.length; i += 1) {
    const character = pattern.charAt(i);
    if (character === "?") {
      tokens.push({ kind: "one" });
    } else if (character !== "*") {
      tokens.push({ kind: "literal", character });
    } else if (pattern[i + 1] !== "*") {
      tokens.push({ kind: "star" });
    } else {
      const wholeSegment = (i === 0 || pattern[i - 1] === "/") && pattern[i + 2] === "/";
      tokens.push({ kind: wholeSegment ? "segments" : "globstar" });
      i += wholeSegment ? 2 : 1;
    }
  }
  return tokens;
}

/** Follows all ways through the tokens at once (a set of positions), so that nothing is ever tried again. */
function matches(tokens: readonly Token[], name: string): boolean {
  let positions = enter(tokens, new Set(), 0);
  for (const character of name) {
    const next = new Set<number>();
    for (const position of positions) {
      step(tokens, next, position, character);
    }
    positions = next;
  }
  return positions.has(tokens.length);
}

/** Adds a position and those that follow it without a character, because the tokens between may match nothing. */
function enter(tokens: readonly Token[], positions: Set<number>, first: number): Set<number> {
  let position = first;
  positions.add(position);
  while (isOptional(tokens[position])) {
    position += 1;
    positions.add(position);
  }
  return positions;
}

function isOptional(token: Token | undefined): boolean {
  return token?.kind === "star" || token?.kind === "globstar" || token?.kind === "segments";
}

function step(tokens: readonly Token[], next: Set<number>, position: number, character: string): void {
  const token = tokens[position];
  switch (token?.kind) {
    case "literal":
      if (token.character === character) {
        enter(tokens, next, position + 1);
      }
      break;
    case "one":
      if (character !== "/") {
        enter(tokens, next, position + 1);
      }
      break;
    case "star":
      if (character !== "/") {
        enter(tokens, next, position);
      }
      break;
    case "globstar":
      enter(tokens, next, position);
      break;
    case "segments":
      // Inside the text it may only be left behind a slash: hence no `enter` of its own position.
      next.add(position);
      if (character === "/") {
        enter(tokens, next, position + 1);
      }
      break;
    case undefined:
      break;
  }
}
