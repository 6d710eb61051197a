import { silentLog } from "./base/log.ts";
import { assemble, maintain } from "./compose/assemble.ts";
import { closers, type OnStop } from "./compose/closers.ts";
import { ownExplanations } from "./compose/explanations.ts";
import { follow, openAdmin, openFront } from "./compose/listen.ts";
import { composeOverview, ownActivity } from "./compose/overview.ts";
import { startParent } from "./compose/parent.ts";
import type { AppDeps, Started } from "./compose/started.ts";
import { startWorker } from "./compose/worker.ts";
import { isWorker } from "./compose/workers.ts";
import type { ConfigSource } from "./config/config-source.ts";
import type { Config, ListenAddress } from "./config/types.ts";
import type { Upkeep } from "./proxy/upkeep/upkeep.ts";

export type { AppDeps } from "./compose/started.ts";

/** A running Weir. */
export interface App extends Started {
  /**
   * Not ready first, then no new connections; answers under way have `shutdown.grace` to finish. Fills are kept for the
   * next start. Resolves when nothing runs any more. Repeatable.
   */
  stop(): Promise<void>;
}

/** What is held, open for one command. */
export interface OpenUpkeep {
  readonly upkeep: Upkeep;
  close(): Promise<void>;
}

/**
 * Puts Weir together and starts it: the only place that knows every part. Rejects, with nothing left running, when a part
 * cannot start.
 *
 * @param config what `source` gave last; read from there again when it changes
 */
export async function startApp(config: Config, source: ConfigSource, deps: AppDeps = {}): Promise<App> {
  const { onStop, closeAll } = closers();
  try {
    const several = isWorker() ? startWorker : startParent;
    const start = config.server.workers > 1 ? several : startAlone;
    const running = await start(config, source, deps, onStop);
    let stopped: Promise<void> | undefined;
    return {
      ...running,
      stop() {
        stopped ??= closeAll();
        return stopped;
      },
    };
  } catch (error) {
    // What could not be started is what to tell, not what could not be stopped for that.
    await closeAll().catch(() => {});
    throw error;
  }
}

/**
 * What commands do when no server has the storage: everything but what listens. Rejects, with nothing left running, as
 * {@link startApp} does.
 */
export async function openUpkeep(config: Config, deps: AppDeps = {}): Promise<OpenUpkeep> {
  const { onStop, closeAll } = closers();
  try {
    const silent = { ...silentLog, setLevel() {} };
    const parts = await assemble(config, { ...deps, log: silent }, onStop);
    const { upkeep } = await maintain(
      parts,
      { commanded: true, explanations: ownExplanations(parts, { serves: false }) },
      onStop,
    );
    return { upkeep, close: closeAll };
  } catch (error) {
    await closeAll().catch(() => {});
    throw error;
  }
}

/** One process that does everything. */
async function startAlone(config: Config, source: ConfigSource, deps: AppDeps, onStop: OnStop): Promise<Started> {
  const parts = await assemble(config, { ...deps, serves: true }, onStop);
  const { savings, upkeep } = await maintain(
    parts,
    { commanded: false, explanations: ownExplanations(parts, { serves: true }) },
    onStop,
  );
  const serving: { at: ListenAddress; not: string | undefined } = { at: config.server.listen, not: "Weir is starting" };
  const { metrics } = parts;
  const { overview } = composeOverview(parts, ownActivity(parts), onStop);
  const admin = await openAdmin(
    parts,
    { upkeep, overview, metrics, notReady: () => serving.not, listen: () => serving.at },
    onStop,
  );
  const stopping = (): void => {
    serving.not = "Weir is stopping";
  };
  const front = await openFront(parts, savings, stopping, onStop);
  serving.at = { host: serving.at.host, port: front.address.port };
  await admin.announce();
  serving.not = undefined;
  const reloader = follow(parts, source, onStop);
  reloader.watch();
  return {
    address: front.address,
    adminAddress: admin.address,
    async reload() {
      await Promise.all([reloader.reload(), front.reloadTls()]);
    },
  };
}
