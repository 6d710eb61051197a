import type { Metric, Registry } from "prom-client";

/** What a series is labelled with, in the order in which labels are shown. */
export type Labels<L extends string> = Readonly<Record<L, string | number>>;

export interface TallyOptions<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly L[];
  readonly registers: readonly Registry[];
}

interface Sample {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/**
 * A counter for what is counted with every request. prom-client's own counts under a text that it makes of the labels each
 * time; of this one, whoever counts has each {@link Tally} made once ({@link OneEach}), and keeps it.
 */
export class TalliedCounter<L extends string> {
  readonly #tallies: { readonly labels: Labels<L>; readonly tally: Tally }[] = [];

  constructor(options: TallyOptions<L>) {
    register("counter", options, () => this.#tallies.map(({ labels, tally }) => ({ labels, value: tally.value })));
  }

  /** A new series, which is shown from now on. To be called once for the same labels. */
  under(labels: Labels<L>): Tally {
    const tally = new Tally();
    this.#tallies.push({ labels, tally });
    return tally;
  }
}

/** One series of a {@link TalliedCounter}. */
export class Tally {
  #value = 0;

  get value(): number {
    return this.#value;
  }

  /** @param more not negative */
  add(more: number): void {
    this.#value += more;
  }
}

export interface HistogramOptions<L extends string> extends TallyOptions<L> {
  /** Upper bounds, each greater than the one before. */
  readonly buckets: readonly number[];
}

/** A histogram as {@link TalliedCounter} is a counter. */
export class TalliedHistogram<L extends string> {
  readonly #bounds: readonly number[];
  readonly #distributions: { readonly labels: Labels<L>; readonly distribution: Distribution }[] = [];

  constructor(options: HistogramOptions<L>) {
    this.#bounds = options.buckets;
    register("histogram", options, () =>
      this.#distributions.flatMap(({ labels, distribution }) => distribution.samples(options.name, labels)),
    );
  }

  /** As {@link TalliedCounter.under}. */
  under(labels: Labels<L>): Distribution {
    const distribution = new Distribution(this.#bounds);
    this.#distributions.push({ labels, distribution });
    return distribution;
  }
}

/** One set of labels of a {@link TalliedHistogram}. */
export class Distribution {
  readonly #bounds: readonly number[];
  /** How many values were in each bucket alone, those above all bounds last. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    // One after the other: most of what is counted is in the first few.
    let bucket = 0;
    for (const bound of this.#bounds) {
      if (value <= bound) break;
      bucket += 1;
    }
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += value;
  }

  samples(name: string, labels: Readonly<Record<string, string | number>>): Sample[] {
    let count = 0;
    const buckets = Array.from(this.#counts, (own, bucket): Sample => {
      count += own;
      return { metricName: `${name}_bucket`, labels: { le: this.#bounds[bucket] ?? "+Inf", ...labels }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

/** One thing for each key, made when it is first asked for. Keys come from closed sets: nothing is ever let go. */
export class OneEach<K, V> {
  readonly #made = new Map<K, V>();
  readonly #make: (key: K) => V;

  constructor(make: (key: K) => V) {
    this.#make = make;
  }

  of(key: K): V {
    let found = this.#made.get(key);
    if (found === undefined) {
      found = this.#make(key);
      this.#made.set(key, found);
    }
    return found;
  }
}

function register<L extends string>(
  type: "counter" | "histogram",
  { name, help, labelNames, registers }: TallyOptions<L>,
  values: () => readonly Sample[],
): void {
  const described = { name, help, type, aggregator: "sum" };
  const metric = { ...described, labelNames, get: async () => ({ ...described, values: values() }) };
  // A registry asks no more of a metric than its name and `get`, as prom-client's own aggregation relies on; its types do.
  for (const registry of registers) registry.registerMetric(metric as unknown as Metric);
}
