import {
  type Context,
  type HrTime,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { Clock } from "../base/clock.ts";
import type { OpenStep, StepFields, TraceHeaders, TracePlace, Trail } from "../base/trail.ts";
import type { PeerTrails } from "../cluster/peer-server.ts";
import type { RequestEnd, RequestTrail, RequestTrails } from "../http/observer.ts";
import { failureOf, isInstantSpan, requestWords, type SpanWords, stepAttributes, stepWords } from "./span-words.ts";
import { readTraceContext, writeTraceContext } from "./trace-context.ts";

/** Spans of one request: a pull has a few dozen; a download that is resumed again and again has more. */
const MAX_SPANS = 512;

/** Trails whose steps are spans. */
export interface SpanTrails extends RequestTrails {
  readonly peers: PeerTrails;
}

export interface SpanDeps {
  readonly tracer: Tracer;
  readonly clock: Clock;
  /** Milliseconds that only ever grow, with fractions; as `performance.now`. */
  monotonicMs(): number;
}

export function createSpanTrails(deps: SpanDeps): SpanTrails {
  return {
    start(requestId, from) {
      const spans = new Spans(deps);
      const words = { name: "request", kind: SpanKind.SERVER, attributes: { "weir.request_id": requestId } };
      return new SpanRequest(spans.start(words, parentIn(from)), spans);
    },
    // The first byte went out with the last: it is no event of its own.
    atOnce(request, from) {
      const { requestId, startedAtMs, totalMs } = request;
      const options = { kind: SpanKind.SERVER, startTime: hrTime(startedAtMs) };
      const span = deps.tracer.startSpan("request", options, parentIn(from));
      // Most are not sampled: of those nothing is put together.
      if (span.isRecording()) {
        span.setAttribute("weir.request_id", requestId);
        tellEnd(span, request.end());
        span.end(hrTime(startedAtMs + totalMs));
      }
      // Nothing more of the span: what keeps the request keeps this.
      const { traceId, spanId } = span.spanContext();
      return { traceId, spanId };
    },
    peers: {
      asked(fields, from) {
        const spans = new Spans(deps);
        const span = spans.start(stepWords("peer-asked", fields), parentIn(from));
        return new SpanStep(spans, trailOf(span, spans), span);
      },
    },
  };
}

function parentIn(from: TraceHeaders): Context {
  const parent = readTraceContext(from);
  return parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
}

/** The spans of one request: how many more there may be, and one time for all of them. */
class Spans {
  readonly #deps: SpanDeps;
  readonly #startedAtMs: number;
  readonly #startedMs: number;
  #left = MAX_SPANS;

  constructor(deps: SpanDeps) {
    this.#deps = deps;
    this.#startedAtMs = deps.clock.now();
    this.#startedMs = deps.monotonicMs();
  }

  get exhausted(): boolean {
    return this.#left === 0;
  }

  start({ name, kind, attributes }: SpanWords, parent: Context): Span {
    this.#left -= 1;
    return this.#deps.tracer.startSpan(name, { kind, attributes, startTime: this.now() }, parent);
  }

  /** The SDK's own times are whole milliseconds at their start, which would put quick steps into any order. */
  now(): HrTime {
    return hrTime(this.#startedAtMs + this.#deps.monotonicMs() - this.#startedMs);
  }
}

function hrTime(ms: number): HrTime {
  const seconds = Math.trunc(ms / 1000);
  return [seconds, Math.trunc((ms - seconds * 1000) * 1e6)];
}

function tellEnd(span: Span, end: RequestEnd): void {
  const { name, attributes, status } = requestWords(end);
  span.updateName(name);
  span.setAttributes(attributes);
  span.setStatus(status);
}

function trailOf(span: Span, spans: Spans): Trail {
  return span.isRecording() ? new SpanTrail(span, spans) : new PlaceOnly(placeOf(span.spanContext()));
}

function placeOf(context: SpanContext): TracePlace {
  const { traceId, spanId } = context;
  return { traceId, spanId, headers: () => writeTraceContext(context) };
}

/** Below a span that is exported. */
class SpanTrail implements Trail {
  readonly place: TracePlace;
  readonly #span: Span;
  readonly #spans: Spans;
  readonly #context: Context;

  constructor(span: Span, spans: Spans) {
    this.#span = span;
    this.#spans = spans;
    this.#context = trace.setSpan(ROOT_CONTEXT, span);
    this.place = placeOf(span.spanContext());
  }

  get detail(): Trail {
    return this;
  }

  note(step: string, fields: StepFields): void {
    // What is learnt behind an answer has no span any more to stand in.
    if (isInstantSpan(step) || !this.#span.isRecording()) this.begin(step, fields).end({});
    else this.#span.addEvent(step, stepAttributes(fields), this.#spans.now());
  }

  begin(step: string, fields: StepFields): OpenStep {
    const spans = this.#spans;
    if (spans.exhausted) return untold(this);
    const span = spans.start(stepWords(step, fields), this.#context);
    return new SpanStep(spans, trailOf(span, spans), span);
  }
}

/** Below a span that is not: nothing is taken down, but whoever is asked is told the trace. */
class PlaceOnly implements Trail {
  readonly place: TracePlace;

  constructor(place: TracePlace) {
    this.place = place;
  }

  note(): void {}

  begin(): OpenStep {
    return untold(this);
  }
}

function untold(trail: Trail): OpenStep {
  return { end() {}, add() {}, joins() {}, trail };
}

class SpanStep implements OpenStep {
  readonly trail: Trail;
  readonly #spans: Spans;
  readonly #span: Span;
  /** The first failure that is learnt of says most. */
  #failed = false;

  constructor(spans: Spans, trail: Trail, span: Span) {
    this.#spans = spans;
    this.trail = trail;
    this.#span = span;
  }

  end(fields: StepFields): void {
    if (!this.#span.isRecording()) return;
    this.add(fields);
    this.#span.end(this.#spans.now());
  }

  add(fields: StepFields): void {
    if (!this.#span.isRecording()) return;
    this.#span.setAttributes(stepAttributes(fields));
    const failure = failureOf(fields);
    if (failure === undefined || this.#failed) return;
    this.#failed = true;
    this.#span.setAttribute("error.type", failure);
    this.#span.setStatus({ code: SpanStatusCode.ERROR });
  }

  joins(place: TracePlace | undefined): void {
    if (place === undefined || !this.#span.isRecording()) return;
    const { traceId, spanId } = place;
    this.#span.addLink({ context: { traceId, spanId, traceFlags: TraceFlags.NONE } });
  }
}

class SpanRequest implements RequestTrail {
  readonly #span: Span;
  readonly #spans: Spans;
  readonly #trail: Trail;

  constructor(span: Span, spans: Spans) {
    this.#span = span;
    this.#spans = spans;
    this.#trail = trailOf(span, spans);
  }

  get place(): TracePlace | undefined {
    return this.#trail.place;
  }

  get detail(): Trail | undefined {
    return this.#trail.detail;
  }

  note(step: string, fields: StepFields): void {
    this.#trail.note(step, fields);
  }

  begin(step: string, fields: StepFields): OpenStep {
    return this.#trail.begin(step, fields);
  }

  /** The span is sent when it has ended, and says so then. */
  routed(): void {}

  ended(end: RequestEnd): void {
    if (!this.#span.isRecording()) return;
    tellEnd(this.#span, end);
    if (this.#spans.exhausted) this.#span.setAttribute("weir.spans_cut", true);
    this.#span.end(this.#spans.now());
  }
}
