/** The queries of the dashboards and rules as they are checked in, and what is found when they are asked. */
import { readdirSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import type { Sample } from "../../support/prometheus.ts";
import { type Expected, keyOf, OTHERS, type Worth } from "./expected.ts";

const FOLDER = new URL("../../../dashboards/", import.meta.url);

export interface NamedQuery {
  readonly name: string;
  readonly expr: string;
}

interface DashboardJson {
  readonly uid: string;
  readonly panels: readonly {
    readonly title: string;
    readonly targets: readonly { readonly refId: string; readonly expr: string }[];
  }[];
}

/** Of every panel: `weir-overview/Error ratio/A`. */
export function panelQueries(): readonly NamedQuery[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith(".json"))
    .flatMap((name) => {
      const { uid, panels }: DashboardJson = JSON.parse(readFileSync(new URL(name, FOLDER), "utf8"));
      return panels.flatMap(({ title, targets }) =>
        targets.map(({ refId, expr }) => ({ name: `${uid}/${title}/${refId}`, expr })),
      );
    });
}

interface RuleYaml {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
}

/** Of every rule, with what it takes from recorded series put in their place. */
export function ruleQueries(): readonly NamedQuery[] {
  const file: { readonly groups: readonly { readonly rules: readonly RuleYaml[] }[] } = parse(
    readFileSync(new URL("weir.rules.yaml", FOLDER), "utf8"),
  );
  const rules = file.groups.flatMap((group) => group.rules);
  const inPlace = (expr: string): string =>
    rules.reduce((text, { record, expr: recorded }) => {
      return record !== undefined && text.includes(record) ? text.replaceAll(record, `(${inPlace(recorded)})`) : text;
    }, expr);
  return rules.map(({ record, alert, expr }) => ({ name: record ?? alert ?? "", expr: inPlace(expr) }));
}

/** The query for one span of time: every variable stands for all, and every window is this one. */
export function overSpan(expr: string, span: string): string {
  return expr
    .replaceAll("$job", "weir")
    .replaceAll("$instance", ".*")
    .replaceAll("$upstream", ".*")
    .replaceAll(/\[(\d+[smhd]|\$__\w+)\]/g, `[${span}]`);
}

/** Rates are worked out from the times of two scrapes, in milliseconds. */
const PART = 0.002;

/** What is wrong with what was found, a sentence each. */
export function differences(expected: Expected, found: readonly Sample[]): readonly string[] {
  const values = new Map(found.map(({ labels, value }) => [keyOf(labels), value]));
  const { [OTHERS]: others = 0, ...named } = Object.fromEntries(expected);
  const keys = new Set([...Object.keys(named), ...values.keys()]);
  return [...keys].flatMap((key) => {
    const value = values.get(key) ?? Number.NaN;
    const worth = named[key] ?? others;
    return agrees(worth, Number.isNaN(value) ? 0 : value)
      ? []
      : [`{${key}} is ${value} instead of ${typeof worth === "number" ? worth : `${worth.least} to ${worth.most}`}`];
  });
}

function agrees(worth: Worth, value: number): boolean {
  if (typeof worth !== "number") return value >= worth.least && value <= worth.most;
  return worth === value || Math.abs(value - worth) <= Math.abs(worth) * PART;
}

/** The metrics that a query takes from, as a process exposes them: without what Prometheus makes of a histogram. */
export function metricsOf(expr: string): ReadonlySet<string> {
  return new Set([...expr.matchAll(/\bweir_\w+/g)].map(([name]) => name));
}

/** Those that are not there to be taken from. */
export function unknownMetrics(queries: readonly NamedQuery[], exposition: string): readonly string[] {
  const types = new Map([...exposition.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
  const known = (name: string): boolean =>
    types.has(name) || types.get(name.replace(/_(bucket|count|sum)$/, "")) === "histogram";
  return queries.flatMap(({ name, expr }) =>
    [...metricsOf(expr)].filter((metric) => !known(metric)).map((metric) => `${name}: ${metric}`),
  );
}
