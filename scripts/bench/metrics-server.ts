/**
 * Weir with or without its metrics, for scripts/bench/metrics.ts: `metrics-server.ts on|off serve --config FILE`. There is no such
 * switch in the product.
 */
import { startApp } from "../../src/compose.ts";
import { ConfigSource } from "../../src/config/config-source.ts";

const [metrics, , , file] = process.argv.slice(2);
const source = new ConfigSource({ file, env: {}, cwd: process.cwd() });
const app = await startApp((await source.load()).config, source, { uncounted: metrics === "off" });
process.once("SIGTERM", () => {
  void app.stop().then(() => process.exit());
});
