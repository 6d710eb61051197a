import { describe, expect, test } from "vitest";
import { readTraceContext, writeTraceContext } from "../../../src/telemetry/trace-context.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

describe("what a traceparent says", () => {
  test.each([
    ["sampled", `00-${TRACE}-${SPAN}-01`, 1],
    ["not sampled", `00-${TRACE}-${SPAN}-00`, 0],
    ["flags that are not known", `00-${TRACE}-${SPAN}-ff`, 1],
    ["a later version", `01-${TRACE}-${SPAN}-01`, 1],
    ["a later version with more in it", `cc-${TRACE}-${SPAN}-01-what-will-be`, 1],
    ["with space around it", ` 00-${TRACE}-${SPAN}-01 `, 1],
  ])("%s", (_, traceparent, traceFlags) => {
    expect(readTraceContext({ traceparent })).toEqual({ traceId: TRACE, spanId: SPAN, traceFlags, isRemote: true });
  });

  test.each([
    ["none", undefined],
    ["nothing", ""],
    ["no trace id", `00-${"0".repeat(32)}-${SPAN}-01`],
    ["no span id", `00-${TRACE}-${"0".repeat(16)}-01`],
    ["capitals", `00-${TRACE.toUpperCase()}-${SPAN}-01`],
    ["a short trace id", `00-${TRACE.slice(1)}-${SPAN}-01`],
    ["the version that is none", `ff-${TRACE}-${SPAN}-01`],
    ["more than its version has", `00-${TRACE}-${SPAN}-01-more`],
    ["several", `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`],
    ["several headers", [`00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`]],
    ["ten kilobytes", "0".repeat(10_240)],
  ])("%s is malformed", (_, traceparent) => {
    expect(readTraceContext({ traceparent, tracestate: "a=b" })).toBeUndefined();
  });
});

test("a tracestate goes with it, without what is malformed in it, and not where it is longer than it may be", () => {
  const traceparent = `00-${TRACE}-${SPAN}-01`;
  const passed = (tracestate: string): string | undefined => {
    const context = readTraceContext({ traceparent, tracestate });
    return context && writeTraceContext(context).tracestate;
  };
  expect(passed("vendor=value,other=1")).toBe("vendor=value,other=1");
  expect(passed("vendor=value, UPPER=1,=x,no-value")).toBe("vendor=value");
  expect(passed("line=a\r\nbreak: b")).toBeUndefined();
  expect(passed(`vendor=${"x".repeat(512)}`)).toBeUndefined();
});

test("it is written as version 00", () => {
  const context = { traceId: TRACE, spanId: SPAN, traceFlags: 0xff };
  expect(writeTraceContext(context)).toEqual({ traceparent: `00-${TRACE}-${SPAN}-01` });
  expect(writeTraceContext({ ...context, traceFlags: 0 })).toEqual({ traceparent: `00-${TRACE}-${SPAN}-00` });
});
