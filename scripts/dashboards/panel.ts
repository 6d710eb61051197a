/** One way for all panels: what a panel says, turned into Grafana's JSON. */
import { GraphThresholdsStyleConfigBuilder, GraphThresholdsStyleMode } from "@grafana/grafana-foundation-sdk/common";
import {
  DashboardBuilder as Dashboard,
  type DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  TextBoxVariableBuilder,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as GraphBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** Grafana's names. */
export type Unit = "short" | "reqps" | "ops" | "cps" | "percentunit" | "bytes" | "Bps" | "s" | "h";

export interface Query {
  readonly expr: string;
  /** With labels in double braces. */
  readonly legend: string;
}

export interface Panel {
  readonly title: string;
  /** What the numbers mean, and what is good or bad. */
  readonly description: string;
  readonly unit: Unit;
  readonly queries: readonly Query[];
  /** The place in docs/runbook.md for when it looks bad. */
  readonly runbook: string;
  /** Over time, or as it is now. */
  readonly as: "graph" | "stat";
  /** Values from which it is yellow and red, or with `falling`, red and yellow below which. */
  readonly thresholds?: { readonly warn: number; readonly alarm: number; readonly falling?: boolean };
}

/** One dashboard of the four. */
export interface DashboardSpec {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly panels: readonly Panel[];
}

/** Of 24 columns. */
const STAT = { w: 6, h: 5 };
const GRAPH = { w: 12, h: 8 };

const SOURCE = { type: "prometheus", uid: "$datasource" };

/** Tags by which the dashboards link to each other. */
const TAG = "weir";

export function createDashboard({ uid, title, description, panels }: DashboardSpec): DashboardBuilder {
  const dashboard = new Dashboard(title)
    .uid(uid)
    .description(description)
    .tags([TAG])
    .timezone("browser")
    .time({ from: "now-6h", to: "now" })
    .refresh("1m")
    .tooltip(DashboardCursorSync.Crosshair)
    .variables([
      new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"),
      labelVariable("job", "Job", "weir_build_info"),
      labelVariable("instance", "Instance", 'weir_build_info{job=~"$job"}'),
      labelVariable("upstream", "Upstream", 'weir_http_requests_total{job=~"$job"}'),
      new TextBoxVariableBuilder("runbook")
        .label("Runbook")
        .description("Where docs/runbook.md can be read; the panels link to its sections.")
        .defaultValue("docs/runbook.md"),
    ])
    .link(
      new DashboardLinkBuilder("Weir")
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(true)
        .includeVars(true)
        .keepTime(true),
    );
  let [x, y] = [0, 0];
  let rowHeight = 0;
  for (const [n, panel] of panels.entries()) {
    const size = panel.as === "stat" ? STAT : GRAPH;
    if (x + size.w > 24 || (rowHeight > 0 && rowHeight !== size.h)) {
      [x, y] = [0, y + rowHeight];
    }
    rowHeight = size.h;
    dashboard.withPanel(createPanel(panel, n + 1).gridPos({ x, y, ...size }));
    x += size.w;
  }
  return dashboard;
}

function createPanel(panel: Panel, id: number): StatBuilder | GraphBuilder {
  const { title, description, unit, queries, runbook, thresholds } = panel;
  const builder =
    panel.as === "stat"
      ? new StatBuilder()
      : new GraphBuilder()
          .fillOpacity(10)
          .thresholdsStyle(
            new GraphThresholdsStyleConfigBuilder().mode(
              thresholds === undefined ? GraphThresholdsStyleMode.Off : GraphThresholdsStyleMode.Dashed,
            ),
          );
  builder
    .id(id)
    .title(title)
    .description(description)
    .datasource(SOURCE)
    .unit(unit)
    .thresholds(
      new ThresholdsConfigBuilder()
        .mode(ThresholdsMode.Absolute)
        .steps(thresholds === undefined ? [{ value: null, color: "green" }] : stepsOf(thresholds)),
    )
    .links([
      new DashboardLinkBuilder("Runbook").type(DashboardLinkType.Link).url(`$runbook#${runbook}`).targetBlank(true),
    ])
    .targets(
      queries.map(({ expr, legend }, n) => {
        const query = new DataqueryBuilder()
          .refId(String.fromCharCode(65 + n))
          .expr(expr)
          .legendFormat(legend);
        return panel.as === "stat" ? query.instant() : query.range();
      }),
    );
  if (unit === "percentunit") builder.min(0).max(1);
  return builder;
}

function stepsOf({ warn, alarm, falling = false }: NonNullable<Panel["thresholds"]>) {
  return falling
    ? [
        { value: null, color: "red" },
        { value: alarm, color: "yellow" },
        { value: warn, color: "green" },
      ]
    : [
        { value: null, color: "green" },
        { value: warn, color: "yellow" },
        { value: alarm, color: "red" },
      ];
}

function labelVariable(name: string, label: string, metric: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(label)
    .datasource(SOURCE)
    .query({ query: `label_values(${metric}, ${name})`, refId: name })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .multi(true)
    .includeAll(true)
    .allValue(".*")
    .current({ selected: true, text: ["All"], value: ["$__all"] });
}
