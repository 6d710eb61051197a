import type { Examination } from "../upstream/doctor/examine.ts";
import type { Step } from "../upstream/doctor/step.ts";

/** What people read: a block for each endpoint, what to do below each finding, and what it all comes to. */
export function formatExaminations(examinations: readonly Examination[]): string {
  const rows = examinations.map(({ steps }) => steps.map(cellsOf));
  const widths = [0, 1, 2].map((column) => Math.max(0, ...rows.flat().map((cells) => cells[column]?.length ?? 0)));
  const blocks = examinations.map((examination, i) => {
    const lines = examination.steps.flatMap((step, j) => {
      const [name = "", status = "", ms = "", detail = ""] = rows[i]?.[j] ?? [];
      const [nameWidth = 0, statusWidth = 0, msWidth = 0] = widths;
      const line = `  ${name.padEnd(nameWidth)}  ${status.padEnd(statusWidth)}  ${ms.padStart(msWidth)}  ${detail}`;
      return step.advice === undefined ? [line] : [line, `${" ".repeat(nameWidth + 4)}-> ${printable(step.advice)}`];
    });
    return `${[headOf(examination), ...lines].join("\n")}\n`;
  });
  return `${[...blocks, summaryOf(examinations)].join("\n")}\n`;
}

/** What scripts read. */
export function examinationsAsJson(examinations: readonly Examination[]): string {
  const document = {
    ok: examinations.every((examination) => !hasFailed(examination)),
    endpoints: examinations.map((examination) => ({
      upstream: examination.upstream,
      endpoint: examination.endpoint,
      proxy: examination.proxy ?? null,
      reference: examination.sample ?? null,
      ok: !hasFailed(examination),
      steps: examination.steps.map(({ name, credential, status, detail, advice, ms }) => ({
        name,
        credential: credential ?? null,
        status,
        detail,
        advice: advice ?? null,
        ms: ms === undefined ? null : Math.round(ms),
      })),
    })),
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

export function hasFailed({ steps }: Examination): boolean {
  return steps.some(({ status }) => status === "failed");
}

function headOf({ upstream, endpoint, proxy, sample }: Examination): string {
  const way = proxy === undefined ? "" : `, through ${proxy}`;
  return `${upstream}  ${endpoint}${way}${sample === undefined ? "" : `, asked for ${sample}`}`;
}

function cellsOf({ name, credential, status, detail, ms }: Step): readonly string[] {
  return [
    credential === undefined ? name : `${name} (${printable(credential)})`,
    status === "skipped" ? "-" : status,
    ms === undefined ? "" : `${Math.round(ms)} ms`,
    printable(detail),
  ];
}

function summaryOf(examinations: readonly Examination[]): string {
  const count = examinations.length;
  const bad = [...new Set(examinations.filter(hasFailed).map(({ upstream }) => upstream))];
  const warned = examinations.some(({ steps }) => steps.some(({ status }) => status === "warning"));
  const looked = `${count} endpoint${count === 1 ? "" : "s"}`;
  if (bad.length > 0) {
    return `${looked}: not all is well with ${bad.join(", ")}`;
  }
  return `${looked}: all is well${warned ? ", with warnings" : ""}`;
}

/** Registries choose the words of certificates and errors; terminals obey some characters. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");
}
