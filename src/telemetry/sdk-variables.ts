import type { TracesConfig } from "../config/types.ts";

/**
 * What the SDK is to be started with, in its own words: what the environment says, with what the configuration says in its
 * place. Pure.
 */
export function sdkVariables(
  { endpoint, headers, sampleRatio }: TracesConfig,
  env: NodeJS.ProcessEnv,
  version: string,
): ReadonlyMap<string, string> {
  const variables = new Map(
    Object.entries(env).flatMap(([name, value]) =>
      name.startsWith("OTEL_") && value !== undefined && value !== "" ? [[name, value] as const] : [],
    ),
  );
  // Metrics are Prometheus' here, and the log is standard output.
  variables.set("OTEL_METRICS_EXPORTER", "none");
  variables.set("OTEL_LOGS_EXPORTER", "none");
  // It would write to standard output, among the lines of the log.
  variables.delete("OTEL_LOG_LEVEL");
  const attributes = variables.get("OTEL_RESOURCE_ATTRIBUTES");
  const own = `service.version=${version}`;
  variables.set("OTEL_RESOURCE_ATTRIBUTES", attributes === undefined ? own : `${own},${attributes}`);
  if (!variables.has("OTEL_SERVICE_NAME") && attributes?.includes("service.name=") !== true) {
    variables.set("OTEL_SERVICE_NAME", "weir");
  }
  if (!variables.has("OTEL_NODE_RESOURCE_DETECTORS")) {
    // The others tell of the command line and the user.
    variables.set("OTEL_NODE_RESOURCE_DETECTORS", "serviceinstance,host,env");
  }
  if (endpoint !== undefined) {
    variables.set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.href);
    variables.delete("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  }
  if (headers.size > 0) {
    const pairs = [...headers].map(([name, value]) => `${name}=${encodeURIComponent(value.reveal())}`);
    variables.set("OTEL_EXPORTER_OTLP_HEADERS", pairs.join(","));
    variables.delete("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
  }
  if (sampleRatio !== undefined) {
    variables.set("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    variables.set("OTEL_TRACES_SAMPLER_ARG", String(sampleRatio));
  }
  return variables;
}
