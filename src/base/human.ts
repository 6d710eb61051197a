const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `0 B`, `1.5 GiB`: for people, unlike `formatSize`, which is exact. */
export function humanBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

const STEPS: readonly (readonly [number, string])[] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
];

/** `3 d`, `5 h`, `12 min`, `40 s`: one unit is enough for an age. */
export function humanTime(ms: number): string {
  const step = STEPS.find(([length]) => ms >= length);
  return step === undefined ? `${Math.max(0, Math.round(ms / 1000))} s` : `${Math.floor(ms / step[0])} ${step[1]}`;
}

/** `1 tag`, `2 tags`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
