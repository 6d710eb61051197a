interface Waiter {
  admit(): void;
}

/** Lets at most `limit` holders in at once; those who wait are let in in the order in which they came. */
export class Semaphore {
  readonly #waiters = new Set<Waiter>();
  #free: number;

  constructor(limit: number) {
    if (!Number.isInteger(limit) || limit < 1) {
      throw new RangeError(`a semaphore needs a limit of at least 1, not ${limit}`);
    }
    this.#free = limit;
  }

  /** How many are waiting. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** Resolves with the function that gives the place back (repeatable); rejects with the signal's reason while waiting. */
  acquire(o: { readonly signal: AbortSignal }): Promise<() => void> {
    const { signal } = o;
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      if (this.#free > 0) {
        this.#free -= 1;
        resolve(this.#releaseOnce());
        return;
      }
      const onAbort = (): void => {
        this.#waiters.delete(waiter);
        reject(signal.reason);
      };
      const waiter: Waiter = {
        admit: () => {
          signal.removeEventListener("abort", onAbort);
          resolve(this.#releaseOnce());
        },
      };
      this.#waiters.add(waiter);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  #releaseOnce(): () => void {
    let held = true;
    return () => {
      if (held) {
        held = false;
        this.#handOver();
      }
    };
  }

  #handOver(): void {
    const [next] = this.#waiters;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiters.delete(next);
    next.admit();
  }
}
