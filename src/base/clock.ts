/** Time as the parts see it; tests hand in one they can turn. */
export interface Clock {
  /** Wall-clock milliseconds since the Unix epoch. */
  now(): number;
  /**
   * Resolves after `ms` milliseconds; rejects with the signal's reason when it is aborted first.
   * The timer never keeps the process alive by itself.
   */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}
