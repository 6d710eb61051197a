import { counted, humanBytes, humanTime } from "../base/human.ts";
import { parseSize } from "../base/units.ts";
import type { VerifyEvent, VerifyProgress, VerifySummary } from "../storage/verify.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

export interface VerifyOptions extends UpkeepOptions {
  readonly rate?: string | undefined;
}

/** With less, an ordinary store takes weeks. */
const LEAST_RATE = 1024;

/** `weir verify`: hashes everything that is held, and puts links and records right. */
export async function verify(options: VerifyOptions, terminal: Terminal, openHere: OpenHere): Promise<number> {
  const bytesPerS = options.rate === undefined ? undefined : parseSize(options.rate);
  if (options.rate !== undefined && (bytesPerS === undefined || bytesPerS < LEAST_RATE)) {
    terminal.stderr.write("weir: --rate: expected bytes a second from 1KiB on, such as 64MiB\n");
    return EXIT.usage;
  }
  return await runUpkeep<VerifyEvent>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) => upkeep.verify({ signal, bytesPerS }),
    progress: (event) => ("event" in event && event.event === "progress" ? progress(event) : undefined),
    text: (event) => {
      if ("done" in event) {
        return summary(event);
      }
      return event.event === "finding"
        ? `${event.problem}  ${event.key}: ${event.detail}: ${event.action === "left" ? "left as it is" : event.action}\n`
        : undefined;
    },
    exitCode: (last) => ("done" in last && last.sound ? EXIT.ok : EXIT.failed),
  });
}

function progress({ phase, count, of, bytes, ofBytes, bytesPerS, leftMs }: VerifyProgress): string {
  switch (phase) {
    case "counting":
      return `counting what is held: ${humanBytes(ofBytes)}`;
    case "content": {
      const left = leftMs === undefined ? "" : `, ${humanTime(leftMs)} left`;
      return `blob ${count} of ${of ?? "?"}, ${humanBytes(bytes)} of ${humanBytes(ofBytes)} at ${humanBytes(bytesPerS)}/s${left}`;
    }
    case "links":
      return counted(count, "link or record", "links and records");
  }
}

function summary({ blobs, bytes, links, notHeld, found, sound, tookMs }: VerifySummary): string {
  const problems = Object.entries(found).map(([problem, count]) => `  ${problem}: ${count}\n`);
  return [
    `${sound ? "ok" : "something was wrong"}: ${counted(blobs, "blob")} (${humanBytes(bytes)}), `,
    `${counted(links, "link or record", "links and records")}, in ${humanTime(tookMs)}\n`,
    ...problems,
    ...(notHeld > 0
      ? [`  ${counted(notHeld, "link")} to what is not held, which is fetched again when it is asked for\n`]
      : []),
  ].join("");
}
