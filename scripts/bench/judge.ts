import type { Aim } from "./aims.ts";
import { differenceOf, type Figure, figureOf, median, ratioOf } from "./figures.ts";
import { type CaseResult, findRow, METRICS, type Metric, type Row, valuesOf } from "./result.ts";

/** What became of an aim. */
export interface Verdict {
  readonly aim: Aim;
  /** Whose figure it is. */
  readonly server: string;
  /** Undefined where what it needs was not measured. */
  readonly figure: Figure | undefined;
  /** With what it was compared. */
  readonly beside: string | undefined;
  readonly met: boolean | undefined;
}

/** Of the aims of this case. Pure. */
export function judge({ name, rows }: CaseResult, aims: readonly Aim[]): Verdict[] {
  return aims.filter(({ of }) => of === name).map((aim) => verdictOf(aim, rows));
}

function verdictOf(aim: Aim, rows: readonly Row[]): Verdict {
  const { load, server, or = server, metric, beside, besideLoad = load, as = "ratio", atLeast, atMost } = aim;
  const of = bestOf(rows, load, [server, or], metric);
  const peer = beside === undefined ? undefined : bestOf(rows, besideLoad, beside, metric);
  if (of === undefined || (beside !== undefined && peer === undefined)) {
    return { aim, server, figure: undefined, beside: undefined, met: undefined };
  }
  const combine = as === "ratio" ? ratioOf : differenceOf;
  const figure = peer === undefined ? figureOf(of.values) : combine(of.values, peer.values);
  const met = (atLeast === undefined || figure.value >= atLeast) && (atMost === undefined || figure.value <= atMost);
  return { aim, server: of.server, figure, beside: peer?.server, met };
}

function measured(rows: readonly Row[], load: string, server: string, metric: Metric): readonly number[] | undefined {
  const row = findRow(rows, load, server);
  const values = row === undefined ? [] : valuesOf(row, metric);
  return values.length === 0 ? undefined : values;
}

function bestOf(
  rows: readonly Row[],
  load: string,
  servers: readonly string[],
  metric: Metric,
): { readonly server: string; readonly values: readonly number[] } | undefined {
  return servers
    .flatMap((server) => {
      const values = measured(rows, load, server, metric);
      return values === undefined ? [] : { server, values };
    })
    .sort((a, b) => (median(a.values) - median(b.values)) * (METRICS[metric] === "more" ? -1 : 1))[0];
}
