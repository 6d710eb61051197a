/** What a thread that hashes and the one that writes the files tell each other without messages. */

/** How far the thread has got with all its files together. */
export interface Progress {
  readonly shared: SharedArrayBuffer;
  /** Another number whenever something has been done. */
  get(): number;
  add(): void;
}

export function progressOf(shared = new SharedArrayBuffer(4)): Progress {
  const steps = new Int32Array(shared);
  return {
    shared,
    get: () => Atomics.load(steps, 0),
    add: () => {
      Atomics.add(steps, 0, 1);
    },
  };
}

/**
 * How many bytes of a file are known to be there. Who is told by a message looks here, so that there is one message under way
 * and no more, however far the thread is behind.
 */
export interface Known {
  readonly shared: SharedArrayBuffer;
  /** True when a message has to go. */
  advance(to: number): boolean;
  /** The message has come. */
  take(): number;
}

const TO = 0;
const TOLD = 1;

export function knownOf(shared = new SharedArrayBuffer(16)): Known {
  const words = new BigInt64Array(shared);
  return {
    shared,
    advance: (to) => {
      Atomics.store(words, TO, BigInt(to));
      return Atomics.exchange(words, TOLD, 1n) === 0n;
    },
    take: () => {
      Atomics.store(words, TOLD, 0n);
      return Number(Atomics.load(words, TO));
    },
  };
}
