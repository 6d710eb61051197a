import type { Channel } from "../cluster/channel.ts";
import { countedBy, type MetricsSnapshot } from "../telemetry/metrics.ts";

const METRICS = "worker.metrics";

/** A worker that has not answered by then is left out of one scrape; Prometheus waits ten seconds. */
const ANSWER_MS = 3_000;

/** What the workers of one Weir have counted, those that are gone included. */
export class WorkerMetrics {
  readonly #last = new Map<Channel, MetricsSnapshot>();
  #gone: Promise<MetricsSnapshot> = Promise.resolve([]);

  attend(channel: Channel): void {
    this.#last.set(channel, []);
  }

  /** What it had counted when it was asked last goes on being counted: a sum that falls would look like a new start. */
  left(channel: Channel): void {
    const last = this.#last.get(channel) ?? [];
    this.#last.delete(channel);
    this.#gone = this.#gone.then((gone) => countedBy([gone, last]));
  }

  async collect(): Promise<readonly MetricsSnapshot[]> {
    const workers = [...this.#last.keys()].map(async (channel) => {
      try {
        const answer = await channel.ask(METRICS, null, { signal: AbortSignal.timeout(ANSWER_MS) });
        if (this.#last.has(channel)) this.#last.set(channel, answer as MetricsSnapshot);
      } catch {
        // Its last answer stands.
      }
      return this.#last.get(channel) ?? [];
    });
    return [...(await Promise.all(workers)), await this.#gone];
  }
}

export function answerMetrics(channel: Channel, snapshot: () => Promise<MetricsSnapshot>): void {
  channel.onAsked(METRICS, snapshot);
}
