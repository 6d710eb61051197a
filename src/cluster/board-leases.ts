import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { NO_MORE } from "../base/no-more.ts";
import { LEASE_MS, type LeaseRow, RENEW_MS } from "./lease-table.ts";
import type { Acquired, Lease, Leases } from "./leases.ts";

/** Where leases are written down for all processes: Redis, or the parent of a machine's workers. */
export interface LeaseBoard {
  /**
   * `taken` when the lease is now `row`'s, else who has it. `unknown` where the board cannot be asked. A row that is there
   * stays for {@link LEASE_MS} after it was taken or renewed.
   */
  acquire(name: string, row: LeaseRow): Promise<"taken" | "unknown" | LeaseRow>;
  /** `lost` when somebody else has it; one that ran out meanwhile is taken again. */
  renew(name: string, row: LeaseRow): Promise<"held" | "lost" | "unknown">;
  release(name: string, token: string): Promise<void>;
}

export interface LeasesDeps {
  readonly board: LeaseBoard;
  /** Where other processes can ask this one for what it holds; undefined = nowhere. */
  readonly address: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Tells one holding from every other; never the same twice. */
  newToken(): string;
}

/** Leases of this process on a board that it shares with others, renewed for as long as they are held. */
export function createLeases(deps: LeasesDeps): Leases {
  return new BoardLeases(deps);
}

class BoardLeases implements Leases {
  readonly #deps: LeasesDeps;
  readonly #held = new Set<HeldLease>();

  constructor(deps: LeasesDeps) {
    this.#deps = deps;
  }

  async acquire(name: string, o: CallOptions): Promise<Acquired> {
    const { board, address, newToken } = this.#deps;
    o.signal.throwIfAborted();
    const row = { token: newToken(), address };
    const answer = await board.acquire(name, row);
    if (typeof answer !== "string" && answer.token !== row.token) {
      return { holder: answer.address };
    }
    const lease = new HeldLease(this.#deps, name, row, () => this.#held.delete(lease));
    this.#held.add(lease);
    lease.keep();
    if (o.signal.aborted) {
      await lease.release();
      o.signal.throwIfAborted();
    }
    return { lease };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#held].map((lease) => lease.release()));
  }
}

class HeldLease implements Lease {
  readonly #deps: LeasesDeps;
  readonly #name: string;
  readonly #row: LeaseRow;
  readonly #onOver: () => void;
  readonly #lost = new AbortController();
  readonly #over = new AbortController();
  /** When the board was last asked for it, milliseconds since the epoch. */
  #askedAtMs: number;
  #doubt: PromiseWithResolvers<void> | undefined;

  constructor(deps: LeasesDeps, name: string, row: LeaseRow, onOver: () => void) {
    this.#deps = deps;
    this.#name = name;
    this.#row = row;
    this.#onOver = onOver;
    this.#askedAtMs = deps.clock.now();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  doubt(): Promise<void> | undefined {
    if (this.#over.signal.aborted || this.#deps.clock.now() - this.#askedAtMs < LEASE_MS) {
      return undefined;
    }
    this.#doubt ??= Promise.withResolvers<void>();
    return this.#doubt.promise;
  }

  /** Renews it until it is over. */
  keep(): void {
    this.#renewing().catch((error: unknown) => {
      if (!this.#over.signal.aborted) {
        this.#deps.log.warn({ err: error }, "a lease is not renewed any more");
      }
    });
  }

  async release(): Promise<void> {
    if (this.#over.signal.aborted) {
      return;
    }
    this.#end();
    await this.#deps.board.release(this.#name, this.#row.token);
  }

  async #renewing(): Promise<void> {
    const { clock, board } = this.#deps;
    for (;;) {
      const beforeMs = clock.now();
      await clock.sleep(RENEW_MS, this.#over.signal);
      const frozen = clock.now() - beforeMs >= LEASE_MS;
      const answer = await board.renew(this.#name, this.#row);
      // No answer says nothing: whether somebody else has taken it meanwhile, the next one tells. But who has been frozen
      // for so long has not renewed it, and others were there to take it.
      if (answer === "lost" || (answer === "unknown" && frozen)) {
        this.#lost.abort(new Error("the lease was lost"));
        this.#end();
        return;
      }
      this.#asked();
    }
  }

  #asked(): void {
    this.#askedAtMs = this.#deps.clock.now();
    this.#doubt?.resolve();
    this.#doubt = undefined;
  }

  #end(): void {
    this.#over.abort(NO_MORE);
    this.#asked();
    this.#onOver();
  }
}
