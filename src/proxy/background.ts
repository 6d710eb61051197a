import type { Clock } from "../base/clock.ts";
import { NO_MORE } from "../base/no-more.ts";

/** Work that may outlive the request that began it: it ends when it is done or when the process stops, and is waited for then. */
export class Background {
  readonly #lifetime = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  /** Runs `work` under the proxy's own lifetime. Nobody needs to wait for what is returned: a failure is then nobody's. */
  own<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const running = work(this.#lifetime.signal);
    this.#running.add(running);
    const forget = (): void => {
      this.#running.delete(running);
    };
    running.then(forget, forget);
    return running;
  }

  /** Aborts what is running and waits for it. Repeatable. */
  async stop(): Promise<void> {
    this.#lifetime.abort(new Error("the proxy is stopping"));
    while (this.#running.size > 0) {
      await Promise.allSettled(this.#running);
    }
  }
}

export const LATE: unique symbol = Symbol("late");

/** Waits for `work`, but no longer than `ms` milliseconds: then {@link LATE}, and the work goes on. */
export async function waitAtMost<T>(
  work: Promise<T>,
  ms: number,
  o: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<T | typeof LATE> {
  const over = new AbortController();
  const late = o.clock.sleep(ms, AbortSignal.any([o.signal, over.signal])).then((): typeof LATE => LATE);
  try {
    return await Promise.race([work, late]);
  } finally {
    late.catch(() => {});
    over.abort(NO_MORE);
  }
}
