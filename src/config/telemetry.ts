import { choice, later, mapping } from "./values.ts";

export const telemetrySchema = mapping({
  logLevel: choice(["debug", "info", "warn", "error"])
    .prefault("info")
    .describe("The least severe log lines that are written; requests are logged at info."),
  otlpEndpoint: later("tracing"),
})
  .prefault({})
  .describe("What Weir tells about itself.");
