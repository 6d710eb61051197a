/** The forms that queries have in common. */

/** The processes that are looked at. */
export const PROCESSES = `job=~"$job",instance=~"$instance"`;

/** The upstreams as well. */
export const UPSTREAMS = `${PROCESSES},upstream=~"$upstream"`;

/** Content: where there is something to be held. */
export const CONTENT = `kind=~"manifest|blob"`;

/** Answered without a download for it. */
export const HELD = `cache=~"hit|collapsed|revalidated|stale|negative"`;

const STEP = "$__rate_interval";
const RANGE = "$__range";

/** By the second, added up by these labels. */
export function rateBy(labels: string, metric: string, selector: string): string {
  return `sum by (${labels}) (rate(${metric}{${selector}}[${STEP}]))`;
}

/** In the time that is shown, added up by these labels. */
export function countBy(labels: string, metric: string, selector: string): string {
  return `sum by (${labels}) (increase(${metric}{${selector}}[${RANGE}]))`;
}

/** In the time that is shown. */
export function count(metric: string, selector: string): string {
  return `sum(increase(${metric}{${selector}}[${RANGE}]))`;
}

/** By the second. */
export function rate(metric: string, selector: string): string {
  return `sum(rate(${metric}{${selector}}[${STEP}]))`;
}

/** Below which so many of all are, by the labels. */
export function quantileBy(quantile: number, labels: string, histogram: string, selector: string): string {
  return `histogram_quantile(${quantile}, sum by (le, ${labels}) (rate(${histogram}_bucket{${selector}}[${STEP}])))`;
}
