import fc from "fast-check";
import { AggregatorRegistry, Counter, Histogram, Registry } from "prom-client";
import { describe, expect, test } from "vitest";
import { OneEach, TalliedCounter, TalliedHistogram } from "../../../src/telemetry/tallies.ts";

const COUNTER = {
  name: "weir_things_total",
  help: "Things\nand \\ others.",
  labelNames: ["upstream", "code"] as const,
};
const HISTOGRAM = { ...COUNTER, name: "weir_things_seconds", buckets: [0.0005, 0.1, 1, 30] as number[] };

interface Seen {
  readonly upstream: string;
  readonly code: number;
  readonly value: number;
}

/** Texts that have to be quoted are among the labels, and the bounds themselves among the values. */
const seen: fc.Arbitrary<Seen> = fc.record({
  upstream: fc.constantFrom("docker.io", "none", 'a "b" \\ c\nd', ""),
  code: fc.constantFrom(200, 206, 404),
  value: fc.oneof(fc.constantFrom(0, ...HISTOGRAM.buckets), fc.double({ min: 0, max: 100, noNaN: true })),
});

/** One process' registry after it has seen these, once with what is tested and once with prom-client's own. */
function registries(all: readonly Seen[]): { readonly tallied: Registry; readonly theirs: Registry } {
  const [tallied, theirs] = [new Registry(), new Registry()];
  const counter = new TalliedCounter({ ...COUNTER, registers: [tallied] });
  const histogram = new TalliedHistogram({ ...HISTOGRAM, registers: [tallied] });
  const tallies = new OneEach((upstream: string) => new OneEach((code: number) => counter.under({ upstream, code })));
  const distributions = new OneEach(
    (upstream: string) => new OneEach((code: number) => histogram.under({ upstream, code })),
  );
  const theirCounter = new Counter({ ...COUNTER, registers: [theirs] });
  const theirHistogram = new Histogram({ ...HISTOGRAM, registers: [theirs] });
  for (const { upstream, code, value } of all) {
    tallies.of(upstream).of(code).add(value);
    distributions.of(upstream).of(code).observe(value);
    theirCounter.inc({ upstream, code }, value);
    theirHistogram.observe({ upstream, code }, value);
  }
  return { tallied, theirs };
}

/** As it comes from a worker. */
async function sent(registry: Registry): Promise<object[]> {
  return JSON.parse(JSON.stringify(await registry.getMetricsAsJSON())) as object[];
}

describe("tallies are told as prom-client tells its own", () => {
  test("for whatever was seen", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(seen, { maxLength: 60 }), async (all) => {
        const { tallied, theirs } = registries(all);
        expect(await tallied.metrics()).toBe(await theirs.metrics());
      }),
    );
  });

  test("of two workers added up, and of what is added up with one of them again", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(seen, { maxLength: 40 }), fc.array(seen, { maxLength: 40 }), async (one, other) => {
        const added = async (of: "tallied" | "theirs"): Promise<string[]> => {
          const workers = await Promise.all([one, other].map((all) => sent(registries(all)[of])));
          const both = AggregatorRegistry.aggregate(workers);
          const again = AggregatorRegistry.aggregate([await both.getMetricsAsJSON(), ...workers.slice(0, 1)]);
          return [await both.metrics(), await again.metrics()];
        };
        expect(await added("tallied")).toEqual(await added("theirs"));
      }),
    );
  });

  test("before anything was seen, and with the names of their labels", async () => {
    const { tallied, theirs } = registries([]);
    expect(await tallied.metrics()).toBe(await theirs.metrics());
    expect(tallied.getMetricsAsArray()).toMatchObject(
      [COUNTER, HISTOGRAM].map(({ name, help, labelNames }) => ({ name, help, labelNames, aggregator: "sum" })),
    );
  });
});

test("what was told does not change with what is counted later", async () => {
  const registry = new Registry();
  const tally = new TalliedCounter({ ...COUNTER, registers: [registry] }).under({ upstream: "docker.io", code: 200 });
  tally.add(2);
  const told = await registry.getMetricsAsJSON();
  tally.add(3);
  expect(told).toMatchObject([{ values: [{ labels: { upstream: "docker.io", code: 200 }, value: 2 }] }]);
  expect(await registry.metrics()).toContain('weir_things_total{upstream="docker.io",code="200"} 5\n');
});

test("two metrics of one name are refused", () => {
  const registers = [new Registry()];
  new TalliedCounter({ ...COUNTER, registers });
  expect(() => new TalliedCounter({ ...COUNTER, registers })).toThrow(/already been registered/);
});

test("one thing is made for each key", () => {
  const made: string[] = [];
  const things = new OneEach((key: string) => {
    made.push(key);
    return { key };
  });
  expect(things.of("a")).toBe(things.of("a"));
  expect(things.of("b")).not.toBe(things.of("a"));
  expect(made).toEqual(["a", "b"]);
});
