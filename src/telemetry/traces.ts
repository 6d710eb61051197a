import { context, DiagLogLevel, diag, trace } from "@opentelemetry/api";
import { NodeSDK } from "@opentelemetry/sdk-node";
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import type { Log } from "../base/log.ts";
import { createRandomIds } from "../base/random-ids.ts";
import { waitFor } from "../base/wait-for.ts";
import { createSpanTrails, type SpanTrails } from "./span-trail.ts";
import { TraceWarnings } from "./trace-warnings.ts";

/** What has not been sent by then is not worth a longer stop. */
const FLUSH_MS = 3_000;

/** W3C Trace Context, 3.2.2. */
const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;

export interface TracesDeps {
  /** Weir's own. */
  readonly version: string;
  readonly clock: Clock;
  /** As `performance.now`. */
  monotonicMs(): number;
  readonly log: Log;
}

/** Traces that are sent, by the process that made them: at most one of these at a time. */
export interface Traces extends SpanTrails {
  /** Sends what is left, for as long as that is worth it. Never rejects. */
  close(): Promise<void>;
}

/**
 * Starts OpenTelemetry's SDK. It sends behind the requests, in batches, from a queue that is bounded; what fails is dropped.
 *
 * @param variables the `OTEL_*` variables that it is to see, and no others
 * @throws Error where the SDK cannot use them
 */
export function startTraces(variables: ReadonlyMap<string, string>, deps: TracesDeps): Traces {
  const { version, clock, log } = deps;
  const monotonicMs = (): number => deps.monotonicMs();
  const warnings = new TraceWarnings(clock, log);
  const tell = (text: string): void => warnings.tell(text);
  diag.setLogger(
    { error: tell, warn: tell, info() {}, debug() {}, verbose() {} },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const sdk = withEnvironment(variables, started);
  return {
    ...createSpanTrails({ tracer: trace.getTracer("weir", version), clock, monotonicMs }),
    async close() {
      const late = withDeadline(new AbortController().signal, FLUSH_MS, clock);
      await waitFor(sdk.shutdown(), late.signal).catch((err: unknown) => {
        log.warn({ err }, "the last traces could not be sent");
      });
      late.clear();
      trace.disable();
      context.disable();
      diag.disable();
    },
  };
}

function started(): NodeSDK {
  try {
    // Other processes are told where they stand by whatever asks them.
    const sdk = new NodeSDK({ textMapPropagator: null, idGenerator: randomIds() });
    sdk.start();
    return sdk;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`traces cannot be sent as telemetry.otlpEndpoint or the OTEL_* variables say: ${why}`, {
      cause: error,
    });
  }
}

/** The SDK's own are made of a dozen random numbers each, also where nothing is sampled. */
function randomIds() {
  return { generateTraceId: createRandomIds(TRACE_ID_BYTES), generateSpanId: createRandomIds(SPAN_ID_BYTES) };
}

/** Runs `work`, which must not wait for anything, with these `OTEL_*` variables and no others: the SDK reads nothing else. */
function withEnvironment<T>(variables: ReadonlyMap<string, string>, work: () => T): T {
  const others = Object.entries(process.env).filter(([name]) => name.startsWith("OTEL_"));
  for (const [name] of others) delete process.env[name];
  for (const [name, value] of variables) process.env[name] = value;
  try {
    return work();
  } finally {
    for (const name of variables.keys()) delete process.env[name];
    for (const [name, value] of others) process.env[name] = value;
  }
}
