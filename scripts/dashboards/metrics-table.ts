import { Registry } from "prom-client";
import { createBucketSeries, createRoomSeries, createSeries, createUploadSeries } from "../../src/telemetry/series.ts";

const BEGIN = "<!-- begin: npm run dashboards writes this -->\n";
const END = "<!-- end -->\n";

/** What every process that Prometheus watches has; prom-client's own. */
const DEFAULTS = /^weir_(process|nodejs)_/;

interface Described {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labelNames: readonly string[];
}

/** `page` (docs/metrics.md) with its table as the metrics are. */
export function withMetricsTable(page: string): string {
  const [before, rest] = [page.indexOf(BEGIN) + BEGIN.length, page.indexOf(END)];
  if (before < BEGIN.length || rest === -1) throw new Error("docs/metrics.md has lost its marks");
  return `${page.slice(0, before)}\n${table()}\n${page.slice(rest)}`;
}

function table(): string {
  const registry = new Registry();
  createSeries(registry);
  const usage = { bytes: 0, blobs: 0, limitBytes: 0, perUpstream: new Map<string, number>(), counting: false };
  createRoomSeries(registry, () => usage);
  createBucketSeries(registry, () => usage);
  createUploadSeries(registry, () => ({ entries: 0, bytes: 0 }));
  const all = registry.getMetricsAsArray() as unknown as readonly Described[];
  const rows = [...all]
    .sort((a, b) => Number(DEFAULTS.test(a.name)) - Number(DEFAULTS.test(b.name)) || (a.name < b.name ? -1 : 1))
    .map(({ name, type, labelNames, help }) => `| \`${name}\` | ${type} | ${labelNames.join(", ")} | ${help} |\n`);
  return `| name | type | labels | what it means |\n|---|---|---|---|\n${rows.join("")}`;
}
