import type { Clock } from "../base/clock.ts";
import { printable } from "../base/printable.ts";
import type { OpenStep, StepFields } from "../base/trail.ts";
import type {
  AccessLine,
  RequestAtOnce,
  RequestEnd,
  RequestSubject,
  RequestTrail,
  RequestTrails,
} from "../http/observer.ts";
import type { RequestExplanation, RequestReport, RequestStep } from "../proxy/explain/request-report.ts";
import { requestWords } from "./request-words.ts";

/** Requests that are kept: the pulls of the last minutes of a busy cache, of the last hours of a quiet one. */
const MAX_REQUESTS = 2_000;

/** What they may take together, as {@link RecentRequests} counts. Bytes. */
const MAX_BYTES = 4 << 20;

/** Steps of one request: a pull has a dozen, a download that is resumed again and again has more. */
const MAX_STEPS = 64;

/** Characters of a text in a step; longer ones are cut. */
const MAX_TEXT = 400;

/** Of one id that are told. */
const MAX_FOUND = 10;

/** What a request, one that was answered at once, and a step, take in memory beside their texts; measured by hand. */
const REQUEST_BYTES = 700;
const AT_ONCE_BYTES = 250;
const STEP_BYTES = 250;

export interface RecentLimits {
  readonly requests: number;
  readonly bytes: number;
}

export interface RecentRequests extends RequestTrails {
  start(requestId: string): RequestTrail;
  /** What is known of the requests with the id. */
  explain(requestId: string): RequestExplanation;
  /** The latest first. */
  reports(): Iterable<RequestReport>;
}

/** The requests of the last while, in memory that is bounded by their number and by bytes: the oldest go first. */
export function createRecentRequests(
  clock: Clock,
  limits: RecentLimits = { requests: MAX_REQUESTS, bytes: MAX_BYTES },
): RecentRequests {
  return new Ring(clock, limits);
}

class Ring implements RecentRequests {
  readonly #clock: Clock;
  readonly #limits: RecentLimits;
  /** Round about; `#next` is where the next one goes. */
  readonly #kept: (Kept | RequestAtOnce | undefined)[];
  #next = 0;
  #oldest = 0;
  #count = 0;
  #bytes = 0;

  constructor(clock: Clock, limits: RecentLimits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#kept = new Array<Kept | RequestAtOnce | undefined>(limits.requests).fill(undefined);
  }

