import { counted, humanBytes, humanTime } from "../base/human.ts";
import type { GcCandidate, GcEvent } from "../proxy/upkeep/gc.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

export interface GcOptions extends UpkeepOptions {
  readonly dryRun?: boolean | undefined;
}

const REASONS: Readonly<Record<GcCandidate["reason"], string>> = {
  age: "not used for storage.maxAge",
  room: "above storage.highWater, and used least recently",
  "upstream-cap": "above its upstream's maxSize, and used least recently",
  unreferenced: "no repository has it",
  "dangling-link": "a link to what is not held",
  "left-over": "left over by what was broken off",
  quarantined: "damaged, put aside a week ago",
};

/** `weir gc`: deletes what should not be held any more, or says what that would be. */
export async function gc(options: GcOptions, terminal: Terminal, openHere: OpenHere): Promise<number> {
  const dryRun = options.dryRun === true;
  return await runUpkeep<GcEvent>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) => upkeep.gc({ signal, dryRun }),
    progress: () => undefined,
    text: (event) => ("done" in event ? summary(event) : line(event)),
    exitCode: () => EXIT.ok,
  });
}

function line({ digest, key, repository, reason, ageMs, bytes, markedMs }: GcCandidate): string {
  const what = [repository, digest ?? key].filter((part) => part !== undefined).join("@");
  const mark =
    markedMs === undefined ? "" : `; ${markedMs === 0 ? "to be marked" : `marked ${humanTime(markedMs)} ago`}`;
  return `${what}  ${humanBytes(bytes)}, ${humanTime(ageMs)} old: ${REASONS[reason]}${mark}\n`;
}

function summary({ dryRun, count, bytes, byReason, marked }: Extract<GcEvent, { readonly done: true }>): string {
  const later =
    marked === undefined
      ? ""
      : `marked: ${counted(marked.count, "blob")}, ${humanBytes(marked.bytes)}; they go from the bucket half an hour later, unless they are used\n`;
  if (count === 0) {
    return later === "" ? "nothing to do: everything that is held may stay\n" : later;
  }
  const reasons = Object.entries(byReason).map(
    ([reason, sum]) => `  ${REASONS[reason as GcCandidate["reason"]]}: ${sum.count}, ${humanBytes(sum.bytes)}\n`,
  );
  return `${dryRun ? "would delete" : "deleted"} ${counted(count, "thing")}, ${humanBytes(bytes)}\n${reasons.join("")}${later}`;
}
