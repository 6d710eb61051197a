import { ConfigError } from "../config/config-error.ts";
import { loadConfigFrom } from "../config/load.ts";
import { OciError } from "../oci/errors.ts";
import { type Upkeep, UpkeepError } from "../proxy/upkeep/upkeep.ts";
import { StorageError } from "../storage/blob-store.ts";
import { formatProblems } from "./check.ts";
import { ControlError } from "./control-error.ts";
import { EXIT } from "./exit-code.ts";
import { type OpenHere, openUpkeepFor } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";

export interface UpkeepOptions {
  readonly config?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Between two lines about what goes on, where the output is no terminal; in milliseconds. */
const LINE_MS = 10_000;

/** Ends a line that is written again and again, and what stood on it. */
const REWRITE = "\r\u001b[2K";

/** What the commands on what is held have in common. */
export interface UpkeepCommand<E extends object> {
  readonly options: UpkeepOptions;
  readonly terminal: Terminal;
  readonly openHere: OpenHere;
  /** A storage that is not there yet is made. */
  readonly create?: boolean;
  ask(upkeep: Upkeep, signal: AbortSignal): AsyncIterable<E>;
  /** A line, without its end, about how far it is; undefined for events that are no progress. */
  progress(event: E): string | undefined;
  /** Text for the standard output, with line ends; undefined prints nothing. */
  text(event: E): string | undefined;
  /** From the last event. */
  exitCode(last: E): number;
}

/** Runs one command: finds who has the storage, asks, and shows what comes. Resolves with the exit code. */
export async function runUpkeep<E extends object>(command: UpkeepCommand<E>): Promise<number> {
  const { options, terminal, openHere, create = false } = command;
  try {
    const { config } = await loadConfigFrom({ file: options.config, env: terminal.env, cwd: terminal.cwd() });
    const { upkeep, close } = await openUpkeepFor(config, openHere, { create });
    try {
      return await show(command, command.ask(upkeep, new AbortController().signal));
    } finally {
      await close();
    }
  } catch (error) {
    if (error instanceof ConfigError) {
      terminal.stderr.write(formatProblems(error.problems));
      return EXIT.failed;
    }
    if (error instanceof UpkeepError || error instanceof OciError) {
      terminal.stderr.write(`weir: ${error.message}\n`);
      return EXIT.usage;
    }
    if (error instanceof ControlError || error instanceof StorageError) {
      terminal.stderr.write(`weir: ${error.message}\n`);
      return EXIT.failed;
    }
    throw error;
  }
}

async function show<E extends object>(command: UpkeepCommand<E>, events: AsyncIterable<E>): Promise<number> {
  const { options, terminal } = command;
  const status = createStatus(terminal);
  let exitCode: number = EXIT.failed;
  try {
    for await (const event of events) {
      const progress = command.progress(event);
      if (progress !== undefined) {
        status.show(progress);
        continue;
      }
      const text = options.json === true ? `${JSON.stringify(event)}\n` : command.text(event);
      if (text !== undefined) {
        status.clear();
        terminal.stdout.write(text);
      }
      if ("done" in event) {
        exitCode = command.exitCode(event);
      }
    }
  } finally {
    status.clear();
  }
  return exitCode;
}

/** Where it is, on standard error: one line that changes on a terminal, and a new one now and then elsewhere. */
function createStatus({ stderr }: Terminal): { show(line: string): void; clear(): void } {
  let shown = false;
  let lastMs = performance.now();
  return {
    show(line) {
      if (stderr.isTTY === true) {
        shown = true;
        stderr.write(`${REWRITE}${line}`);
      } else if (performance.now() - lastMs >= LINE_MS) {
        lastMs = performance.now();
        stderr.write(`${line}\n`);
      }
    },
    clear() {
      if (shown) {
        stderr.write(REWRITE);
      }
      shown = false;
    },
  };
}
