import { counted } from "../base/human.ts";
import type { RefreshEvent, RefreshedTag } from "../proxy/upkeep/refresh.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

/** `weir refresh REF`: asks the upstreams now what the held tags mean. */
export async function refresh(
  reference: string,
  options: UpkeepOptions,
  terminal: Terminal,
  openHere: OpenHere,
): Promise<number> {
  return await runUpkeep<RefreshEvent>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) => upkeep.refresh({ signal, reference }),
    progress: () => undefined,
    text: (event) => ("done" in event ? summary(reference, event) : line(event)),
    exitCode: (last) => ("done" in last && (last.outcomes.failed ?? 0) === 0 ? EXIT.ok : EXIT.failed),
  });
}

function line({ tag, outcome, before, after, detail }: RefreshedTag): string {
  const told = outcome === "moved" ? `${before} is now ${after}` : (detail ?? before);
  return `${outcome.padEnd(6)}  ${tag}  ${told}\n`;
}

function summary(reference: string, { tags, outcomes }: Extract<RefreshEvent, { readonly done: true }>): string {
  if (tags === 0) {
    return `no tag is held of ${reference}\n`;
  }
  const parts = Object.entries(outcomes).map(([outcome, count]) => `${count} ${outcome}`);
  return `${counted(tags, "tag")}: ${parts.join(", ")}\n`;
}
