import { Secret } from "../base/secret.ts";
import type { Channel } from "../cluster/channel.ts";
import type { ConfigSource } from "../config/config-source.ts";
import type { Config } from "../config/types.ts";
import { ToldSavings } from "../proxy/upkeep/told-savings.ts";
import { assemble } from "./assemble.ts";
import type { OnStop } from "./closers.ts";
import { answerExplanations, ownExplanations } from "./explanations.ts";
import type { Membership } from "./fleet.ts";
import { follow, openFront } from "./listen.ts";
import { answerActivity } from "./overview.ts";
import type { AppDeps, Started } from "./started.ts";
import { answerMetrics } from "./worker-metrics.ts";
import { parentLine, RELOAD, tellReady, wantedToStop } from "./workers.ts";

/** What a worker asks its parent first. */
const JOIN = "worker.join";

/** Its parent has just started it, and answers. */
const JOIN_MS = 30_000;

/** One of several processes that answer clients. It ends when its parent says so. */
export async function startWorker(
  config: Config,
  source: ConfigSource,
  deps: AppDeps,
  onStop: OnStop,
): Promise<Started> {
  const channel = parentLine();
  const ended = wantedToStop(channel);
  const worker = await joinParent(channel);
  const parts = await assemble(config, { ...deps, worker, serves: true }, onStop);
  const savings = new ToldSavings(channel, parts.clock);
  onStop(async () => savings.stop());
  answerExplanations(channel, ownExplanations(parts, { serves: true }));
  answerActivity(channel, parts, onStop);
  answerMetrics(channel, () => parts.metrics.snapshot());
  const front = await openFront(parts, savings, () => {}, onStop);
  const reloader = follow(parts, source, onStop);
  const reload = async (): Promise<void> => {
    await Promise.all([reloader.reload(), front.reloadTls()]);
  };
  channel.onTold(RELOAD, () => void reload());
  tellReady(channel, front.address);
  return { address: front.address, adminAddress: config.admin.listen, reload, ended };
}

/** Lets a worker join: tells it who it is. The secret goes by the line between the two, where nobody else can read it. */
export function admitWorker(channel: Channel, { slot, secret }: Pick<Membership, "slot" | "secret">): void {
  channel.onAsked(JOIN, async () => [slot, secret.reveal()]);
}

async function joinParent(channel: Channel): Promise<Membership> {
  const [slot, secret] = (await channel.ask(JOIN, null, { signal: AbortSignal.timeout(JOIN_MS) })) as [number, string];
  return { channel, slot, secret: new Secret(secret) };
}
