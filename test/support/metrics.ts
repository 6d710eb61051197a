/** What Weir tells Prometheus. */
import { httpRequest, type Network } from "./network.ts";
import { until } from "./processes.ts";

/** The sum of the samples of a metric at an admin address whose labels include these; 0 where there are none. */
export async function metricOf(
  adminUrl: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
  network?: Network,
): Promise<number> {
  const { status, body } = await httpRequest(`${adminUrl}/metrics`, network === undefined ? {} : { network });
  if (status !== 200) throw new Error(`/metrics answered ${status}`);
  return metricValue(body.toString(), name, labels);
}

/** The same of an exposition. */
export function metricValue(text: string, name: string, labels: Readonly<Record<string, string>>): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return text
    .split("\n")
    .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
    .filter((line) => wanted.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** Resolves when no blob is being downloaded any more, kept or not. */
export async function fillsOver(weir: { readonly adminUrl: string }): Promise<void> {
  await until("all fills to be over", async () => (await metricOf(weir.adminUrl, "weir_fills_in_flight")) === 0);
}
