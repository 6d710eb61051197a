import { expect, test } from "vitest";
import type { Served } from "../../../src/proxy/upkeep/savings.ts";
import { brokerSavings, ToldSavings } from "../../../src/proxy/upkeep/told-savings.ts";
import { eventually } from "../../support/fill-bench.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { linePair } from "../../support/port-pair.ts";

const HIT: Served = { status: 200, cache: "hit", bytesSent: 100 };

interface Bench {
  readonly clock: ManualClock;
  readonly savings: ToldSavings;
  /** What the parent has counted. */
  readonly counted: [upstream: string | undefined, repository: string | undefined, served: Served][];
  /** Messages that it took. */
  messages(): number;
}

function bench(): Bench {
  const clock = new ManualClock();
  const { parent, worker } = linePair();
  const counted: Bench["counted"] = [];
  let messages = 0;
  const line = {
    tell: (what: string, data: unknown): void => {
      messages += 1;
      worker.tell(what, data);
    },
    onTold: () => {},
  };
  brokerSavings(parent, { served: (...row) => void counted.push(row) });
  return { clock, savings: new ToldSavings(line, clock), counted, messages: () => messages };
}

test("many hits are one message, and the parent counts every one of them", async () => {
  const { clock, savings, counted, messages } = bench();
  for (let i = 0; i < 1000; i += 1) savings.served("docker.io", "library/app", HIT);
  savings.served("docker.io", undefined, { status: 404, cache: "negative", bytesSent: 50 });
  expect(messages()).toBe(0);
  clock.advance(1_000);
  await eventually("the parent to count", () => counted.length > 0);
  expect(messages()).toBe(1);
  expect(counted).toEqual([
    ["docker.io", "library/app", { status: 200, cache: "hit", bytesSent: 100_000, requests: 1000 }],
    ["docker.io", undefined, { status: 404, cache: "negative", bytesSent: 50, requests: 1 }],
  ]);
  savings.served("docker.io", "library/app", HIT);
  clock.advance(1_000);
  await eventually("the parent to count again", () => counted.length === 3);
  expect(counted[2]).toEqual(["docker.io", "library/app", { ...HIT, requests: 1 }]);
});

test("what concerns no upstream or no cache is not told", () => {
  const { clock, savings, messages } = bench();
  savings.served(undefined, undefined, HIT);
  savings.served("docker.io", undefined, { status: 404, cache: "none", bytesSent: 10 });
  clock.advance(1_000);
  savings.stop();
  expect(messages()).toBe(0);
});

test("very many repositories go out early, and nothing is kept of them", async () => {
  const { savings, counted, messages } = bench();
  for (let i = 0; i < 2_500; i += 1) savings.served("docker.io", `library/app-${i}`, HIT);
  await eventually("the parent to count", () => counted.length === 2_000);
  expect(messages()).toBe(2);
});

test("what has not been told is told at the end", async () => {
  const { clock, savings, counted, messages } = bench();
  savings.served("docker.io", "library/app", HIT);
  savings.stop();
  savings.stop();
  await eventually("the parent to count", () => counted.length === 1);
  clock.advance(1_000);
  expect(messages()).toBe(1);
});
