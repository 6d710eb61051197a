import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { BucketRecords } from "../../storage/bucket-records.ts";

/** The bucket's time, to the second: whose machine's clock is wrong does not matter. This process's own until it is set. */
export class ServerClock implements Clock {
  readonly #clock: Clock;
  #aheadMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now() + this.#aheadMs;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return this.#clock.sleep(ms, signal);
  }

  async set(records: Pick<BucketRecords, "serverNowMs">, o: CallOptions): Promise<void> {
    this.#aheadMs = (await records.serverNowMs(o)) - this.#clock.now();
  }
}
