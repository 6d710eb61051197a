interface Waiter {
  admit(): void;
}

/**
 * Lets at most `limit` holders in at once. Keys with somebody waiting get their turns one after the other, whatever the
 * length of their queues; within a key the order is that of coming. The last free place goes only to a key that holds
 * none: one key, with however long work, never keeps another out for as long as that takes.
 */
export class FairSemaphore {
  /** In the order of the keys' turns; no queue is empty. */
  readonly #queues = new Map<string, Set<Waiter>>();
  readonly #held = new Map<string, number>();
  #free: number;

  constructor(limit: number) {
    if (!Number.isInteger(limit) || limit < 1) {
      throw new RangeError(`a semaphore needs a limit of at least 1, not ${limit}`);
    }
    this.#free = limit;
  }

  /** How many are waiting. */
  get waiting(): number {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.size, 0);
  }

  /** Resolves with the function that gives the place back (repeatable); rejects with the signal's reason while waiting. */
  acquire(key: string, o: { readonly signal: AbortSignal }): Promise<() => void> {
    const { signal } = o;
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        this.#leaveQueue(key, waiter);
        reject(signal.reason);
      };
      const waiter: Waiter = {
        admit: () => {
          signal.removeEventListener("abort", onAbort);
          resolve(this.#releaseOnce(key));
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const queue = this.#queues.get(key) ?? new Set();
      this.#queues.set(key, queue.add(waiter));
      this.#admit();
    });
  }

  #admit(): void {
    for (let key = this.#nextKey(); key !== undefined; key = this.#nextKey()) {
      const queue = this.#queues.get(key) ?? new Set();
      const [waiter] = queue;
      // To the end of the line, where it belongs after its turn.
      this.#queues.delete(key);
      if (waiter === undefined) continue;
      queue.delete(waiter);
      if (queue.size > 0) this.#queues.set(key, queue);
      this.#free -= 1;
      this.#held.set(key, (this.#held.get(key) ?? 0) + 1);
      waiter.admit();
    }
  }

  #nextKey(): string | undefined {
    if (this.#free > 0) {
      for (const key of this.#queues.keys()) {
        if (this.#free > 1 || !this.#held.has(key)) return key;
      }
    }
    return undefined;
  }

  #leaveQueue(key: string, waiter: Waiter): void {
    const queue = this.#queues.get(key);
    queue?.delete(waiter);
    if (queue?.size === 0) this.#queues.delete(key);
  }

  #releaseOnce(key: string): () => void {
    let holding = true;
    return () => {
      if (!holding) return;
      holding = false;
      this.#free += 1;
      const held = (this.#held.get(key) ?? 1) - 1;
      if (held === 0) this.#held.delete(key);
      else this.#held.set(key, held);
      this.#admit();
    };
  }
}
