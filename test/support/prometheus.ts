/** A Prometheus of one's own, for tests behind `toolTest(["prometheus"], …)`. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { answers, httpRequest } from "./network.ts";
import { freePort, ready, start, tempFolder, until } from "./processes.ts";

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Prometheus {
  /** What the expression is worth at that time; a scalar has no labels. Rejects with Prometheus' words when it does not parse. */
  query(expr: string, atS: number): Promise<readonly Sample[]>;
  /** Resolves with the time of a scrape that began after now and was answered in time; seconds since the epoch. */
  scraped(): Promise<number>;
  /** The rules it has loaded, with what is wrong with them. */
  rules(): Promise<readonly { readonly name: string; readonly health: string; readonly lastError?: string }[]>;
}

/** Scrapes `target` (host and port) once a second as the job `weir`. */
export async function startPrometheus(
  stack: AsyncDisposableStack,
  target: string,
  ruleFiles: readonly string[],
): Promise<Prometheus> {
  const folder = await tempFolder(stack);
  const file = join(folder, "prometheus.yaml");
  const config = {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: ruleFiles,
    scrape_configs: [{ job_name: "weir", static_configs: [{ targets: [target] }] }],
  };
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config));
  const host = `127.0.0.1:${await freePort()}`;
  const running = await start([
    ...["prometheus", `--config.file=${file}`, `--storage.tsdb.path=${join(folder, "data")}`],
    ...[`--web.listen-address=${host}`, "--log.level=warn"],
  ]);
  stack.defer(async () => {
    await running.stop();
  });
  await ready("prometheus", running, () => answers(`http://${host}/-/ready`, 200));
  const get = async (path: string): Promise<unknown> => {
    const { status, body } = await httpRequest(`http://${host}${path}`);
    const answer: { readonly data?: unknown; readonly error?: string } = JSON.parse(body.toString());
    if (status !== 200) throw new Error(`${path}: ${answer.error}`);
    return answer.data;
  };
  const query = async (expr: string, atS: number): Promise<readonly Sample[]> => {
    const data = (await get(`/api/v1/query?${new URLSearchParams({ query: expr, time: atS.toFixed(3) })}`)) as Answer;
    return data.resultType === "scalar"
      ? [{ labels: {}, value: Number(data.result[1]) }]
      : data.result.map(({ metric, value }) => ({ labels: metric, value: numberOf(value[1]) }));
  };
  return {
    query,
    async scraped() {
      const sinceS = Date.now() / 1000;
      let atS = 0;
      await until("a scrape", async () => {
        const [sample] = await query('timestamp(up{job="weir"}) and up{job="weir"} == 1', Date.now() / 1000);
        atS = sample?.value ?? 0;
        return atS > sinceS;
      });
      return atS;
    },
    async rules() {
      const { groups } = (await get("/api/v1/rules")) as {
        groups: readonly { rules: readonly { name: string; health: string; lastError?: string }[] }[];
      };
      return groups.flatMap(({ rules }) => rules);
    },
  };
}

type Answer =
  | { readonly resultType: "scalar"; readonly result: readonly [number, string] }
  | {
      readonly resultType: "vector";
      readonly result: readonly {
        readonly metric: Readonly<Record<string, string>>;
        readonly value: readonly [number, string];
      }[];
    };

function numberOf(text: string): number {
  if (text === "+Inf") return Number.POSITIVE_INFINITY;
  return text === "-Inf" ? Number.NEGATIVE_INFINITY : Number(text);
}
