import type { OpenStep, StepFields, TracePlace, Trail } from "../base/trail.ts";
import type { RequestEnd, RequestSubject, RequestTrail, RequestTrails } from "../http/observer.ts";

/** Tells both: the first the steps that are worth telling people, the second all of them. */
export function teeTrails(first: RequestTrails, second: RequestTrails): RequestTrails {
  return {
    start: (requestId, from) => new TeeRequest(first.start(requestId, from), second.start(requestId, from)),
    atOnce(request, from) {
      first.atOnce(request, from);
      return second.atOnce(request, from);
    },
  };
}

class Tee implements Trail {
  readonly #first: Trail;
  readonly #second: Trail;

  constructor(first: Trail, second: Trail) {
    this.#first = first;
    this.#second = second;
  }

  get place(): TracePlace | undefined {
    return this.#second.place;
  }

  get detail(): Trail | undefined {
    const { detail } = this.#second;
    return detail && new TeeDetail(this.#first, detail);
  }

  note(step: string, fields: StepFields): void {
    this.#first.note(step, fields);
    this.#second.note(step, fields);
  }

  begin(step: string, fields: StepFields): OpenStep {
    const first = this.#first.begin(step, fields);
    const second = this.#second.begin(step, fields);
    return {
      end(more) {
        first.end(more);
        second.end(more);
      },
      add(more) {
        first.add(more);
        second.add(more);
      },
      joins(place) {
        first.joins(place);
        second.joins(place);
      },
      trail: new Tee(first.trail, second.trail),
    };
  }
}

/** Small steps are the second's alone, but what is done in their course may be worth telling both. */
class TeeDetail implements Trail {
  readonly #first: Trail;
  readonly #second: Trail;

  constructor(first: Trail, second: Trail) {
    this.#first = first;
    this.#second = second;
  }

  note(step: string, fields: StepFields): void {
    this.#second.note(step, fields);
  }

  begin(step: string, fields: StepFields): OpenStep {
    const opened = this.#second.begin(step, fields);
    return {
      end: (more) => opened.end(more),
      add: (more) => opened.add(more),
      joins: (place) => opened.joins(place),
      trail: new Tee(this.#first, opened.trail),
    };
  }
}

class TeeRequest extends Tee implements RequestTrail {
  readonly #both: readonly RequestTrail[];

  constructor(first: RequestTrail, second: RequestTrail) {
    super(first, second);
    this.#both = [first, second];
  }

  routed(subject: () => RequestSubject): void {
    for (const trail of this.#both) trail.routed(subject);
  }

  ended(end: RequestEnd): void {
    for (const trail of this.#both) trail.ended(end);
  }
}
