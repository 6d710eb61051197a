import { expect, test } from "vitest";
import type { OpenStep, StepFields, TracePlace, Trail } from "../../../src/base/trail.ts";
import type { RequestAtOnce, RequestEnd, RequestSubject, RequestTrail } from "../../../src/http/observer.ts";
import { teeTrails } from "../../../src/telemetry/tee-trails.ts";

/** Writes down what it is told, below what it is told of. */
class Written implements RequestTrail {
  readonly detail?: Trail;
  readonly place?: TracePlace;
  readonly #lines: string[];
  readonly #path: string;

  constructor(lines: string[], all: boolean, path = "") {
    this.#lines = lines;
    this.#path = path;
    if (!all) return;
    this.detail = this;
    this.place = { traceId: "trace", spanId: path, headers: () => ({}) };
  }

  note(step: string, _: StepFields): void {
    this.#lines.push(`${this.#path}${step}`);
  }

  begin(step: string, _: StepFields): OpenStep {
    this.#lines.push(`${this.#path}${step}`);
    return {
      end: () => this.#lines.push(`${this.#path}${step} ended`),
      add: () => this.#lines.push(`${this.#path}${step} added`),
      joins: () => this.#lines.push(`${this.#path}${step} joins`),
      trail: this.detail === undefined ? this : new Written(this.#lines, true, `${this.#path}${step} > `),
    };
  }

  routed(subject: () => RequestSubject): void {
    this.#lines.push(`request routed to ${subject().upstream}`);
  }

  ended(): void {
    this.#lines.push("request ended");
  }
}

test("both are told of steps, the second of small ones too, and of what is done in their course both again", () => {
  const [people, spans]: [string[], string[]] = [[], []];
  const both = teeTrails(
    { start: () => new Written(people, false), atOnce: () => undefined },
    { start: () => new Written(spans, true), atOnce: () => undefined },
  );
  const trail = both.start("id", {});
  trail.note("decision", {});
  trail.detail?.note("first-byte", {});
  const token = trail.detail?.begin("token", {});
  const exchange = token?.trail.begin("exchange", {});
  expect(exchange?.trail.place?.spanId).toBe("token > exchange > ");
  exchange?.add({});
  exchange?.end({});
  exchange?.trail.detail?.begin("storage", {}).end({});
  token?.joins(undefined);
  token?.add({});
  token?.end({});
  const fill = trail.begin("fill", {});
  fill.joins(undefined);
  fill.end({});
  trail.routed(() => ({ upstream: "docker.io" }) as RequestSubject);
  trail.ended({} as RequestEnd);
  expect(people).toEqual([
    "decision",
    "exchange",
    "exchange added",
    "exchange ended",
    "fill",
    "fill joins",
    "fill ended",
    "request routed to docker.io",
    "request ended",
  ]);
  expect(spans).toEqual([
    "decision",
    "first-byte",
    "token",
    "token > exchange",
    "token > exchange added",
    "token > exchange ended",
    "token > exchange > storage",
    "token > exchange > storage ended",
    "token joins",
    "token added",
    "token ended",
    "fill",
    "fill joins",
    "fill ended",
    "request routed to docker.io",
    "request ended",
  ]);
});

test("where the second wants no small steps, there are none", () => {
  const none = { start: () => new Written([], false), atOnce: () => undefined };
  const trail = teeTrails(none, none).start("id", {});
  expect([trail.detail, trail.place]).toEqual([undefined, undefined]);
});

test("what was answered at once is told to both, and its place is the second's", () => {
  const told: unknown[] = [];
  const place = { traceId: "trace", spanId: "span", headers: () => ({}) };
  const both = teeTrails(
    { start: () => new Written([], false), atOnce: (request) => void told.push(request) },
    {
      start: () => new Written([], true),
      atOnce(request, from) {
        told.push(request, from);
        return place;
      },
    },
  );
  const request = { requestId: "id" } as RequestAtOnce;
  const from = { traceparent: "x" };
  expect(both.atOnce(request, from)).toBe(place);
  expect(told).toEqual([request, request, from]);
});
