import { z } from "zod";
import { compileMatch, probeMatch } from "./freshness-match.ts";
import type { BudgetThreshold, FreshnessConfig } from "./types.ts";
import { AGE, checkedBy, duration, durationWithin, mapping, TIMER, value } from "./values.ts";

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

const below = value(
  "a share such as 10%, or a number of requests such as 20",
  (input) => (typeof input === "string" || typeof input === "number" ? parseThreshold(String(input)) : undefined),
  {
    anyOf: [
      { type: "integer", minimum: 0 },
      { type: "string", pattern: "^\\d+(\\.\\d+)?%$|^\\d+$|\\$\\{" },
    ],
  },
);

function parseThreshold(text: string): BudgetThreshold | undefined {
  const [, number, percent] = /^(\d{1,9}|\d{1,3}(?:\.\d{1,3})?(%))$/.exec(text) ?? [];
  if (number === undefined) {
    return undefined;
  }
  const share = Number.parseFloat(number) / 100;
  return percent === undefined ? { requests: Number(number) } : share <= 1 ? { share } : undefined;
}

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
  below: below.describe(
    "With less than this left of an upstream's quota, a tag that has moved is answered with what is held of it: a share such as 10%, or a number of requests. 0 waits until the quota is spent.",
  ),
};

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
  whenBudgetLow: mapping({ below: keys.below.prefault("10%") })
    .prefault({})
    .describe("When the quota that is left is spared."),
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
  whenBudgetLow: mapping({ below: keys.below.optional() })
    .optional()
    .describe("When the quota that is left is spared."),
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
    whenBudgetLow: parsed.whenBudgetLow,
  };
}

/** The global section with an upstream's own laid over it. */
export function overlayFreshness(
  global: FreshnessConfig,
  own: z.output<typeof upstreamFreshnessSchema> | undefined,
): FreshnessConfig {
  if (own === undefined) {
    return global;
  }
  return {
    defaultMs: own.default ?? global.defaultMs,
    rules: [...(own.rules ?? []).map(toRule), ...global.rules],
    staleIfErrorMs: own.staleIfError ?? global.staleIfErrorMs,
    softDeadlineMs: own.softDeadline ?? global.softDeadlineMs,
    onGone: own.onGone ?? global.onGone,
    negativeMs: own.negative ?? global.negativeMs,
    proofTtlMs: own.proofTtl ?? global.proofTtlMs,
    whenBudgetLow: { below: own.whenBudgetLow?.below ?? global.whenBudgetLow.below },
    own: { rules: own.rules?.length ?? 0, default: own.default !== undefined },
  };
}

function toRule(rule: ParsedFreshness["rules"][number]): FreshnessConfig["rules"][number] {
  return { match: rule.match, ttlMs: rule.ttl };
}
