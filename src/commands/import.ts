import { resolve } from "node:path";
import { counted, humanBytes } from "../base/human.ts";
import type { ImportEvent } from "../storage/import-registry.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

export interface ImportOptions extends UpkeepOptions {
  readonly registryDir: string;
  readonly as: string;
  readonly fromProxy?: boolean | undefined;
  readonly verify?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
}

type Summary = Extract<ImportEvent, { readonly done: true }>;

/** `weir import`: adopts what a stock registry holds. */
export async function importFolder(options: ImportOptions, terminal: Terminal, openHere: OpenHere): Promise<number> {
  return await runUpkeep<ImportEvent>({
    options,
    terminal,
    openHere,
    create: true,
    ask: (upkeep, signal) =>
      upkeep.import({
        signal,
        folder: resolve(terminal.cwd(), options.registryDir),
        as: options.as,
        fromProxy: options.fromProxy === true,
        verify: options.verify === true,
        dryRun: options.dryRun === true,
      }),
    progress: (event) =>
      "event" in event && event.event === "progress"
        ? `${counted(event.repositories, "repository", "repositories")}, ${counted(event.tags, "tag")}, ${humanBytes(event.bytes)}`
        : undefined,
    text: (event) => {
      if ("done" in event) {
        return summary(event);
      }
      return event.event === "finding" ? `left out  ${event.what}: ${event.detail}\n` : undefined;
    },
    exitCode: (last) => ("done" in last && last.findings === 0 ? EXIT.ok : EXIT.failed),
  });
}

function summary(done: Summary): string {
  const data = [
    ...(done.linked > 0 ? [`${done.linked} linked`] : []),
    ...(done.copied > 0 ? [`${done.copied} copied`] : []),
    ...(done.inPlace > 0 ? [`${done.inPlace} in place`] : []),
    ...(done.held > 0 ? [`${done.held} held before`] : []),
    ...(done.missing > 0 ? [`${done.missing} that the registry has lost`] : []),
  ];
  return [
    `${done.dryRun ? "would adopt" : "adopted"} ${counted(done.repositories, "repository", "repositories")}, `,
    `${counted(done.tags, "tag")}, ${counted(done.manifests, "manifest")}; `,
    `blobs: ${data.join(", ") || "none"}; ${humanBytes(done.bytes)}\n`,
    ...(done.dryRun || done.verified ? [] : [next(done)]),
  ].join("");
}

function next({ verifying, bytes }: Summary): string {
  if (verifying) {
    return "they are being verified in the background; the server's log says what comes of it\n";
  }
  return bytes === 0 ? "" : "each blob is verified when it is first served; weir verify does it for all of them now\n";
}
