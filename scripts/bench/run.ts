/**
 * Weir beside its peers, on one machine, in one run. Weir is taken from dist/.
 *
 *   npm run bench                    all cases, some ten minutes
 *   npm run bench -- NAME...         some of them
 *   npm run bench -- --list          their names
 *
 *   --rounds N       that count (5)
 *   --json FILE      where all figures of the run go (bench-results/NAME.json, one a case, in any case)
 *   --write-docs     writes docs/performance.md from bench-results/, and measures nothing unless cases are named
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { AIMS, REASONS } from "./aims.ts";
import { Bench, type BenchCase } from "./bench.ts";
import { CASES } from "./cases/index.ts";
import { Content } from "./content.ts";
import { judge } from "./judge.ts";
import { machine } from "./machine.ts";
import { printTable, stopEverything } from "./measure.ts";
import { aimsTable, figuresTable, isBusy, performancePage } from "./render.ts";
import type { CaseResult, Report } from "./result.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const RESULTS = join(ROOT, "bench-results");

/** Of all cases together. Noisy rounds are repeated as long as that leaves the others their time. */
const WHOLE_RUN_S = 12 * 60;
const CASE_S = 50;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    list: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    json: { type: "string" },
    "write-docs": { type: "boolean", default: false },
  },
});
const rounds = Number(flags.rounds);
if (!Number.isInteger(rounds) || rounds < 1) fail("--rounds: expected a whole number from 1 on");
const unknown = positionals.filter((name) => CASES.every((one) => one.name !== name));
if (unknown.length > 0) fail(`there is no ${unknown.join(", ")}; npm run bench -- --list names the cases`);

if (flags.list) {
  printTable(
    ["name", "what"],
    CASES.map(({ name, title }) => [name, title]),
  );
} else {
  if (positionals.length > 0 || !flags["write-docs"]) {
    await measure(positionals.length === 0 ? CASES : CASES.filter(({ name }) => positionals.includes(name)));
  }
  if (flags["write-docs"]) writeDocs();
}

async function measure(cases: readonly BenchCase[]): Promise<void> {
  const on = machine(new Date());
  const folder = await mkdtemp(join(tmpdir(), "weir-bench-"));
  const clear = (): void => rmSync(folder, { recursive: true, force: true });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      void stopEverything().then(() => {
        clear();
        process.exit(130);
      });
    });
  }
  const startedMs = performance.now();
  const results: CaseResult[] = [];
  try {
    const bench = new Bench({ folder, content: await Content.create(join(folder, "content")), rounds });
    console.log(`${on.cpu}, ${on.cores} cores, ${on.memoryGiB} GiB, Linux ${on.kernel}, load ${on.load.toFixed(1)}`);
    if (isBusy(on)) console.log("The machine has something else to do: these figures will say little.");
    for (const [at, one] of cases.entries()) {
      const left = cases.length - at - 1;
      const result = await bench.run(one, (seconds) => {
        const passed = (performance.now() - startedMs) / 1000;
        return passed + seconds + left * CASE_S <= WHOLE_RUN_S;
      });
      results.push(result);
      print(result);
      mkdirSync(RESULTS, { recursive: true });
      writeReport(join(RESULTS, `${one.name}.json`), { machine: on, rounds, cases: [result] });
    }
  } finally {
    await stopEverything();
    clear();
  }
  if (flags.json !== undefined) writeReport(flags.json, { machine: on, rounds, cases: results });
}

function print(result: CaseResult): void {
  console.log(`\n${result.name}: ${result.title} (${result.seconds.toFixed(0)} s)\n`);
  if (result.skipped !== undefined) {
    console.log(`not measured: ${result.skipped}`);
    return;
  }
  const show = ({ header, rows }: ReturnType<typeof figuresTable>): void => {
    if (rows.length > 0) printTable(header, rows);
  };
  show(figuresTable(result));
  const verdicts = judge(result, AIMS);
  if (verdicts.length > 0) console.log();
  show(aimsTable(verdicts));
  for (const note of result.notes) console.log(`- ${note}`);
}

function writeReport(path: string, report: Report): void {
  writeFileSync(path, `${JSON.stringify(report, undefined, 1)}\n`);
}

function writeDocs(): void {
  const reports = CASES.flatMap(({ name }) => {
    try {
      return [JSON.parse(readFileSync(join(RESULTS, `${name}.json`), "utf8")) as Report];
    } catch {
      console.error(`bench-results/${name}.json is not there: the page will do without`);
      return [];
    }
  });
  const [first] = reports;
  if (first === undefined) fail("there are no figures yet: npm run bench");
  const runs = new Set(reports.map(({ machine: on }) => JSON.stringify(on))).size;
  if (runs > 1)
    console.error("bench-results/ is of several runs: the page names the machine and the day of one of them");
  const method = readFileSync(join(import.meta.dirname, "method.md"), "utf8");
  const report = { ...first, cases: reports.flatMap(({ cases }) => cases) };
  const page = performancePage(report, { runs, aims: AIMS, reasons: REASONS, method });
  writeFileSync(join(ROOT, "docs/performance.md"), page);
}

function fail(message: string): never {
  console.error(message);
  process.exit(2);
}
