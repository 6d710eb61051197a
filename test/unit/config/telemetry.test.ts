import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import type { Config, TelemetryConfig } from "../../../src/config/types.ts";

function parsed(telemetry: unknown, env: NodeJS.ProcessEnv = {}): Config["telemetry"] {
  const result = parseConfig({ telemetry }, env, "/srv/weir");
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config.telemetry;
}

function problems(telemetry: unknown, env: NodeJS.ProcessEnv = {}): readonly string[] {
  const result = parseConfig({ telemetry }, env, "/srv/weir");
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

describe("traces are off", () => {
  test.each<[string, unknown, NodeJS.ProcessEnv]>([
    ["by default", {}, {}],
    ["where a variable is empty", {}, { OTEL_EXPORTER_OTLP_ENDPOINT: " " }],
    ["where only other signals are exported", {}, { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "http://collector:4318" }],
    ["by OTEL_SDK_DISABLED", { otlpEndpoint: "http://a:4318" }, { OTEL_SDK_DISABLED: "TRUE" }],
    ["by OTEL_TRACES_EXPORTER", { otlpEndpoint: "http://a:4318", sampleRatio: 1 }, { OTEL_TRACES_EXPORTER: "none" }],
    ["and nothing is wrong then", {}, { OTEL_SDK_DISABLED: "true", OTEL_EXPORTER_OTLP_ENDPOINT: "rubbish" }],
  ])("%s", (_, telemetry, env) => {
    expect(parsed(telemetry, env).traces).toBeUndefined();
  });
});

describe("traces are on", () => {
  const nothing = { endpoint: undefined, headers: new Map(), sampleRatio: undefined };

  test.each<[string, unknown, NodeJS.ProcessEnv, TelemetryConfig["traces"]]>([
    [
      "by the key",
      { otlpEndpoint: "https://otlp.example/a/b" },
      {},
      { ...nothing, endpoint: new URL("https://otlp.example/a/b") },
    ],
    [
      "by the key's variable",
      {},
      { WEIR_TELEMETRY_OTLP_ENDPOINT: "http://a" },
      { ...nothing, endpoint: new URL("http://a") },
    ],
    ["by the SDK's variable", {}, { OTEL_EXPORTER_OTLP_ENDPOINT: "http://a:4318" }, nothing],
    [
      "by its variable for traces",
      { sampleRatio: "0.5" },
      { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://a/t" },
      { ...nothing, sampleRatio: 0.5 },
    ],
    ["by naming the exporter", {}, { OTEL_TRACES_EXPORTER: "otlp" }, nothing],
  ])("%s", (_, telemetry, env, traces) => {
    expect(parsed(telemetry, env).traces).toEqual(traces);
  });

  test("headers are secrets, from variables and files as others", () => {
    const { traces } = parsed(
      { otlpEndpoint: "http://a", otlpHeaders: { authorization: `Bearer \${TOKEN}` } },
      { TOKEN: "of-the-collector" },
    );
    expect(traces?.headers.get("authorization")?.reveal()).toBe("Bearer of-the-collector");
    expect(JSON.stringify([...(traces?.headers ?? [])])).not.toContain("of-the-collector");
  });
});

test.each<[unknown, NodeJS.ProcessEnv, string]>([
  [{ otlpEndpoint: "collector:4318" }, {}, "telemetry.otlpEndpoint: expected an address such as http://"],
  [{ otlpEndpoint: "grpc://collector:4317" }, {}, "telemetry.otlpEndpoint: expected an address"],
  [{ otlpEndpoint: "http://me:hunter2@collector" }, {}, "telemetry.otlpEndpoint: expected an address"],
  [{ otlpEndpoint: "http://collector?token=x" }, {}, "telemetry.otlpEndpoint: expected an address"],
  [{ otlpEndpoint: "http://a", sampleRatio: 1.5 }, {}, "telemetry.sampleRatio: expected a number from 0 to 1"],
  [{ otlpEndpoint: "http://a", sampleRatio: "10%" }, {}, "telemetry.sampleRatio: expected a number from 0 to 1"],
  [{ sampleRatio: 0.5 }, {}, "telemetry.sampleRatio: has no effect without telemetry.otlpEndpoint"],
  [{ otlpHeaders: { a: "b" } }, {}, "telemetry.otlpHeaders: has no effect without telemetry.otlpEndpoint"],
  [
    { otlpEndpoint: "http://a", otlpHeaders: { "a b": "c" } },
    {},
    'telemetry.otlpHeaders["a b"]: is no name of a header',
  ],
  [
    { otlpEndpoint: "http://a", otlpHeaders: { a: "hunter2\n" } },
    {},
    "telemetry.otlpHeaders.a: expected a header's value",
  ],
  [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }, "OTEL_EXPORTER_OTLP_ENDPOINT: expected an address such as"],
  [{}, { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "ftp://a" }, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: expected an address"],
])("%o %o is refused", (telemetry, env, problem) => {
  const found = problems(telemetry, env);
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(problem);
  expect(found[0]).not.toContain("hunter2");
});

test("a wrong variable is no matter where the file names the collector", () => {
  expect(problems({ otlpEndpoint: "http://a" }, { OTEL_EXPORTER_OTLP_ENDPOINT: "rubbish" })).toEqual([]);
});
