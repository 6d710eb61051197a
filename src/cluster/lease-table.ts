import type { Clock } from "../base/clock.ts";

/** How long a holder that does not renew keeps a lease; those of Redis last as long. */
export const LEASE_MS = 10_000;
/** How often a holder renews. */
export const RENEW_MS = 3_000;

export interface LeaseRow {
  /** Tells this holding from every other. */
  readonly token: string;
  /** Where the holder can be asked for what it is doing. */
  readonly address: string | undefined;
}

interface Row extends LeaseRow {
  readonly untilMs: number;
}

/** Who has which lease, in the memory of one process: the broker's, when several share it. */
export class LeaseTable {
  readonly #clock: Clock;
  readonly #rows = new Map<string, Row>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Undefined when `wanted` has the lease now, else who has it. */
  acquire(name: string, wanted: LeaseRow): LeaseRow | undefined {
    const held = this.#held(name);
    if (held !== undefined) {
      return held;
    }
    this.#put(name, wanted);
    return undefined;
  }

  /** False when somebody else has it. */
  renew(name: string, row: LeaseRow): boolean {
    const held = this.#held(name);
    if (held !== undefined && held.token !== row.token) {
      return false;
    }
    this.#put(name, row);
    return true;
  }

  release(name: string, token: string): void {
    if (this.#rows.get(name)?.token === token) {
      this.#rows.delete(name);
    }
  }

  /** Gives back what a process that is no more has held. */
  releaseAll(isTheirs: (row: LeaseRow) => boolean): void {
    for (const [name, row] of this.#rows) {
      if (isTheirs(row)) this.#rows.delete(name);
    }
  }

  #held(name: string): Row | undefined {
    const row = this.#rows.get(name);
    return row !== undefined && this.#clock.now() < row.untilMs ? row : undefined;
  }

  #put(name: string, row: LeaseRow): void {
    this.#rows.set(name, { ...row, untilMs: this.#clock.now() + LEASE_MS });
  }
}
