import { z } from "zod";
import { compileMatch, probeMatch } from "./freshness-match.ts";
import type { FreshnessConfig } from "./types.ts";
import { AGE, checkedBy, duration, durationWithin, later, mapping, TIMER, value } from "./values.ts";

const match = value(
  "<upstream>/<repository>:<tag>, as a glob",
  (input) =>
    typeof input === "string"
      ? checkedBy((text) => {
          compileMatch(text);
          probeMatch(text);
        }, input)
      : undefined,
  { type: "string", minLength: 1 },
);

const keptFor = durationWithin(AGE);

const onGone = value(
  "keep, drop, or keep:30d",
  (input): FreshnessConfig["onGone"] | undefined => {
    if (input === "keep" || input === "drop") {
      return input;
    }
    const keepMs = typeof input === "string" && input.startsWith("keep:") ? keptFor(input.slice(5)) : undefined;
    return keepMs === undefined ? undefined : { keepMs };
  },
  { type: "string", pattern: "^(keep|drop|keep:\\d+(ms|s|m|h|d))$|\\$\\{" },
);

const keys = {
  default: duration(AGE).describe("How long a tag is fresh, if no rule matches: no upstream traffic within it."),
  rules: z
    .array(
      mapping({
        match: match.describe(
          "A glob `<upstream>/<repository>:<tag>`; the tag part may be a /regex/ over the whole tag.",
        ),
        ttl: duration(AGE).describe("How long the tags that match are fresh."),
      }),
    )
    .describe("First match wins."),
  staleIfError: duration(AGE).describe(
    "How old a known manifest may be when it is served because the upstream is in trouble.",
  ),
  softDeadline: duration(TIMER).describe(
    "After this a slow upstream counts as trouble where a known manifest is held.",
  ),
  onGone: onGone.describe("What becomes of a tag that its public upstream has no more: keep, drop, or keep:30d."),
  negative: duration({ min: "0s", max: "1d" }).describe("How long it is remembered that something is absent."),
  proofTtl: duration({ min: "1s", max: "30d" }).describe(
    "How long a private repository is served after its upstream last let Weir in.",
  ),
};

const whenBudgetLow = later("sparing a low quota");

export const freshnessSchema = mapping({
  default: keys.default.prefault("10m"),
  rules: keys.rules.prefault([
    { match: "**:latest", ttl: "1m" },
    { match: String.raw`**:/v?\d+\.\d+\.\d+/`, ttl: "7d" },
  ]),
  staleIfError: keys.staleIfError.prefault("30d"),
  softDeadline: keys.softDeadline.prefault("1500ms"),
  onGone: keys.onGone.prefault("keep"),
  negative: keys.negative.prefault("10s"),
  proofTtl: keys.proofTtl.prefault("1h"),
  whenBudgetLow,
})
  .prefault({})
  .describe("When a held tag is compared with its upstream.");

/** The same keys under one upstream, where what is left out is taken from the global section. */
export const upstreamFreshnessSchema = mapping({
  default: keys.default.optional(),
  rules: keys.rules.optional(),
  staleIfError: keys.staleIfError.optional(),
  softDeadline: keys.softDeadline.optional(),
  onGone: keys.onGone.optional(),
  negative: keys.negative.optional(),
  proofTtl: keys.proofTtl.optional(),
  whenBudgetLow,
}).describe("As the global section, for this upstream; wins there, and its rules stand before the global ones.");

type ParsedFreshness = z.output<typeof freshnessSchema>;

export function freshnessConfig(parsed: ParsedFreshness): FreshnessConfig {
  return {
    defaultMs: parsed.default,
    rules: parsed.rules.map(toRule),
    staleIfErrorMs: parsed.staleIfError,
    softDeadlineMs: parsed.softDeadline,
    onGone: parsed.onGone,
    negativeMs: parsed.negative,
    proofTtlMs: parsed.proofTtl,
  };
}

/** The global section with an upstream's own laid over it. */
export function overlayFreshness(
  global: FreshnessConfig,
  own: z.output<typeof upstreamFreshnessSchema> | undefined,
): FreshnessConfig {
  return {
    defaultMs: own?.default ?? global.defaultMs,
    rules: [...(own?.rules ?? []).map(toRule), ...global.rules],
    staleIfErrorMs: own?.staleIfError ?? global.staleIfErrorMs,
    softDeadlineMs: own?.softDeadline ?? global.softDeadlineMs,
    onGone: own?.onGone ?? global.onGone,
    negativeMs: own?.negative ?? global.negativeMs,
    proofTtlMs: own?.proofTtl ?? global.proofTtlMs,
  };
}

function toRule(rule: ParsedFreshness["rules"][number]): FreshnessConfig["rules"][number] {
  return { match: rule.match, ttlMs: rule.ttl };
}
