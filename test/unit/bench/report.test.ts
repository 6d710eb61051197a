import { describe, expect, test } from "vitest";
import { AIMS, type Aim } from "../../../scripts/bench/aims.ts";
import { CASES } from "../../../scripts/bench/cases/index.ts";
import { judge } from "../../../scripts/bench/judge.ts";
import { aimsTable, aimText, figuresTable, markdownTable, performancePage } from "../../../scripts/bench/render.ts";
import type { CaseResult, Metric, Report, Row } from "../../../scripts/bench/result.ts";

function row(server: string, metric: Metric, values: readonly number[], load = "8 clients"): Row {
  return { load, server, samples: values.map((value) => ({ values: { [metric]: value } })) };
}

function resultOf(rows: readonly Row[], more: Partial<CaseResult> = {}): CaseResult {
  return { name: "case", title: "A case", rows, notes: [], seconds: 1, ...more };
}

const faster: Aim = {
  of: "case",
  load: "8 clients",
  server: "weir",
  metric: "GB/s",
  beside: ["nginx", "nginx, tcp_nopush"],
  atLeast: 1.5,
};
const sooner: Aim = {
  of: "case",
  load: "1 client",
  server: "weir",
  metric: "client s",
  beside: ["cache"],
  atMost: 1.2,
};

describe("judge", () => {
  test("compares with the best of the peers", () => {
    const rows = [
      row("weir", "GB/s", [3, 3, 3]),
      row("nginx", "GB/s", [1, 1, 1]),
      row("nginx, tcp_nopush", "GB/s", [2]),
    ];
    expect(judge(resultOf(rows), [faster])).toEqual([
      {
        aim: faster,
        server: "weir",
        figure: { value: 1.5, min: 1.5, max: 1.5 },
        beside: "nginx, tcp_nopush",
        met: true,
      },
    ]);
  });

  test("takes the better of two ways to run it", () => {
    const rows = [row("weir", "GB/s", [3]), row("weir, tcp_nopush", "GB/s", [4]), row("nginx", "GB/s", [2])];
    const either: Aim = { ...faster, or: "weir, tcp_nopush" };
    expect(judge(resultOf(rows), [either])[0]).toMatchObject({ server: "weir, tcp_nopush", figure: { value: 2 } });
    expect(judge(resultOf([...rows.slice(0, 1), ...rows.slice(2)]), [either])[0]).toMatchObject({ server: "weir" });
  });

  test("takes the least for the best where less is better", () => {
    const rows = [row("weir", "client s", [3], "1 client"), row("cache", "client s", [4], "1 client")];
    const also: Aim = { ...sooner, beside: ["cache", "other"] };
    const [verdict] = judge(resultOf([...rows, row("other", "client s", [2], "1 client")]), [also]);
    expect(verdict).toMatchObject({ beside: "other", figure: { value: 1.5 }, met: false });
  });

  test("a figure at the bound is met", () => {
    const rows = [row("weir", "client s", [6], "1 client"), row("cache", "client s", [5], "1 client")];
    expect(judge(resultOf(rows), [sooner])[0]).toMatchObject({ figure: { value: 1.2 }, met: true });
  });

  test("compares with what was measured under another load, and by difference", () => {
    const aim: Aim = { ...sooner, load: "50 clients", besideLoad: "1 client", as: "difference", atMost: 5 };
    const rows = [row("weir", "client s", [10], "50 clients"), row("cache", "client s", [4], "1 client")];
    expect(judge(resultOf(rows), [aim])[0]).toMatchObject({ figure: { value: 6 }, met: false });
  });

  test("takes the value itself where there is nothing to compare with", () => {
    const aim: Aim = { of: "case", load: "idle", server: "weir", metric: "idle MiB", atMost: 90 };
    expect(judge(resultOf([row("weir", "idle MiB", [80, 100, 85], "idle")]), [aim])[0]).toMatchObject({
      figure: { value: 85, min: 80, max: 100 },
      met: true,
    });
  });

  test.each([
    ["the server", [row("nginx", "GB/s", [1])]],
    ["every peer", [row("weir", "GB/s", [1])]],
    ["the load", [row("weir", "GB/s", [1], "1 client"), row("nginx", "GB/s", [1], "1 client")]],
    ["the metric", [row("weir", "requests/s", [1]), row("nginx", "requests/s", [1])]],
  ])("says nothing where %s was not measured", (_, rows) => {
    expect(judge(resultOf(rows), [faster])[0]).toMatchObject({ figure: undefined, met: undefined });
  });

  test("leaves other cases' aims alone", () => {
    expect(judge(resultOf([], { name: "other" }), [faster])).toEqual([]);
  });
});

