/** The oldest Node that all parts run on (undici sets it); `engines` in package.json says the same. */
export const MINIMUM_NODE = "22.19.0";

/** A sentence when `version` (such as `20.11.1`) is too old for Weir; undefined when it will do. */
export function nodeVersionProblem(version: string): string | undefined {
  return compare(version, MINIMUM_NODE) < 0
    ? `Weir needs Node ${MINIMUM_NODE} or later, and this is ${version}. Install a newer one, or start Weir with "npm run up", which brings its own.`
    : undefined;
}

function compare(a: string, b: string): number {
  const other = b.split(".").map(Number);
  const differences = a.split(".").map((part, i) => Number.parseInt(part, 10) - (other[i] ?? 0));
  return differences.find((difference) => difference !== 0) ?? 0;
}
