/** What tells of a step: short texts, numbers and instants (milliseconds since the epoch), and never a secret. */
export type StepFields = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * Takes down what is done on behalf of one request, for `weir explain --request` and for traces. Work that is shared is told
 * of in the trail of whoever began it; who joins it says so. Never throws.
 */
export interface Trail {
  /** Something that takes no time worth telling. */
  note(step: string, fields: StepFields): void;
  /** Something that goes on from now until it is ended. */
  begin(step: string, fields: StepFields): OpenStep;
  /**
   * For steps that are too small to be told to people: routing, storage, what most requests do. Undefined unless somebody
   * wants them, so that they cost a request nothing.
   */
  readonly detail?: Trail | undefined;
  /** Undefined unless the request is traced. */
  readonly place?: TracePlace | undefined;
}

export interface OpenStep {
  /** It is over, and this is what it came to. The first call counts. */
  end(fields: StepFields): void;
  /** What is learnt of it before its end. */
  add(fields: StepFields): void;
  /** It waits for, or goes on from, what was begun elsewhere. */
  joins(place: TracePlace | undefined): void;
  /** Of what is done in its course. */
  readonly trail: Trail;
}

/** A step's trace, and which of its spans the step is. */
export interface TraceIds {
  /** 32 and 16 hexadecimal digits. */
  readonly traceId: string;
  readonly spanId: string;
}

/** A step's place in a trace, which may go beyond this process. */
export interface TracePlace extends TraceIds {
  /** `traceparent` and `tracestate`, by which another process goes on from there (W3C Trace Context). */
  headers(): Readonly<Record<string, string>>;
}

/** A request's headers, of which `traceparent` and `tracestate` tell the trace that it belongs to; malformed ones count as absent. */
export type TraceHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** The two ids as log lines have them. */
export function traceFields(ids: TraceIds | undefined): Partial<TraceIds> {
  return ids === undefined ? {} : { traceId: ids.traceId, spanId: ids.spanId };
}

/** Says that the answer to somebody else's question was waited for. */
export function noteJoined(trail: Trail | undefined, about: string, begunIn: TracePlace | undefined): void {
  const step = trail?.begin("joined", { about });
  step?.joins(begunIn);
  step?.end({});
}
