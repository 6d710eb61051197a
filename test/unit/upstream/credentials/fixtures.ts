import { parseConfig } from "../../../../src/config/parse.ts";
import type { FreshnessConfig } from "../../../../src/config/types.ts";

function defaultFreshness(): FreshnessConfig {
  const result = parseConfig({}, {}, "/srv/weir");
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config.freshness;
}

/** The section's defaults. */
export const freshness = defaultFreshness();
