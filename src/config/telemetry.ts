import { z } from "zod";
import { Secret } from "../base/secret.ts";
import type { TelemetryConfig, TracesConfig } from "./types.ts";
import { choice, mapping, value } from "./values.ts";

const COLLECTOR =
  "an address such as http://collector.example:4318, perhaps with a path, without user name and password";

const collector = value(COLLECTOR, (input) => (typeof input === "string" ? parseCollector(input) : undefined), {
  type: "string",
  pattern: "^https?://[^?#@]+$|\\$\\{",
});

/** Visible, as a header has it; what is sent with every batch is a name and a token. */
const headerValue = value(
  "a header's value; better from a variable or a file than written here",
  (input) => (typeof input === "string" && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(input) ? input : undefined),
  { type: "string", minLength: 1 },
);

const ratio = value(
  "a number from 0 to 1, such as 0.1",
  (input) => {
    const number = typeof input === "string" && /^\d*\.?\d+$/.test(input) ? Number(input) : input;
    return typeof number === "number" && number >= 0 && number <= 1 ? number : undefined;
  },
  { type: ["number", "string"], minimum: 0, maximum: 1, pattern: "^\\d*\\.?\\d+$|\\$\\{" },
);

export const telemetrySchema = mapping({
  logLevel: choice(["debug", "info", "warn", "error"])
    .prefault("info")
    .describe("The least severe log lines that are written; requests are logged at info."),
  otlpEndpoint: collector
    .optional()
    .describe(
      "The collector that takes traces by OTLP over HTTP; /v1/traces is put behind it. Without it, and without OTEL_* variables, nothing is traced.",
    ),
  otlpHeaders: z
    .record(z.string(), headerValue)
    .prefault({})
    .describe("What the collector wants to see in every request, such as a token. Secret."),
  sampleRatio: ratio
    .optional()
    .describe(
      "Share of the requests that are traced, 0 to 1, where the client has not decided it; all of them when left out.",
    ),
})
  .prefault({})
  .describe("What Weir tells about itself.");

type Report = (path: readonly string[], message: string) => void;

/** As RFC 9110, 5.6.2 has names; the comma and the equals sign that the SDK's own form gives a meaning are not in it. */
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

/** Where the SDK's own variables name the collector (OpenTelemetry, "OTLP Exporter Configuration"). */
const ENDPOINT_VARIABLES = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] as const;

/**
 * What is traced, by the file and by the variables that all of OpenTelemetry's SDKs know. The file wins where both say
 * something; `OTEL_SDK_DISABLED` and `OTEL_TRACES_EXPORTER=none` turn traces off in any case.
 *
 * @param report takes the path below `telemetry`, and what is wrong there
 * @param reportVariable the same for a variable
 */
export function telemetryConfig(
  parsed: z.output<typeof telemetrySchema>,
  env: NodeJS.ProcessEnv,
  report: Report,
  reportVariable: (name: string, message: string) => void,
): TelemetryConfig {
  const { logLevel, otlpEndpoint: endpoint, otlpHeaders, sampleRatio } = parsed;
  for (const name of Object.keys(otlpHeaders)) {
    if (!HEADER_NAME.test(name)) report(["otlpHeaders", name], "is no name of a header");
  }
  const headers = new Map(Object.entries(otlpHeaders).map(([name, text]) => [name, new Secret(text)]));
  const traces: TracesConfig = { endpoint, headers, sampleRatio };
  if (variable(env, "OTEL_SDK_DISABLED")?.toLowerCase() === "true" || exporter(env) === "none") {
    return { logLevel, traces: undefined };
  }
  const named = ENDPOINT_VARIABLES.flatMap((name) => {
    const text = variable(env, name);
    return text === undefined ? [] : [{ name, text }];
  });
  if (endpoint === undefined && named.length === 0 && exporter(env) === undefined) {
    for (const key of ["otlpHeaders", "sampleRatio"] as const) {
      const given = key === "otlpHeaders" ? headers.size > 0 : sampleRatio !== undefined;
      if (given) report([key], "has no effect without telemetry.otlpEndpoint");
    }
    return { logLevel, traces: undefined };
  }
  if (endpoint === undefined) {
    for (const { name, text } of named) {
      if (parseCollector(text) === undefined) reportVariable(name, `expected ${COLLECTOR}`);
    }
  }
  return { logLevel, traces };
}

function parseCollector(text: string): URL | undefined {
  return /^https?:\/\/[^?#@\\\s]+$/i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
}

function exporter(env: NodeJS.ProcessEnv): string | undefined {
  return variable(env, "OTEL_TRACES_EXPORTER");
}

/** An empty one counts as unset. */
function variable(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const text = env[name]?.trim() ?? "";
  return text === "" ? undefined : text;
}
