/**
 * What may be lost (design, section 4): answers kept only to save asking again. A store that fails counts as empty; it
 * never makes a request fail.
 */
export interface StateStore<V> {
  /** Undefined when the key was never set, has expired, was dropped for room, or could not be looked up. */
  get(key: string, o?: StateLook): Promise<V | undefined>;
  /** Kept for at most `ttlMs` milliseconds. Values are plain data: they may travel as JSON. */
  set(key: string, value: V, ttlMs: number): Promise<void>;
  delete(key: string): Promise<void>;
}

export interface StateLook {
  /** Past what this process remembers by itself, to what the processes share. */
  readonly latest?: boolean;
}
