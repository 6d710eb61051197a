import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Leases } from "../cluster/leases.ts";

/** How often a process that waits for another's answer looks whether it is there; questions to upstreams take longer. */
const LOOK_MS = 50;
const LONGEST_LOOK_MS = 500;

/** Longer than a lease lasts without its holder: a process that waits in vain goes on by itself. */
const PATIENCE_MS = 12_000;

export interface TurnsDeps {
  readonly leases: Leases;
  readonly clock: Clock;
  /** As `Math.random`; spreads the looks. */
  random(): number;
}

/** Questions that one process at a time puts, for all of them. */
export interface Turns {
  /**
   * Runs `work` when no other process is at the same. Those that had to wait find the answer in what the processes share, so
   * `work` looks there, with the options that it is given, before it asks upstream. Rejects with the signal's reason or what
   * `work` rejects with.
   */
  run<T, O extends CallOptions>(name: string, o: O, work: (o: O) => Promise<T>): Promise<T>;
}

/** For a process that shares nothing. */
export const noTurns: Turns = { run: (_name, o, work) => work(o) };

export function createTurns({ leases, clock, random }: TurnsDeps): Turns {
  return {
    async run(name, o, work) {
      const latest = { ...o, latest: true };
      const untilMs = clock.now() + PATIENCE_MS;
      const step = o.trail?.begin("lease", { name });
      try {
        for (let pauseMs = LOOK_MS; ; pauseMs = Math.min(LONGEST_LOOK_MS, pauseMs * 2)) {
          const acquired = await leases.acquire(name, o);
          if ("lease" in acquired) {
            step?.end({ outcome: "ours" });
            try {
              return await work(latest);
            } finally {
              await acquired.lease.release();
            }
          }
          if (clock.now() >= untilMs) {
            step?.end({ outcome: "waited in vain" });
            return await work(latest);
          }
          await clock.sleep(pauseMs * (0.5 + random() / 2), o.signal);
        }
      } finally {
        step?.end({ outcome: "given up" });
      }
    },
  };
}
