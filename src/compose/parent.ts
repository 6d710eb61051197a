import { randomBytes } from "node:crypto";
import { Secret } from "../base/secret.ts";
import { brokerLeases } from "../cluster/brokered-board.ts";
import type { Channel } from "../cluster/channel.ts";
import { LeaseTable } from "../cluster/lease-table.ts";
import type { ConfigSource } from "../config/config-source.ts";
import type { Config } from "../config/types.ts";
import { brokerRoom } from "../proxy/remote-room.ts";
import { passOnVerified } from "../proxy/told-verified.ts";
import { brokerSavings } from "../proxy/upkeep/told-savings.ts";
import { brokerState } from "../state/brokered-state.ts";
import type { StateStore } from "../state/state-store.ts";
import { passOnWritten, tellWritten } from "../storage/told-writes.ts";
import { assemble, maintain } from "./assemble.ts";
import type { OnStop } from "./closers.ts";
import { ownExplanations, workersExplanations } from "./explanations.ts";
import { follow, openAdmin } from "./listen.ts";
import { composeOverview, hearChanges, ownActivity, workersActivity } from "./overview.ts";
import type { AppDeps, Started } from "./started.ts";
import { admitWorker } from "./worker.ts";
import { WorkerMetrics } from "./worker-metrics.ts";
import { RELOAD, Workers } from "./workers.ts";

/** The process that has the storage, tends it and answers the operator, while its workers answer clients. */
export async function startParent(
  config: Config,
  source: ConfigSource,
  deps: AppDeps,
  onStop: OnStop,
): Promise<Started> {
  const parts = await assemble(config, { ...deps, parent: true }, onStop);
  const { clock, log, room, state, metrics } = parts;
  // Before its workers: what is wrong is told once, and a key is made by one.
  await parts.signIn.open(config);
  const running: { workers?: Workers } = {};
  const channels = (): readonly Channel[] => running.workers?.lines.map((line) => line.channel) ?? [];
  parts.onWritten((key) => {
    for (const channel of channels()) tellWritten(channel, key);
  });
  const own = ownExplanations(parts, { serves: false });
  const explanations = workersExplanations(() => running.workers?.lines ?? [], own);
  const { savings, upkeep } = await maintain(parts, { commanded: false, explanations }, onStop);
  const activity = workersActivity(() => running.workers?.lines ?? [], ownActivity(parts));
  const { overview, changed, missed } = composeOverview(parts, activity, onStop);
  const leases = new LeaseTable(clock);
  const secret = new Secret(randomBytes(32).toString("hex"));
  const stores = new Map<string, StateStore<unknown>>();
  const storeOf = (name: string): StateStore<unknown> => {
    const store = stores.get(name) ?? state.store<unknown>(name, { shared: "at-once" });
    stores.set(name, store);
    return store;
  };
  const forgetful = new Map<Channel, () => void>();
  const counted = new WorkerMetrics();
  const workers = new Workers({
    count: config.server.workers,
    attend({ channel, slot }) {
      brokerLeases(channel, leases);
      brokerState(channel, storeOf);
      brokerSavings(channel, savings);
      passOnVerified(channel, channels);
      passOnWritten(channel, channels, parts.heardWritten);
      forgetful.set(channel, parts.onForget(brokerRoom(channel, room)));
      counted.attend(channel);
      hearChanges(channel, changed);
      admitWorker(channel, { slot, secret });
    },
    left({ channel }) {
      metrics.workerEnded();
      counted.left(channel);
      missed();
      // What it has written last it may not have told.
      parts.heardWritten();
      for (const other of channels()) tellWritten(other);
      forgetful.get(channel)?.();
      forgetful.delete(channel);
    },
    clock,
    log,
  });
  running.workers = workers;
  const serving = { at: config.server.listen, started: false, stopping: false };
  const admin = await openAdmin(
    parts,
    {
      upkeep,
      overview,
      metrics: { expose: async () => await metrics.expose(await counted.collect()) },
      notReady() {
        if (serving.stopping) return "Weir is stopping";
        // A worker that ends before all have started ends everything.
        if (!serving.started) return "the workers are starting";
        return workers.ready > 0 ? undefined : "no worker answers clients";
      },
      listen: () => serving.at,
    },
    onStop,
  );
  onStop(() => {
    serving.stopping = true;
    return workers.stop(config.shutdown.graceMs);
  });
  serving.at = await workers.start();
  serving.started = true;
  await admin.announce();
  const reloader = follow(parts, source, onStop, () => workers.tell(RELOAD, null));
  reloader.watch();
  return {
    address: serving.at,
    adminAddress: admin.address,
    async reload() {
      await reloader.reload();
      // Their TLS files may have changed though the configuration has not.
      workers.tell(RELOAD, null);
    },
  };
}
