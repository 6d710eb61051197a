import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { ConfigError } from "./config-error.ts";
import type { ConfigSource } from "./config-source.ts";
import { keysNeedingRestart } from "./reload-keys.ts";
import type { Config } from "./types.ts";

/** What reloads report; telemetry/ implements it. */
export interface ReloadObserver {
  /** The configuration was read again, and is in force or was refused as a whole. */
  configReloaded(inForce: boolean): void;
}

export interface ReloaderDeps {
  readonly source: Pick<ConfigSource, "load" | "changed">;
  /** Puts a configuration in force, all of it or, when it throws, nothing. Gives what a log line should say of it. */
  apply(config: Config): Readonly<Record<string, unknown>>;
  readonly observer: ReloadObserver;
  readonly clock: Clock;
  readonly log: Log;
}

/** How often the files are looked at: soon enough for somebody who waits for it, and a few system calls. */
const POLL_MS = 2_000;

const STAYS = "the one in force stays";

/** Keeps the configuration in force up to date with where it came from (design section 7). */
export class Reloader {
  readonly #deps: ReloaderDeps;
  readonly #stopping = new AbortController();
  #config: Config;
  #watching = Promise.resolve();
  #reloading = Promise.resolve();

  /** @param config in force now, as `source` gave it */
  constructor(config: Config, deps: ReloaderDeps) {
    this.#config = config;
    this.#deps = deps;
  }

  /** Reloads from now on when a file changes. */
  watch(): void {
    this.#watching = this.#watch(this.#stopping.signal);
  }

  /** Reads everything again, one reload after the other. Never rejects: a configuration that is refused is logged. */
  reload(): Promise<void> {
    this.#reloading = this.#reloading.then(() => this.#reload());
    return this.#reloading;
  }

  /** Resolves when no reload is under way, and none begins any more. Repeatable. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
    await this.#reloading;
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, source } = this.#deps;
    try {
      for (;;) {
        await clock.sleep(POLL_MS, signal);
        if (await source.changed()) {
          await this.reload();
        }
      }
    } catch (error) {
      if (!signal.aborted) {
        throw error;
      }
    }
  }

  async #reload(): Promise<void> {
    if (!this.#stopping.signal.aborted) {
      this.#deps.observer.configReloaded(await this.#succeeds());
    }
  }

  async #succeeds(): Promise<boolean> {
    const { source, log } = this.#deps;
    try {
      const { config, file } = await source.load();
      const keys = keysNeedingRestart(this.#config, config);
      if (keys.length > 0) {
        const need = keys.length === 1 ? "needs" : "need";
        log.error({ keys }, `the configuration is refused: ${keys.join(", ")} ${need} a restart; ${STAYS}`);
        return false;
      }
      const effect = this.#deps.apply(config);
      this.#config = config;
      log.info({ file, ...effect }, "the configuration was read again and is in force");
      return true;
    } catch (err) {
      const why = err instanceof ConfigError ? { problems: err.problems } : { err };
      log.error(why, `the configuration is refused: it cannot be used; ${STAYS}`);
      return false;
    }
  }
}
