/** The figures as tables and as a page. Pure. */
import type { Aim } from "./aims.ts";
import { figureOf, median, short } from "./figures.ts";
import { judge, type Verdict } from "./judge.ts";
import { type CaseResult, type Machine, METRICS, type Metric, type Report, type Row, valuesOf } from "./result.ts";

export interface Table {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

const MIB = 1024 * 1024;

/** How a metric stands over its column. */
const TITLES: Readonly<Partial<Record<Metric, string>>> = {
  "client s": "until the clients have all, s",
  "durable s": "until it is kept, s",
  "first byte ms": "first byte, ms",
  "upstream bytes": "from upstream, times its size",
  "peak MiB": "most memory, MiB",
  "listening ms": "until the first answer, ms",
  "idle MiB": "idle memory, MiB",
};

/** A row for each server under each load, with the columns that any of them has. */
export function figuresTable({ rows }: CaseResult): Table {
  const metrics = (Object.keys(METRICS) as Metric[]).filter((metric) =>
    rows.some((row) => valuesOf(row, metric).length > 0),
  );
  const columns: (readonly [string, (row: Row) => string])[] = [
    ["load", ({ load }) => load],
    ["server", ({ server }) => server],
    ["rounds", ({ samples }) => String(samples.length)],
    ...metrics.map((metric) => [TITLES[metric] ?? metric, (row: Row) => measuredText(valuesOf(row, metric))] as const),
    ...(["GB", "1,000 requests"] as const).map(
      (unit) => [`CPU s per ${unit}`, (row: Row) => cpuText(row, unit)] as const,
    ),
    ["p99, ms", (row) => medianText(row.samples.flatMap(({ p99Ms }) => p99Ms ?? []))],
    ["peak, MiB", peakText],
  ];
  const used = columns.filter(([, text]) => rows.some((row) => text(row) !== ""));
  return { header: used.map(([title]) => title), rows: rows.map((row) => used.map(([, text]) => text(row))) };
}

/** What was aimed at, and what became of it. */
export function aimsTable(verdicts: readonly Verdict[], { withCase = false } = {}): Table {
  const header = ["load", "server", "what", "beside", "aim", "measured", "met"];
  const rows = verdicts.map(({ aim, server, figure, beside, met }) => [
    aim.load,
    server,
    TITLES[aim.metric] ?? aim.metric,
    beside ?? aim.beside?.join(" or ") ?? "",
    aimText(aim),
    figure === undefined ? "not measured" : `${short(figure.value)} (${short(figure.min)}-${short(figure.max)})`,
    met === undefined ? "-" : met ? "yes" : "NO",
  ]);
  return withCase
    ? { header: ["case", ...header], rows: rows.map((row, at) => [verdicts[at]?.aim.of ?? "", ...row]) }
    : { header, rows };
}

export function aimText({ atLeast, atMost, beside, as = "ratio" }: Aim): string {
  const bound = atLeast === undefined ? `<= ${atMost}` : `>= ${atLeast}`;
  if (beside === undefined) return bound;
  return as === "ratio" ? `${bound} times` : `${bound} more`;
}

export function markdownTable({ header, rows }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

/**
 * docs/performance.md.
 *
 * @param o.runs so many the figures are of, each case's of one; the report names the machine as it was at the first
 * @param o.method how it was measured, in Markdown
 * @param o.reasons why a case's aims are not met, told where that is so
 */
export function performancePage(
  report: Report,
  o: {
    readonly runs: number;
    readonly aims: readonly Aim[];
    readonly reasons: Readonly<Record<string, string>>;
    readonly method: string;
  },
): string {
  const verdicts = report.cases.flatMap((one) => judge(one, o.aims));
  const missed = new Set(verdicts.filter(({ met }) => met === false).map(({ aim }) => aim.of));
  const reasons = [...missed].flatMap((name) =>
    o.reasons[name] === undefined ? [] : `- **${name}**: ${o.reasons[name]}`,
  );
  const judged = verdicts.filter(({ met }) => met !== undefined);
  const parts = [
    "# Performance",
    `Written by \`npm run bench -- --write-docs\` from the figures of ${runsText(o.runs)}; do not edit it, ` +
      "edit [scripts/bench/](../scripts/bench) and run it again.",
    machineText(report),
    `## Aims\n\n${judged.filter(({ met }) => met).length} of ${judged.length} are met. A figure that is a ratio is one of medians; ` +
      "behind it stand the least and the largest ratio of any round.",
    markdownTable(aimsTable(verdicts, { withCase: true })),
    reasons.join("\n"),
    o.method.trim(),
    "## Figures\n\nMedians of the rounds, with the least and the largest.",
    ...report.cases.map(caseText),
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function runsText(runs: number): string {
  return runs === 1 ? "one run" : `${runs} runs, those of a case all of the same one`;
}

function machineText({ machine, rounds }: Report): string {
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  return (
    `Measured on ${machine.date}: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}; ` +
    `${versions.join(", ")}. Rounds: ${rounds}. The machine's load was ${machine.load.toFixed(1)} when the run began${isBusy(machine) ? ": it had something else to do, and these figures say little" : ""}.`
  );
}

/** Whether something else than the measurement had so much of the machine that figures of it say little. */
export function isBusy({ load, cores }: Machine): boolean {
  return load > cores / 2;
}

function caseText(one: CaseResult): string {
  const parts = [
    `### ${one.title}\n\n\`npm run bench -- ${one.name}\``,
    one.skipped === undefined ? markdownTable(figuresTable(one)) : `Not measured: ${one.skipped}`,
    one.notes.join(" "),
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}

function measuredText(values: readonly number[]): string {
  if (values.length === 0) return "";
  const { value, min, max } = figureOf(values);
  return values.length === 1 || min === max ? short(value) : `${short(value)} (${short(min)}-${short(max)})`;
}

function medianText(values: readonly number[]): string {
  return values.length === 0 ? "" : short(median(values));
}

/** Of all rounds together: a tick of 10 ms is much of a single one. */
function cpuText({ samples }: Row, unit: string): string {
  const uses = samples.flatMap(({ cpu }) => (cpu?.unit === unit ? [cpu] : []));
  if (uses.length === 0) return "";
  const sum = (of: "seconds" | "amount"): number => uses.reduce((total, use) => total + use[of], 0);
  return short(sum("seconds") / sum("amount"));
}

function peakText({ samples }: Row): string {
  const peaks = samples.flatMap(({ peakBytes }) => peakBytes ?? []);
  return peaks.length === 0 ? "" : short(Math.max(...peaks) / MIB);
}
