import { join } from "node:path";
import { assemble, maintain } from "../../src/compose/assemble.ts";
import { closers } from "../../src/compose/closers.ts";
import { ownExplanations } from "../../src/compose/explanations.ts";
import { openFront } from "../../src/compose/listen.ts";
import { composeOverview, ownActivity } from "../../src/compose/overview.ts";
import { parseConfig } from "../../src/config/parse.ts";
import type { Overview } from "../../src/proxy/overview/overview.ts";
import type { Upkeep } from "../../src/proxy/upkeep/upkeep.ts";
import { createLog } from "../../src/telemetry/log.ts";
import type { ManualClock } from "./manual-clock.ts";
import { tempFolder } from "./processes.ts";

/** A Weir without its admin listener: what that shows is asked for directly. */
export interface OverviewApp {
  readonly url: string;
  readonly root: string;
  readonly overview: Overview;
  readonly upkeep: Upkeep;
  stop(): Promise<void>;
}

export async function startOverviewApp(
  stack: AsyncDisposableStack,
  o: { readonly config: Readonly<Record<string, unknown>>; readonly clock?: ManualClock; readonly root?: string },
): Promise<OverviewApp> {
  const folder = await tempFolder(stack);
  const root = o.root ?? join(folder, "data");
  const input = {
    server: { listen: "127.0.0.1:0" },
    storage: { driver: "filesystem", filesystem: { root } },
    shutdown: { grace: "1ms" },
    ...o.config,
  };
  const parsed = parseConfig(input, {}, folder);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const { onStop, closeAll } = closers();
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopped ??= closeAll();
    return stopped;
  };
  stack.defer(stop);
  const deps = {
    log: createLog({ level: "error" }),
    serves: true,
    ...(o.clock === undefined ? {} : { clock: o.clock }),
  };
  const parts = await assemble(parsed.config, deps, onStop);
  const explanations = ownExplanations(parts, { serves: true });
  const { savings, upkeep } = await maintain(parts, { commanded: false, explanations }, onStop);
  const { overview } = composeOverview(parts, ownActivity(parts), onStop);
  const { address } = await openFront(parts, savings, () => {}, onStop);
  return { url: `http://127.0.0.1:${address.port}`, root, overview, upkeep, stop };
}
