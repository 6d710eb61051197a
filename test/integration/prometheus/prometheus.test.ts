import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { httpRequest } from "../../support/network.ts";
import { until } from "../../support/processes.ts";
import { type Prometheus, startPrometheus } from "../../support/prometheus.ts";
import { requireTool, toolTest } from "../../support/tools.ts";
import { type Expected, expectedOfPanels, expectedOfRules } from "./expected.ts";
import { Load } from "./load.ts";
import {
  differences,
  metricsOf,
  type NamedQuery,
  overSpan,
  panelQueries,
  ruleQueries,
  unknownMetrics,
} from "./queries.ts";

const RULES = fileURLToPath(new URL("../../../dashboards/weir.rules.yaml", import.meta.url));
const RULE_CASES = fileURLToPath(new URL("../../rules/weir.rules.test.yaml", import.meta.url));

async function exposed(load: Load): Promise<string> {
  return (await httpRequest(`${load.weir.adminUrl}/metrics`)).body.toString();
}

/** Every query asked once, with what is wrong by its name. */
async function check(
  queries: readonly NamedQuery[],
  expected: ReadonlyMap<string, Expected>,
  ask: (expr: string) => ReturnType<Prometheus["query"]>,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const wrong = new Map<string, readonly string[]>();
  for (const { name, expr } of queries) {
    const found = differences(expected.get(name) ?? new Map(), await ask(expr));
    if (found.length > 0) wrong.set(name, found);
  }
  return wrong;
}

/** Of nothing that is expected to be other than 0, a query that finds nothing cannot be told. */
function isSeen(expected: Expected | undefined): boolean {
  return [...(expected?.values() ?? [])].some((worth) => (typeof worth === "number" ? worth !== 0 : worth.least > 0));
}

toolTest(
  ["prometheus", "promtool", "redis-server"],
  "every query of every panel and rule is worth what the load makes it, by a real Prometheus",
  async () => {
    await using stack = new AsyncDisposableStack();
    const startedS = Date.now() / 1000;
    const load = await Load.start(stack);
    const instance = new URL(load.weir.adminUrl).host;
    const prometheus = await startPrometheus(stack, instance, [RULES]);
    // Prometheus sees only how much a series has grown: every series is there before the round that is measured.
    await load.round();
    const fromS = await prometheus.scraped();
    const round = await load.round();
    const nowS = await prometheus.scraped();
    // The sample at the beginning is just within it.
    const span = `${Math.round((nowS - fromS) * 1000) + 1}ms`;
    const measured = { load, round, lasted: nowS - fromS, startedS, nowS, instance };
    const ask = (expr: string) => prometheus.query(overSpan(expr, span), nowS);
    const queries = [...panelQueries(), ...ruleQueries()];
    const expected = new Map([...expectedOfPanels(measured), ...expectedOfRules(measured)]);

    expect(queries.map(({ name }) => name).sort()).toEqual([...expected.keys()].sort());
    expect(await check(queries, expected, ask)).toEqual(new Map());

    const exposition = await exposed(load);
    // A disk in front of a bucket has metrics of its own.
    const ofTiered = ["upload_queue_bytes", "bucket_bytes", "bucket_limit_bytes"];
    const tiered = ofTiered.map((name) => `# TYPE weir_storage_${name} gauge\n`).join("");
    expect(unknownMetrics(queries, exposition + tiered)).toEqual([]);
    const promtool = spawnSync(requireTool("promtool"), ["check", "metrics"], { input: exposition, encoding: "utf8" });
    expect([promtool.status, promtool.stdout, promtool.stderr]).toEqual([0, "", ""]);

    // Had Weir another name for any of its metrics, the queries would not be worth what they should be.
    const renamed = queries
      .filter(({ name, expr }) => metricsOf(expr).size > 0 && isSeen(expected.get(name)))
      .map(({ name, expr }) => ({ name, expr: expr.replaceAll(/\bweir_/g, "renamed_") }));
    expect(renamed.length).toBeGreaterThan(50);
    expect([...(await check(renamed, expected, ask)).keys()]).toEqual(renamed.map(({ name }) => name));

    await troubled(load, prometheus);
  },
);

/** What the load leaves well: Redis, the configuration, and at last Weir itself. */
async function troubled(load: Load, prometheus: Prometheus): Promise<void> {
  const worthOf = async (name: string): Promise<readonly number[]> => {
    const query = [...panelQueries(), ...ruleQueries()].find((one) => one.name === name);
    const found = await prometheus.query(overSpan(query?.expr ?? name, "10m"), Date.now() / 1000);
    return found.map(({ value }) => value);
  };
  const fires = (name: string) =>
    until(`${name} to fire`, async () => (await worthOf(name)).some((value) => value >= 0));
  expect(await worthOf("WeirRedisTrouble")).toEqual([]);
  await load.redis.kill();
  // A question to Redis for each.
  await httpRequest(`${load.weir.url}/v2/docker.io/library/other/manifests/1`);
  await fires("WeirRedisTrouble");
  expect(await worthOf("weir-storage/Redis errors/A")).toEqual([expect.any(Number)]);
  expect((await worthOf("weir-storage/Redis errors/A"))[0]).toBeGreaterThan(0);

  expect(await worthOf("WeirConfigurationRefused")).toEqual([]);
  await writeFile(load.weir.file, "{ serve: }");
  load.weir.process.kill("SIGHUP");
  await fires("WeirConfigurationRefused");
  expect(await worthOf("weir-overview/Configuration in force/A")).toEqual([0]);

  expect((await prometheus.rules()).filter(({ health }) => health !== "ok")).toEqual([]);
  await load.weir.kill();
  await fires("WeirDown");
}

test("a metric that is not there is named, and so is a value that is another", () => {
  const exposition = "# TYPE weir_a_total counter\n# TYPE weir_b_seconds histogram\n# TYPE weir_c gauge\n";
  const queries = [
    { name: "right", expr: "rate(weir_a_total[5m]) / sum by (le) (weir_b_seconds_bucket) > weir_b_seconds_count" },
    { name: "wrong", expr: "weir_a - weir_c_count" },
  ];
  expect(unknownMetrics(queries, exposition)).toEqual(["wrong: weir_a", "wrong: weir_c_count"]);
  const sample = { labels: { __name__: "weir_a_total", upstream: "docker.io" }, value: 3 };
  expect(differences(new Map([["upstream=docker.io", 3]]), [sample])).toEqual([]);
  expect(differences(new Map([["upstream=docker.io", 2]]), [sample])).toEqual([
    "{upstream=docker.io} is 3 instead of 2",
  ]);
  expect(differences(new Map([["upstream=quay.io", 3]]), [])).toEqual(["{upstream=quay.io} is NaN instead of 3"]);
  expect(differences(new Map(), [sample])).toEqual(["{upstream=docker.io} is 3 instead of 0"]);
  expect(differences(new Map([["upstream=docker.io", { least: 4, most: 5 }]]), [sample])).toEqual([
    "{upstream=docker.io} is 3 instead of 4 to 5",
  ]);
});

toolTest(["promtool"], "promtool finds nothing wrong with the rules, and they fire when they should", () => {
  for (const words of [
    ["check", "rules", RULES],
    ["test", "rules", RULE_CASES],
  ]) {
    const { status, stdout, stderr } = spawnSync(requireTool("promtool"), words, { encoding: "utf8" });
    expect([words, status, `${stdout}${stderr}`]).toEqual([words, 0, expect.stringContaining("SUCCESS")]);
  }
});
