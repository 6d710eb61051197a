import { overview } from "./overview.ts";
import { createDashboard, type DashboardSpec } from "./panel.ts";
import { processes } from "./process.ts";
import { storage } from "./storage.ts";
import { upstreams } from "./upstreams.ts";

export const DASHBOARDS: readonly DashboardSpec[] = [overview, upstreams, storage, processes];

/** The files of dashboards/, by name. */
export function dashboardFiles(): ReadonlyMap<string, string> {
  return new Map(
    DASHBOARDS.map((spec) => [`${spec.uid}.json`, `${JSON.stringify(createDashboard(spec).build(), undefined, 2)}\n`]),
  );
}
