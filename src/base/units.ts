const DURATION_UNITS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const;

const SIZE_UNITS = {
  TiB: 2 ** 40,
  GiB: 2 ** 30,
  MiB: 2 ** 20,
  KiB: 2 ** 10,
  TB: 1e12,
  GB: 1e9,
  MB: 1e6,
  KB: 1e3,
  B: 1,
} as const;

/** Milliseconds of `500ms`, `90s`, `10m`, `12h`, `7d`; undefined for anything else. One unit, whole numbers. */
export function parseDuration(text: string): number | undefined {
  return parseWithUnit(text, DURATION_UNITS);
}

/** Bytes of `500MiB`, `10MB`, `64KiB` or a bare number; undefined for anything else. Whole numbers. */
export function parseSize(text: string): number | undefined {
  return parseWithUnit(/^\d+$/.test(text) ? `${text}B` : text, SIZE_UNITS);
}

/** The inverse of {@link parseDuration} for whole, non-negative numbers, in the largest unit that needs no fraction. */
export function formatDuration(ms: number): string {
  return ms === 0 ? "0s" : formatWithUnit(ms, DURATION_UNITS);
}

/** The inverse of {@link parseSize} for whole, non-negative numbers, in the largest unit that needs no fraction. */
export function formatSize(bytes: number): string {
  return bytes === 0 ? "0B" : formatWithUnit(bytes, SIZE_UNITS);
}

function parseWithUnit(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+)([A-Za-z]+)$/.exec(text);
  const factor = match?.[2] !== undefined && Object.hasOwn(units, match[2]) ? units[match[2]] : undefined;
  if (match === null || factor === undefined) {
    return undefined;
  }
  const value = Number(match[1]) * factor;
  return Number.isSafeInteger(value) ? value : undefined;
}

function formatWithUnit(value: number, units: Readonly<Record<string, number>>): string {
  for (const [unit, factor] of Object.entries(units)) {
    if (value % factor === 0) {
      return `${value / factor}${unit}`;
    }
  }
  throw new RangeError(`${value} is not a whole number`);
}
