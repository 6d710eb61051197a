/** A board for the leases of several processes that live in one test. */
import type { Clock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { createLeases, type LeaseBoard } from "../../src/cluster/board-leases.ts";
import { LeaseTable } from "../../src/cluster/lease-table.ts";
import type { Leases } from "../../src/cluster/leases.ts";

export class TestBoard implements LeaseBoard {
  readonly #table: LeaseTable;
  readonly #clock: Clock;
  #tokens = 0;
  /** While it is, nobody gets an answer. */
  down = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#table = new LeaseTable(clock);
  }

  /** One process's leases. `cutOff` keeps it from the board; while `frozen` is pending it does not even ask. */
  member(
    address: string | undefined,
    cutOff: () => boolean = () => false,
    frozen: () => Promise<void> = async () => {},
  ): Leases {
    const board: LeaseBoard = {
      acquire: async (name, row) => {
        await frozen();
        return cutOff() ? "unknown" : await this.acquire(name, row);
      },
      renew: async (name, row) => {
        await frozen();
        return cutOff() ? "unknown" : await this.renew(name, row);
      },
      release: async (name, token) => {
        await frozen();
        if (!cutOff()) await this.release(name, token);
      },
    };
    const newToken = (): string => {
      this.#tokens += 1;
      return `token-${this.#tokens}`;
    };
    return createLeases({ board, address, clock: this.#clock, log: silentLog, newToken });
  }

  acquire: LeaseBoard["acquire"] = async (name, row) =>
    this.down ? "unknown" : (this.#table.acquire(name, row) ?? "taken");

  renew: LeaseBoard["renew"] = async (name, row) => {
    if (this.down) return "unknown";
    return this.#table.renew(name, row) ? "held" : "lost";
  };

  release: LeaseBoard["release"] = async (name, token) => {
    if (!this.down) this.#table.release(name, token);
  };
}