describe("the figures' table", () => {
  test("has the columns that some row has, the whole CPU time, and the highest peak", () => {
    const cpu = (seconds: number) => ({ seconds, amount: 2, unit: "GB" }) as const;
    const rows: Row[] = [
      {
        load: "8 clients",
        server: "weir",
        samples: [
          { values: { "GB/s": 2 }, cpu: cpu(1), peakBytes: 100 * 1024 * 1024 },
          { values: { "GB/s": 4 }, cpu: cpu(2), peakBytes: 50 * 1024 * 1024 },
        ],
      },
      row("nginx", "GB/s", [1]),
    ];
    expect(figuresTable(resultOf(rows))).toEqual({
      header: ["load", "server", "rounds", "GB/s", "CPU s per GB", "peak, MiB"],
      rows: [
        ["8 clients", "weir", "2", "3.00 (2.00-4.00)", "0.75", "100"],
        ["8 clients", "nginx", "1", "1.00", "", ""],
      ],
    });
  });

  test("of nothing has no rows", () => {
    expect(figuresTable(resultOf([])).rows).toEqual([]);
  });
});

test("the aims' table says what is met, what is not, and what was not measured", () => {
  const rows = [row("weir", "GB/s", [3]), row("nginx", "GB/s", [1])];
  const slower: Aim = { ...faster, atLeast: 4 };
  const { rows: told } = aimsTable(judge(resultOf(rows), [faster, slower, sooner]), { withCase: true });
  expect(told).toEqual([
    ["case", "8 clients", "weir", "GB/s", "nginx", ">= 1.5 times", "3.00 (3.00-3.00)", "yes"],
    ["case", "8 clients", "weir", "GB/s", "nginx", ">= 4 times", "3.00 (3.00-3.00)", "NO"],
    ["case", "1 client", "weir", "until the clients have all, s", "cache", "<= 1.2 times", "not measured", "-"],
  ]);
});

test.each<[Partial<Aim>, string]>([
  [{ atLeast: 2 }, ">= 2 times"],
  [{ atMost: 2 }, "<= 2 times"],
  [{ atMost: 5, as: "difference" }, "<= 5 more"],
])("an aim of %j is written %s", (more, text) => {
  const { atLeast: _, ...bare } = faster;
  expect(aimText({ ...bare, ...more })).toBe(text);
});

test("a cell cannot end a column of Markdown", () => {
  expect(markdownTable({ header: ["a", "b"], rows: [["x|y", "z"]] })).toBe("| a | b |\n| --- | --- |\n| x\\|y | z |");
});

describe("the page", () => {
  const report: Report = {
    machine: {
      cpu: "Some CPU",
      cores: 2,
      memoryGiB: 24,
      kernel: "6.1.0",
      versions: { Node: "24.1.0", nginx: "1.22.1" },
      load: 0.25,
      date: "2026-01-02",
    },
    rounds: 5,
    cases: [
      resultOf([row("weir", "GB/s", [1]), row("nginx", "GB/s", [1])], { notes: ["Something to know."] }),
      resultOf([], { name: "other", title: "Another", skipped: "wrk is not installed." }),
    ],
  };
  const page = performancePage(report, {
    runs: 1,
    aims: [faster],
    reasons: { case: "Because." },
    method: "## Method\n\nSo.\n",
  });

  test("names the machine, the versions and the day", () => {
    expect(page).toContain(
      "Measured on 2026-01-02: Some CPU, 2 cores, 24 GiB, Linux 6.1.0; Node 24.1.0, nginx 1.22.1.",
    );
  });

  test("says so where the machine was busy with something else", () => {
    const busy = { ...report, machine: { ...report.machine, load: 3.5 } };
    const o = { runs: 1, aims: [faster], reasons: {}, method: "" };
    expect(performancePage(busy, o)).toContain("load was 3.5 when the run began: it had something else to do");
    expect(performancePage(report, o)).toContain("load was 0.3 when the run began.");
  });

  test("says of how many runs its figures are", () => {
    const o = { aims: [faster], reasons: {}, method: "" };
    expect(performancePage(report, { ...o, runs: 1 })).toContain("from the figures of one run; do not");
    expect(performancePage(report, { ...o, runs: 3 })).toContain(
      "of 3 runs, those of a case all of the same one; do not",
    );
  });

  test("has the aims, the method, the figures, what to know, and what was not measured and why", () => {
    for (const text of [
      "0 of 1 are met",
      "## Method\n\nSo.",
      "### A case",
      "Something to know.",
      "wrk is not installed.",
    ]) {
      expect(page).toContain(text);
    }
  });

  test("tells the reason only where an aim is missed", () => {
    expect(page).toContain("- **case**: Because.");
    const met = { ...faster, atLeast: 1 };
    expect(performancePage(report, { runs: 1, aims: [met], reasons: { case: "Because." }, method: "" })).not.toContain(
      "Because.",
    );
  });
});

test("every aim is one of a case that there is, and bounded on one side", () => {
  const names = CASES.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const aim of AIMS) {
    expect(names).toContain(aim.of);
    expect((aim.atLeast === undefined) !== (aim.atMost === undefined)).toBe(true);
  }
});
