import {
  type Attributes,
  type Span,
  type SpanContext,
  type SpanOptions,
  type TimeInput,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { expect, test } from "vitest";
import type { RequestEnd } from "../../../src/http/observer.ts";
import { createSpanTrails } from "../../../src/telemetry/span-trail.ts";
import { ManualClock } from "../../support/manual-clock.ts";

/** Keeps what spans are told. */
class KeptSpan {
  readonly name: string;
  readonly attributes: Attributes;
  readonly startTime: TimeInput | undefined;
  readonly events: string[] = [];
  readonly status: unknown[] = [];
  endTime: TimeInput | undefined;

  constructor(name: string, { attributes = {}, startTime }: SpanOptions) {
    this.name = name;
    this.attributes = { ...attributes };
    this.startTime = startTime;
  }

  get recording(): boolean {
    return this.endTime === undefined;
  }
}

function tracerInto(spans: KeptSpan[], sampled = true): Tracer {
  const startSpan = (name: string, options: SpanOptions = {}): Span => {
    const kept = new KeptSpan(name, options);
    spans.push(kept);
    const context: SpanContext = {
      traceId: "a".repeat(32),
      spanId: String(spans.length).padStart(16, "0"),
      traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
    };
    const fail = (): never => {
      throw new Error("a span that is over was told something");
    };
    const told = <T>(tell: () => T): T => (kept.recording ? tell() : fail());
    const span = {
      updateName: (to: string) => told(() => Object.assign(kept, { name: to })),
      spanContext: () => context,
      isRecording: () => sampled && kept.recording,
      setAttribute: (key: string, value: string) => told(() => Object.assign(kept.attributes, { [key]: value })),
      setAttributes: (more: Attributes) => told(() => Object.assign(kept.attributes, more)),
      addEvent: (event: string) => told(() => kept.events.push(event)),
      setStatus: (status: unknown) => told(() => kept.status.push(status)),
      end: (at: TimeInput) => told(() => (kept.endTime = at)),
    };
    return Object.assign(trace.wrapSpanContext(context), span) as unknown as Span;
  };
  return { startSpan } as Tracer;
}

function trailsInto(spans: KeptSpan[], sampled = true) {
  const clock = new ManualClock();
  const time = { ms: 0.25 };
  const trails = createSpanTrails({ tracer: tracerInto(spans, sampled), clock, monotonicMs: () => time.ms });
  return { trails, clock, time };
}

test("a request that goes on and on has a bounded number of spans", () => {
  const spans: KeptSpan[] = [];
  const trail = trailsInto(spans).trails.start("id", {});
  const first = trail.begin("fill", {});
  for (let i = 0; i < 10_000; i += 1) first.trail.begin("storage", { op: "blob-stat" }).end({});
  expect(spans).toHaveLength(512);
  const beyond = trail.begin("exchange", {});
  beyond.add({});
  beyond.end({});
  // Whoever is asked then is told the span above.
  expect(beyond.trail.place?.spanId).toBe(trail.place?.spanId);
});

test("what is learnt after the end of a span is told elsewhere, or not at all", () => {
  const spans: KeptSpan[] = [];
  const trail = trailsInto(spans).trails.start("id", {});
  const step = trail.begin("fill", {});
  step.trail.note("resumed", { position: 3 });
  step.end({ outcome: "committed" });
  step.end({ outcome: "failed" });
  step.add({ status: 500 });
  step.joins({ traceId: "b".repeat(32), spanId: "c".repeat(16), headers: () => ({}) });
  step.trail.note("resumed", { position: 4 });
  expect(spans.map(({ name, events }) => [name, ...events])).toEqual([["request"], ["fill", "resumed"], ["resumed"]]);
  expect(spans[1]?.attributes).toEqual({ "weir.outcome": "committed" });
  expect(spans[1]?.status).toEqual([]);
});

test("the first failure is the one that is told", () => {
  const spans: KeptSpan[] = [];
  const trail = trailsInto(spans).trails.start("id", {});
  const exchange = trail.begin("exchange", { method: "GET", kind: "manifest", url: "https://a.example/v2/", hop: 0 });
  exchange.add({ status: 503, answeredMs: 12 });
  exchange.end({ fault: "status", bytes: 0 });
  expect(spans[1]?.attributes).toMatchObject({
    "server.port": 443,
    "http.response.status_code": 503,
    "error.type": "503",
    "weir.fault": "status",
    "weir.answered_ms": 12,
  });
  expect(spans[1]?.status).toHaveLength(1);
});

test("times are the request's, and finer than a millisecond", () => {
  const spans: KeptSpan[] = [];
  const { trails, clock, time } = trailsInto(spans);
  const trail = trails.start("id", {});
  time.ms += 1.5;
  trail.begin("fill", {}).end({});
  const seconds = clock.now() / 1000;
  expect(spans.map(({ startTime }) => startTime)).toEqual([
    [seconds, 0],
    [seconds, 1_500_000],
  ]);
});

test("what is not sampled makes no spans of its own, and wants no small steps", () => {
  const spans: KeptSpan[] = [];
  const trail = trailsInto(spans, false).trails.start("id", {});
  const step = trail.begin("fill", {});
  step.trail.note("resumed", {});
  step.end({});
  expect([spans.length, trail.detail]).toEqual([1, undefined]);
  expect(step.trail.place?.headers()).toEqual({ traceparent: `00-${"a".repeat(32)}-${"1".padStart(16, "0")}-00` });
});

const END: RequestEnd = {
  line: {
    requestId: "id",
    client: "127.0.0.1",
    account: "alice",
    method: "GET",
    path: "/v2/library/app/manifests/1",
    ns: undefined,
    upstream: "docker.io",
    repository: "library/app",
    reference: "1",
    kind: "manifest",
    status: 200,
    cache: "hit",
    bytes: 100,
    firstByteMs: 1.5,
    totalMs: 1.5,
    userAgent: "test",
  },
  form: "default",
  cache: { outcome: "hit", ttlS: 60 },
  error: undefined,
  scheme: "http",
  httpVersion: "1.1",
};

test("what was answered at once has the span that it would have had", () => {
  const spans: KeptSpan[] = [];
  const { trails, clock, time } = trailsInto(spans);
  const startedAtMs = clock.now();
  const from = { traceparent: `00-${"c".repeat(32)}-${"d".repeat(16)}-01` };
  const place = trails.atOnce({ requestId: "id", startedAtMs, totalMs: 1.5, length: 0, end: () => END }, from);
  const trail = trails.start("id", from);
  time.ms += 1.5;
  trail.ended(END);
  const [atOnce, ended] = spans.map((span) => ({ ...span, recording: span.recording }));
  expect(atOnce).toEqual(ended);
  expect([atOnce?.name, atOnce?.recording]).toEqual(["GET /v2/{name}/manifests/{reference}", false]);
  expect(place).toMatchObject({ traceId: "a".repeat(32), spanId: "1".padStart(16, "0") });
});

test("what was answered at once and is not sampled has its place, and nobody asks what it came to", () => {
  const spans: KeptSpan[] = [];
  const end = (): never => {
    throw new Error("nobody wants to know");
  };
  const { trails } = trailsInto(spans, false);
  const place = trails.atOnce({ requestId: "id", startedAtMs: 0, totalMs: 1, length: 0, end }, {});
  expect([spans.length, place?.spanId]).toEqual([1, "1".padStart(16, "0")]);
});
