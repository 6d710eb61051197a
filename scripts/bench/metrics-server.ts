/**
 * Weir for scripts/bench/metrics.ts, which forks it and tells it whether to count: `metrics-server.ts serve --config FILE`. There is
 * no such switch in the product.
 */
import { startApp } from "../../src/compose.ts";
import { ConfigSource } from "../../src/config/config-source.ts";
import type { Metrics } from "../../src/telemetry/metrics.ts";

/** What is told by the parent: to count from now on, or not, or to say what CPU time was used so far (microseconds). */
export type Order = "count" | "do not count" | "tell";

let counting = true;
process.on("message", (order: Order) => {
  if (order === "tell") {
    const { user, system } = process.cpuUsage();
    process.send?.(user + system);
  } else {
    counting = order === "count";
  }
});

/** These are asked, and answer; everything else is a report. */
const ASKED: ReadonlySet<string> = new Set<keyof Metrics>(["expose", "snapshot"]);

function metered(metrics: Metrics): Metrics {
  const reports = Object.entries(metrics).map(([name, report]: [string, (...args: unknown[]) => unknown]) => [
    name,
    ASKED.has(name) ? report : (...args: unknown[]) => (counting ? report(...args) : undefined),
  ]);
  return Object.fromEntries(reports) as Metrics;
}

const [, , file] = process.argv.slice(2);
const source = new ConfigSource({ file, env: {}, cwd: process.cwd() });
const app = await startApp((await source.load()).config, source, { metered });
process.once("SIGTERM", () => {
  void app.stop().then(() => process.exit());
});
