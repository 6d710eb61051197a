import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { printable } from "../base/printable.ts";

/** A collector that is down for hours is worth a line now and then. */
const PAUSE_MS = 60_000;

/** Characters of what the SDK says; longer texts are cut. */
const MAX_REASON = 300;

/** What the SDK has to say of traces that cannot be sent, at most one line in a minute. */
export class TraceWarnings {
  readonly #clock: Clock;
  readonly #log: Log;
  #nextMs = 0;
  #unsaid = 0;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  /** @param text a sentence, or an error as JSON, as the SDK hands them out */
  tell(text: string): void {
    const now = this.#clock.now();
    if (now < this.#nextMs) {
      this.#unsaid += 1;
      return;
    }
    this.#nextMs = now + PAUSE_MS;
    const more = this.#unsaid === 0 ? {} : { unsaid: this.#unsaid };
    this.#unsaid = 0;
    this.#log.warn({ reason: reasonIn(text), ...more }, "traces could not be sent as they should be");
  }
}

/** Neither the stack nor what the collector answered. */
function reasonIn(text: string): string {
  let reason = text;
  try {
    const { name, code, message } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    reason = [name, code, message].filter((part) => part !== undefined && part !== "").join(" ");
  } catch {
    // A sentence.
  }
  return printable(reason, MAX_REASON);
}
