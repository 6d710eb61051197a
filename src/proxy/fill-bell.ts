/** Wakes whoever waits for something to change; they then look for themselves whether it is what they waited for. */
export class Bell {
  /** One promise for all who wait: hundreds do, several times for each MiB. */
  #ringing: PromiseWithResolvers<void> | undefined;

  ring(): void {
    this.#ringing?.resolve();
    this.#ringing = undefined;
  }

  /** Resolves at the next ring. */
  next(): Promise<void> {
    this.#ringing ??= Promise.withResolvers<void>();
    return this.#ringing.promise;
  }

  /** Lets the end of `signal` ring too, until the result is called. */
  ringOnAbort(signal: AbortSignal): () => void {
    const ring = (): void => this.ring();
    signal.addEventListener("abort", ring, { once: true });
    return () => signal.removeEventListener("abort", ring);
  }
}
