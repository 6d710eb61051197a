import { createTraceState, type SpanContext } from "@opentelemetry/api";
import type { TraceHeaders } from "../base/trail.ts";

/** Version, trace id, parent id, flags, and what later versions may put behind them (W3C Trace Context, 3.2 and 4). */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

const NO_VERSION = "ff";
const ONLY_ZEROS = /^0+$/;

/** Of the flags, the only one that is known. */
const SAMPLED = 1;

/** Who asked, as a parent; undefined where nothing is said, or nothing that can be understood. */
export function readTraceContext({ traceparent, tracestate }: TraceHeaders): SpanContext | undefined {
  if (traceparent === undefined) return undefined;
  const [, version, traceId = "", spanId = "", flags = "", more] = TRACEPARENT.exec(String(traceparent).trim()) ?? [];
  const malformed = version === undefined || version === NO_VERSION || (version === "00" && more !== undefined);
  if (malformed || ONLY_ZEROS.test(traceId) || ONLY_ZEROS.test(spanId)) return undefined;
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & SAMPLED, isRemote: true };
  // Bounded and checked by the API: members that are malformed or too many are left out.
  return tracestate === undefined ? context : { ...context, traceState: createTraceState(String(tracestate)) };
}

export function writeTraceContext({ traceId, spanId, traceFlags, traceState }: SpanContext): Record<string, string> {
  const flags = (traceFlags & SAMPLED).toString(16).padStart(2, "0");
  const state = traceState?.serialize() ?? "";
  return { traceparent: `00-${traceId}-${spanId}-${flags}`, ...(state === "" ? {} : { tracestate: state }) };
}
