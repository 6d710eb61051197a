import type { Clock } from "./clock.ts";

/** Node's timers hold 31 bits; a longer delay would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    let left = ms;
    while (left > MAX_TIMER_MS) {
      await timer(MAX_TIMER_MS, signal);
      left -= MAX_TIMER_MS;
    }
    await timer(left, signal);
  },
};

function timer(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      clearTimeout(handle);
      reject(signal.reason);
    };
    const handle = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    handle.unref();
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
