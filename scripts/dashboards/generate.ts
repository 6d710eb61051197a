/** Writes the Grafana dashboards and the table of docs/metrics.md: `npm run dashboards`. A test fails when they lag behind. */
import { readFileSync, writeFileSync } from "node:fs";
import { dashboardFiles } from "./dashboards.ts";
import { withMetricsTable } from "./metrics-table.ts";

for (const [name, content] of dashboardFiles()) {
  writeFileSync(new URL(`../../dashboards/${name}`, import.meta.url), content);
}
const page = new URL("../../docs/metrics.md", import.meta.url);
writeFileSync(page, withMetricsTable(readFileSync(page, "utf8")));
