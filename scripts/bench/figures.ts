/** What is made of measured values. Pure. */

/** The middle one; the mean of the two in the middle where their number is even. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN;
  return (lower + upper) / 2;
}

export function spread(values: readonly number[]): string {
  return `${Math.min(...values).toFixed(1)}-${Math.max(...values).toFixed(1)}`;
}

/** The first and the third quarter. */
export function quartiles(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  return [0.25, 0.75].map((share) => sorted[Math.floor(sorted.length * share)]?.toFixed(1)).join(" to ");
}

/** How far the values lie apart, as a share of their median. */
export function relativeSpread(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / median(values);
}

/** A figure that is made of others, with the least and the largest that any round gives by itself. */
export interface Figure {
  readonly value: number;
  readonly min: number;
  readonly max: number;
}

/** The median of one series of rounds. */
export function figureOf(values: readonly number[]): Figure {
  return { value: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * The ratio of the medians of two series. Values of one round belong together; rounds that only one series has count for its
 * median alone.
 */
export function ratioOf(of: readonly number[], per: readonly number[]): Figure {
  return combined(of, per, (a, b) => a / b);
}

/** The difference of the medians, otherwise as {@link ratioOf}. */
export function differenceOf(of: readonly number[], from: readonly number[]): Figure {
  return combined(of, from, (a, b) => a - b);
}

function combined(
  one: readonly number[],
  other: readonly number[],
  combine: (one: number, other: number) => number,
): Figure {
  const rounds = one.slice(0, other.length).map((value, round) => combine(value, other[round] ?? Number.NaN));
  return { value: combine(median(one), median(other)), min: Math.min(...rounds), max: Math.max(...rounds) };
}

/** Three digits that count: `0.0123`, `1.23`, `12.3`, `123`, `12,345`. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.1 || size === 0) return value.toFixed(2);
  return value.toPrecision(2);
}
