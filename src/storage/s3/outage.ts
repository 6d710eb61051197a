import type { Clock } from "../../base/clock.ts";
import { StorageError } from "../blob-store.ts";

/** After a call was given up, nobody waits for the server for so long; doubled with each that follows, up to the longest. */
const FIRST_REST_MS = 1_000;
const LONGEST_REST_MS = 30_000;

/**
 * Whether the server answers at all. A request of a client asks the store several things, and many clients ask at once: when
 * it is down, one call at a time finds that out, and the others fail at once.
 */
export class Outage {
  readonly #clock: Clock;
  readonly #address: string;
  #failures = 0;
  #untilMs = 0;
  #trying = false;

  constructor(clock: Clock, address: string) {
    this.#clock = clock;
    this.#address = address;
  }

  /**
   * A call may begin; the caller tells its end by the function that it gets: `true` where the server has answered, whatever
   * it said, `false` where it was given up, undefined where nobody knows.
   *
   * @throws StorageError `unavailable` while the server is down
   */
  begin(doing: string): (answered: boolean | undefined) => void {
    const down = this.#failures > 0;
    if (down && (this.#trying || this.#clock.now() < this.#untilMs)) {
      throw new StorageError("unavailable", `${doing}: ${this.#address} has not answered lately`);
    }
    this.#trying = down;
    return (answered) => {
      if (down) this.#trying = false;
      if (answered === true) this.#failures = 0;
      // Those that were under way when it went down tell of the same outage.
      if (answered !== false || (!down && this.#failures > 0)) return;
      this.#untilMs = this.#clock.now() + Math.min(LONGEST_REST_MS, FIRST_REST_MS * 2 ** this.#failures);
      this.#failures += 1;
    };
  }
}
