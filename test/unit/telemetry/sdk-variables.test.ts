import { expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";
import { sdkVariables } from "../../../src/telemetry/sdk-variables.ts";

const NOTHING = { endpoint: undefined, headers: new Map<string, Secret>(), sampleRatio: undefined };

const variables = (config: object, env: NodeJS.ProcessEnv): Readonly<Record<string, string>> =>
  Object.fromEntries(sdkVariables({ ...NOTHING, ...config }, env, "1.2.3"));

test("what the environment says is left as it is, but for what is not Weir's way", () => {
  const env = {
    PATH: "/bin",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
    OTEL_BSP_MAX_QUEUE_SIZE: "100",
    OTEL_METRICS_EXPORTER: "otlp",
    OTEL_LOGS_EXPORTER: "console",
    OTEL_LOG_LEVEL: "debug",
    OTEL_TRACES_SAMPLER: "",
  };
  expect(variables({}, env)).toEqual({
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
    OTEL_BSP_MAX_QUEUE_SIZE: "100",
    OTEL_METRICS_EXPORTER: "none",
    OTEL_LOGS_EXPORTER: "none",
    OTEL_SERVICE_NAME: "weir",
    OTEL_RESOURCE_ATTRIBUTES: "service.version=1.2.3",
    OTEL_NODE_RESOURCE_DETECTORS: "serviceinstance,host,env",
  });
});

test("the name and the attributes that the environment gives win", () => {
  const attributes = "service.name=cache,service.version=9,team=a";
  expect(variables({}, { OTEL_RESOURCE_ATTRIBUTES: attributes })).toMatchObject({
    OTEL_RESOURCE_ATTRIBUTES: `service.version=1.2.3,${attributes}`,
  });
  expect(variables({}, { OTEL_RESOURCE_ATTRIBUTES: attributes })).not.toHaveProperty("OTEL_SERVICE_NAME");
  expect(variables({}, { OTEL_SERVICE_NAME: "other" }).OTEL_SERVICE_NAME).toBe("other");
});

test("what the file says takes the place of what the environment says", () => {
  const config = {
    endpoint: new URL("https://otlp.example/base"),
    headers: new Map([
      ["authorization", new Secret("Bearer a=b,c")],
      ["x-team", new Secret("1")],
    ]),
    sampleRatio: 0.25,
  };
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://collector:4318/v1/traces",
    OTEL_EXPORTER_OTLP_HEADERS: "a=b",
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: "c=d",
    OTEL_TRACES_SAMPLER: "always_off",
  };
  const found = variables(config, env);
  expect(found).toMatchObject({
    OTEL_EXPORTER_OTLP_ENDPOINT: "https://otlp.example/base",
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20a%3Db%2Cc,x-team=1",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.25",
  });
  expect(found).not.toHaveProperty("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  expect(found).not.toHaveProperty("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
});