  start(requestId: string): RequestTrail {
    const kept = new Kept(requestId, this.#clock, this);
    this.#keep(kept, REQUEST_BYTES);
    return kept;
  }

  atOnce(request: RequestAtOnce): undefined {
    this.#keep(request, bytesAtOnce(request));
  }

  explain(requestId: string): RequestExplanation {
    const requests: RequestReport[] = [];
    for (const report of this.reports()) {
      if (report.requestId !== requestId) continue;
      requests.push(report);
      if (requests.length === MAX_FOUND) break;
    }
    return { done: true, requests, words: requestWords(requestId, requests, this.#clock.now()) };
  }

  *reports(): Generator<RequestReport, void, undefined> {
    const { requests } = this.#limits;
    const from = this.#next;
    const count = this.#count;
    for (let back = 1; back <= count; back += 1) {
      const kept = this.#kept[(from - back + requests) % requests];
      if (kept !== undefined) yield kept instanceof Kept ? kept.report() : reportAtOnce(kept);
    }
  }

  /** A kept request has grown. */
  took(bytes: number): void {
    this.#bytes += bytes;
    while (this.#bytes > this.#limits.bytes && this.#count > 1) this.#drop();
  }

  #keep(kept: Kept | RequestAtOnce, bytes: number): void {
    if (this.#count === this.#limits.requests) this.#drop();
    this.#kept[this.#next] = kept;
    this.#next = (this.#next + 1) % this.#limits.requests;
    this.#count += 1;
    this.took(bytes);
  }

  #drop(): void {
    const dropped = this.#kept[this.#oldest];
    this.#kept[this.#oldest] = undefined;
    this.#oldest = (this.#oldest + 1) % this.#limits.requests;
    this.#count -= 1;
    if (dropped !== undefined) this.#bytes -= dropped instanceof Kept ? dropped.leave() : bytesAtOnce(dropped);
  }
}

/** A step while it may still change. */
interface KeptStep {
  readonly step: string;
  readonly startedAtMs: number;
  tookMs: number | undefined;
  fields: StepFields;
}

class Kept implements RequestTrail {
  readonly #requestId: string;
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  #ring: Ring | undefined;
  #bytes = REQUEST_BYTES;
  /** Most requests are hits, and have none. */
  #steps: KeptStep[] | undefined;
  #stepsDropped = 0;
  /** Until it is over: then the end says as much. */
  #subject: (() => RequestSubject) | undefined;
  #end: RequestEnd | undefined;

  constructor(requestId: string, clock: Clock, ring: Ring) {
    this.#requestId = requestId;
    this.#clock = clock;
    this.#ring = ring;
    this.#startedAtMs = clock.now();
  }

  note(step: string, fields: StepFields): void {
    this.#keep(step, fields);
  }

  begin(step: string, fields: StepFields): OpenStep {
    const kept = this.#keep(step, fields);
    if (kept === undefined) return { end() {}, add() {}, joins() {}, trail: this };
    const add = (more: StepFields): void => {
      this.#grow(bytesOf(more));
      kept.fields = { ...kept.fields, ...cut(more) };
    };
    return {
      end: (more) => {
        if (kept.tookMs !== undefined) return;
        kept.tookMs = this.#clock.now() - kept.startedAtMs;
        add(more);
      },
      add,
      // What was joined is told of in the trail of whoever began it.
      joins() {},
      trail: this,
    };
  }

  routed(subject: () => RequestSubject): void {
    this.#subject = subject;
  }

  ended(end: RequestEnd): void {
    this.#end = end;
    this.#subject = undefined;
    const { path, userAgent, repository, reference, client, account } = end.line;
    const texts = [path, userAgent, repository, reference, client, account, end.cache.warning, end.error?.message];
    this.#grow(texts.reduce((bytes, text) => bytes + (text?.length ?? 0), 0));
  }

  /** It is not kept any more. Gives the bytes that it took. */
  leave(): number {
    this.#ring = undefined;
    return this.#bytes;
  }

  report(): RequestReport {
    const end = this.#end;
    const { form, ...subject } = this.#subject?.() ?? { form: undefined };
    return {
      requestId: this.#requestId,
      startedAtMs: this.#startedAtMs,
      ...(end === undefined
        ? { running: true, line: subject, form, cache: {}, error: undefined }
        : { running: false, ...reportOfEnd(end) }),
      steps: (this.#steps ?? []).map(({ step, startedAtMs, tookMs, fields }): RequestStep => {
        return { step, atMs: startedAtMs - this.#startedAtMs, tookMs, fields };
      }),
      stepsDropped: this.#stepsDropped,
    };
  }

  #keep(step: string, fields: StepFields): KeptStep | undefined {
    this.#steps ??= [];
    if (this.#steps.length === MAX_STEPS) {
      this.#stepsDropped += 1;
      return undefined;
    }
    const kept: KeptStep = { step, startedAtMs: this.#clock.now(), tookMs: undefined, fields: cut(fields) };
    this.#steps.push(kept);
    this.#grow(STEP_BYTES + bytesOf(fields));
    return kept;
  }

  #grow(bytes: number): void {
    if (this.#ring === undefined) return;
    this.#bytes += bytes;
    this.#ring.took(bytes);
  }
}

function bytesAtOnce({ length }: RequestAtOnce): number {
  return AT_ONCE_BYTES + length;
}

function reportAtOnce(request: RequestAtOnce): RequestReport {
  const { requestId, startedAtMs } = request;
  return { requestId, startedAtMs, running: false, ...reportOfEnd(request.end()), steps: [], stepsDropped: 0 };
}

function reportOfEnd(end: RequestEnd): Pick<RequestReport, "line" | "form" | "cache" | "error"> {
  // An error's own text may tell more than a client may know; the log has it.
  const { err: _, ...line }: Partial<AccessLine> = end.line;
  return {
    line,
    form: end.form,
    cache: { ...end.cache },
    error: end.error && { code: end.error.code, message: printable(end.error.message, MAX_TEXT) },
  };
}

function cut(fields: StepFields): StepFields {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) => {
      if (value === undefined) return [];
      return [[name, typeof value === "string" ? printable(value, MAX_TEXT) : value]];
    }),
  );
}

function bytesOf(fields: StepFields): number {
  let bytes = 0;
  for (const value of Object.values(fields)) bytes += typeof value === "string" ? Math.min(value.length, MAX_TEXT) : 8;
  return bytes;
}
