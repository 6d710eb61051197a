import { counted, humanBytes } from "../base/human.ts";
import type { PurgeEvent, PurgeSummary } from "../proxy/upkeep/purge.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

export interface PurgeOptions extends UpkeepOptions {
  readonly dryRun?: boolean | undefined;
}

/** `weir purge REF`: removes what is held of it. */
export async function purge(
  reference: string,
  options: PurgeOptions,
  terminal: Terminal,
  openHere: OpenHere,
): Promise<number> {
  const dryRun = options.dryRun === true;
  return await runUpkeep<PurgeEvent>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) => upkeep.purge({ signal, reference, dryRun }),
    progress: (event) =>
      "event" in event && event.event === "progress"
        ? `looking who else has it: ${counted(event.repositories, "repository", "repositories")}`
        : undefined,
    text: (event) => {
      if ("done" in event) {
        return summary(reference, event);
      }
      return event.event === "purged" ? `${dryRun ? "would purge" : "purged"} ${event.what}\n` : undefined;
    },
    exitCode: () => EXIT.ok,
  });
}

function summary(reference: string, { dryRun, tags, manifests, layers, blobs, bytes, shared }: PurgeSummary): string {
  if (tags + manifests + layers === 0) {
    return `nothing is held of ${reference}\n`;
  }
  const unlinked = [counted(tags, "tag"), counted(manifests, "manifest"), counted(layers, "layer link")].join(", ");
  return [
    `${dryRun ? "would remove" : "removed"} ${unlinked}; `,
    `${dryRun ? "would delete" : "deleted"} ${counted(blobs, "blob")}, ${humanBytes(bytes)}`,
    ...(shared > 0 ? [`; ${shared} stay, since other repositories have them`] : []),
    "\n",
  ].join("");
}
