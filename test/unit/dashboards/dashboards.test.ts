import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { DASHBOARDS, dashboardFiles } from "../../../scripts/dashboards/dashboards.ts";
import { withMetricsTable } from "../../../scripts/dashboards/metrics-table.ts";

const PROJECT = new URL("../../../", import.meta.url);

async function read(path: string): Promise<string> {
  return await readFile(new URL(path, PROJECT), "utf8");
}

/** As renderers of Markdown make them. */
function anchors(markdown: string): ReadonlySet<string> {
  const headings = [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading);
  return new Set(headings.map((heading) => heading.toLowerCase().replaceAll(" ", "-")));
}

test.each([...dashboardFiles()])("dashboards/%s is what npm run dashboards makes", async (name, content) => {
  expect(await read(`dashboards/${name}`)).toBe(content);
});

test.each([...dashboardFiles()])(
  "dashboards/%s has panels that fit side by side, each with an id of its own",
  (_, content) => {
    const { panels }: { panels: { id: number; gridPos: { x: number; y: number; w: number; h: number } }[] } =
      JSON.parse(content);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_cell, n) => `${x + (n % w)},${y + Math.floor(n / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(Math.max(...panels.map(({ gridPos: { x, w } }) => x + w))).toBe(24);
    expect(panels.map(({ id }) => id)).toEqual(panels.map((_panel, n) => n + 1));
  },
);

test("docs/metrics.md lists every metric with its labels and meaning: npm run dashboards", async () => {
  const page = await read("docs/metrics.md");
  expect(withMetricsTable(page)).toBe(page);
  expect(page.match(/^\| `weir_/gm)?.length).toBeGreaterThan(50);
});

describe("every panel", () => {
  const panels = DASHBOARDS.flatMap(({ uid, panels }) => panels.map((panel) => ({ uid, ...panel })));

  test("has a name of its own, a description, and a place in the runbook", async () => {
    const places = anchors(await read("docs/runbook.md"));
    for (const { uid, title, description, runbook, queries } of panels) {
      expect([title, description.length > 20, places.has(runbook), queries.length > 0]).toEqual([
        title,
        true,
        true,
        true,
      ]);
      expect(panels.filter((other) => other.uid === uid && other.title === title)).toHaveLength(1);
    }
  });

  test("shows the processes that are chosen", () => {
    for (const { expr } of panels.flatMap(({ queries }) => queries)) {
      const selectors = expr.match(/weir_\w+(?:\{[^}]*\})?/g) ?? [];
      expect(selectors.filter((selector) => !selector.includes('job=~"$job",instance=~"$instance"'))).toEqual([]);
    }
  });

  test("has a name that the runbook uses for none other", async () => {
    const named = [
      ...(await read("docs/runbook.md")).matchAll(/(?<![*\w])\*([A-Z0-9][^*\n]+(?:\n[^*\n]+)?)\*(?!\*)/g),
    ].map(([, name = ""]) => name.replaceAll(/\s+/g, " "));
    const known = new Set([
      ...panels.map(({ title }) => title),
      ...DASHBOARDS.map(({ title }) => title.replace("Weir / ", "")),
      "Runbook",
    ]);
    expect(named.length).toBeGreaterThan(30);
    expect(named.filter((name) => !known.has(name))).toEqual([]);
  });
});

test("every alert has a section of its own in the runbook, and every other section but one an alert", async () => {
  const file: { groups: { rules: { alert?: string; annotations?: { runbook_url: string } }[] }[] } = parse(
    await read("dashboards/weir.rules.yaml"),
  );
  const alerts = file.groups.flatMap(({ rules }) => rules).filter(({ alert }) => alert !== undefined);
  const sections = [...(await read("docs/runbook.md")).matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
  expect(sections).toEqual(expect.arrayContaining(alerts.map(({ alert }) => alert)));
  expect(sections.filter((section) => !alerts.some(({ alert }) => alert === section))).toEqual(["Slow answers"]);
  for (const { alert, annotations } of alerts) {
    expect(annotations?.runbook_url).toBe(`docs/runbook.md#${alert?.toLowerCase()}`);
  }
});

test("every alert has cases", async () => {
  const rules = await read("dashboards/weir.rules.yaml");
  const cases = await read("test/rules/weir.rules.test.yaml");
  for (const [, alert] of rules.matchAll(/alert: (\w+)/g)) {
    expect(cases).toMatch(new RegExp(`alertname: ${alert}\\n +exp_alerts: \\[\\]`));
    expect(cases).toMatch(new RegExp(`alertname: ${alert}\\n +exp_alerts:\\n`));
  }
  for (const [, record] of rules.matchAll(/record: (\S+)/g)) expect(cases).toContain(`expr: ${record}`);
});
