/** How long and from where the fuzzing runs: a little, from seeds that are kept, unless somebody wants more of it. */
import { randomInt } from "node:crypto";
import type { Parameters } from "fast-check";

/** Changed only to look elsewhere: what it has found stands in the tests as examples. */
const KEPT_SEED = 20_261_121;

const MAX_SEED = 2 ** 31;

const { WEIR_TEST_FUZZ_SEED: seed, WEIR_TEST_FUZZ_RUNS: runs } = process.env;

/**
 * For `fc.assert`, which names the seed and the shrunk input of what fails.
 *
 * @param usual how often a property is tried where `WEIR_TEST_FUZZ_RUNS` does not say
 * @param examples inputs that are tried first, such as those that once failed
 */
export function campaign<T>(usual: number, examples: readonly T[] = []): Parameters<T> {
  const chosen = seed === "random" ? randomInt(MAX_SEED) : Number(seed ?? KEPT_SEED);
  return { seed: chosen, numRuns: Number(runs ?? usual), examples: [...examples] };
}

/** A suite that is given `WEIR_TEST_FUZZ_RUNS` may take so long, milliseconds. */
export const CAMPAIGN_MS = runs === undefined ? 60_000 : 24 * 60 * 60 * 1000;
