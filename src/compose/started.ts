import type { Clock } from "../base/clock.ts";
import type { ListenAddress } from "../config/types.ts";
import type { LevelledLog } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** What may be put in the place of the machine's own. */
export interface AppDeps {
  readonly clock?: Clock;
  /** Where the proxies on the way to upstreams are named; none without it. */
  readonly env?: NodeJS.ProcessEnv;
  /** Gives what stands around the metrics: for measuring what counting costs. */
  readonly metered?: (metrics: Metrics) => Metrics;
  /** Where log lines go; standard output without it. */
  readonly log?: LevelledLog;
}

/** A Weir that has been started, but for its end. */
export interface Started {
  /** Where clients are answered; with the port that was picked where the configuration says 0. */
  readonly address: ListenAddress;
  readonly adminAddress: ListenAddress;
  /**
   * Reads the configuration and the listener's TLS files again; what cannot be used leaves in force what is, and is logged.
   * Never rejects.
   */
  reload(): Promise<void>;
  /** Of one of several workers: resolves when its parent wants it to stop. Signals are not for it. */
  readonly ended?: Promise<void>;
}
