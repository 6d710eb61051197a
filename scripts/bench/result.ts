/** What is measured, and which way is better. */
export const METRICS = {
  "GB/s": "more",
  "requests/s": "more",
  "client s": "less",
  "durable s": "less",
  "first byte ms": "less",
  "upstream bytes": "less",
  "upstream GETs": "less",
  "peak MiB": "less",
  "descriptors left": "less",
  "listening ms": "less",
  "idle MiB": "less",
} as const satisfies Record<string, "more" | "less">;

export type Metric = keyof typeof METRICS;

/** One round of one server under one load. */
export interface Sample {
  readonly values: Readonly<Partial<Record<Metric, number>>>;
  /** Of the server's processes, with the amount of work that it was spent on. */
  readonly cpu?: CpuUse;
  readonly p99Ms?: number;
  /** Resident, of all the server's processes together. */
  readonly peakBytes?: number;
}

export interface CpuUse {
  readonly seconds: number;
  readonly amount: number;
  readonly unit: "GB" | "1,000 requests";
}

/** All rounds of one server under one load. */
export interface Row {
  readonly load: string;
  readonly server: string;
  readonly samples: readonly Sample[];
}

export interface CaseResult {
  readonly name: string;
  readonly title: string;
  readonly rows: readonly Row[];
  /** What whoever reads the figures has to know: peers that are missing, noise, rounds that were left out. */
  readonly notes: readonly string[];
  /** Why nothing was measured. */
  readonly skipped?: string;
  readonly seconds: number;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  /** Of everything that takes part, by name. */
  readonly versions: Readonly<Record<string, string>>;
  /** Of the last minute before the run: what else the machine had to do. */
  readonly load: number;
  readonly date: string;
}

export interface Report {
  readonly machine: Machine;
  readonly rounds: number;
  readonly cases: readonly CaseResult[];
}

/** The values of a metric, one a round that has it. */
export function valuesOf(row: Row, metric: Metric): number[] {
  return row.samples.flatMap(({ values }) => values[metric] ?? []);
}

/** A server under a load; undefined where it was not measured. */
export function findRow(rows: readonly Row[], load: string, server: string): Row | undefined {
  return rows.find((row) => row.load === load && row.server === server);
}
