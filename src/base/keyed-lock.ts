/** At most one piece of work for a key at a time; different keys do not wait for each other. */
export class KeyedLock<K> {
  /** The last in line for each key. */
  readonly #tails = new Map<K, Promise<unknown>>();

  /** Runs `work` when those before it with the same key have ended, however. */
  async run<T>(key: K, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const running = before.catch(() => {}).then(work);
    this.#tails.set(key, running);
    try {
      return await running;
    } finally {
      if (this.#tails.get(key) === running) this.#tails.delete(key);
    }
  }

  /** As {@link run}, where nobody has the key; undefined where somebody has. */
  async tryRun<T>(key: K, work: () => Promise<T>): Promise<T | undefined> {
    return this.#tails.has(key) ? undefined : await this.run(key, work);
  }
}
