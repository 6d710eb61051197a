import type { PinEvent, PinsListed } from "../proxy/upkeep/upkeep.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

/** `weir pin REF` and `weir unpin REF`: what it means is to stay, or need not any more. */
export async function pin(
  what: "pin" | "unpin",
  reference: string,
  options: UpkeepOptions,
  terminal: Terminal,
  openHere: OpenHere,
): Promise<number> {
  return await runUpkeep<PinEvent>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) => upkeep[what]({ signal, reference }),
    progress: () => undefined,
    text: (event) => told(what, event),
    // What it asks for is so, whoever has seen to it.
    exitCode: () => EXIT.ok,
  });
}

function told(what: "pin" | "unpin", { pin: reference, changed }: PinEvent): string {
  if (changed) return `${what === "pin" ? "pinned" : "unpinned"} ${reference}\n`;
  return `${reference} is ${what === "pin" ? "pinned already" : "not pinned by weir pin"}\n`;
}

/** `weir pin`: what is pinned. */
export async function pins(options: UpkeepOptions, terminal: Terminal, openHere: OpenHere): Promise<number> {
  return await runUpkeep<PinsListed>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) => upkeep.pins({ signal }),
    progress: () => undefined,
    text: ({ pins: all }) =>
      all.length === 0
        ? "nothing is pinned\n"
        : all
            .map(({ pin: text, from, sinceMs }) => {
              const by = sinceMs === undefined ? from : `weir pin, since ${new Date(sinceMs).toISOString()}`;
              return `${text}  ${by}\n`;
            })
            .join(""),
    exitCode: () => EXIT.ok,
  });
}
