import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { quote } from "../base/quote.ts";
import { ConfigError } from "../config/config-error.ts";
import { loadConfigFrom } from "../config/load.ts";
import type { Config } from "../config/types.ts";
import { parseBaseUrl, serverUrl } from "../http/setup/base-url.ts";
import { createClientSetup, findSetupClient, SETUP_CLIENTS, type SetupClient } from "../http/setup/clients.ts";
import { createMirror, type Mirror } from "../http/setup/mirror.ts";
import { SetupError } from "../http/setup/setup-error.ts";
import type { ClientSetup, SetupFile } from "../http/setup/setup-file.ts";
import { formatProblems } from "./check.ts";
import { EXIT } from "./exit-code.ts";
import type { Terminal } from "./terminal.ts";

export interface HostsOptions {
  readonly config?: string | undefined;
  readonly url?: string | undefined;
  readonly only?: boolean | undefined;
  readonly out?: string | undefined;
  readonly json?: boolean | undefined;
}

/** The words for `weir hosts`, as they stand in its help. */
export const HOSTS_CLIENTS = SETUP_CLIENTS.map(({ name }) => name).join(", ");

/** What came of one client. */
type Outcome =
  | { readonly client: SetupClient; readonly setup: ClientSetup }
  | { readonly client: SetupClient; readonly refused: string };

/**
 * `weir hosts [client]`: ready configuration for one client or all, printed, or written below a folder of its own.
 *
 * @param word as typed; undefined for all
 */
export async function hosts(word: string | undefined, options: HostsOptions, terminal: Terminal): Promise<number> {
  const clients = word === undefined ? SETUP_CLIENTS : [findSetupClient(word)].filter((client) => client !== undefined);
  if (clients.length === 0) {
    return usage(terminal, `there is no client ${quote(word ?? "")}; there is ${HOSTS_CLIENTS}`);
  }
  const typed = options.url === undefined ? undefined : parseBaseUrl(options.url);
  if (options.url !== undefined && typed === undefined) {
    return usage(
      terminal,
      `--url: expected an address such as http://weir.example:5000, without a path, got ${quote(options.url)}`,
    );
  }
  try {
    const { config } = await loadConfigFrom({ file: options.config, env: terminal.env, cwd: terminal.cwd() });
    const mirror = createMirror(config, typed ?? ownUrl(config), { only: options.only === true });
    return await deliver(clients, mirror, options, terminal);
  } catch (error) {
    if (error instanceof ConfigError) {
      terminal.stderr.write(formatProblems(error.problems));
    } else if (error instanceof SetupError) {
      terminal.stderr.write(`weir: ${error.message}\n`);
    } else {
      throw error;
    }
    return EXIT.failed;
  }
}

function ownUrl(config: Config): URL {
  return serverUrl(config.server, undefined);
}

function usage(terminal: Terminal, sentence: string): number {
  terminal.stderr.write(`weir: ${sentence}\n`);
  return EXIT.usage;
}

async function deliver(
  clients: readonly SetupClient[],
  mirror: Mirror,
  options: HostsOptions,
  terminal: Terminal,
): Promise<number> {
  const outcomes = clients.map((client) => outcomeOf(client, mirror));
  for (const outcome of outcomes) {
    if ("refused" in outcome) {
      terminal.stderr.write(`weir: left out ${outcome.client.name}: ${outcome.refused}\n`);
    }
  }
  const folder = options.out === undefined ? undefined : resolve(terminal.cwd(), options.out);
  if (folder !== undefined) {
    try {
      await writeAll(outcomes, folder);
    } catch (error) {
      terminal.stderr.write(`weir: cannot write below ${folder}: ${error instanceof Error ? error.message : error}\n`);
      return EXIT.failed;
    }
  }
  terminal.stdout.write(options.json === true ? asJson(mirror, outcomes, folder) : asText(outcomes, folder));
  // Of all clients some may be left out; of one, that is all.
  return outcomes.some((outcome) => "setup" in outcome) ? EXIT.ok : EXIT.failed;
}

function outcomeOf(client: SetupClient, mirror: Mirror): Outcome {
  try {
    return { client, setup: createClientSetup(client, mirror) };
  } catch (error) {
    if (!(error instanceof SetupError)) {
      throw error;
    }
    return { client, refused: error.message };
  }
}

async function writeAll(outcomes: readonly Outcome[], folder: string): Promise<void> {
  for (const outcome of outcomes) {
    for (const file of filesOf(outcome)) {
      const path = pathBelow(folder, outcome.client, file);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, file.content, { mode: file.mode });
    }
  }
}

/** A folder a client: files of different clients may have the same path, and what the machine itself uses is never hit. */
function pathBelow(folder: string, client: SetupClient, file: SetupFile): string {
  return join(folder, client.name, file.path.replace(/^~?\//, ""));
}

function filesOf(outcome: Outcome): readonly SetupFile[] {
  return "setup" in outcome ? outcome.setup.files : [];
}

function asText(outcomes: readonly Outcome[], folder: string | undefined): string {
  return outcomes
    .flatMap((outcome) => ("setup" in outcome ? [setupText(outcome.client, outcome.setup, folder)] : []))
    .join("\n");
}

/** All but the files' content is comment, so that a single file (but for JSON) can be piped to where it belongs. */
function setupText(client: SetupClient, setup: ClientSetup, folder: string | undefined): string {
  const files = setup.files.map((file) =>
    folder === undefined
      ? `\n# --- ${file.path}: ${file.note}\n${file.content}`
      : `${pathBelow(folder, client, file)}\n`,
  );
  const next = setup.next.map((sentence) => `# ${sentence}\n`);
  return [`# ${client.title}\n`, ...files, folder === undefined ? "\n" : "", ...next].join("");
}

function asJson(mirror: Mirror, outcomes: readonly Outcome[], folder: string | undefined): string {
  const clients = outcomes.map((outcome) => {
    const { name } = outcome.client;
    return "refused" in outcome
      ? { client: name, refused: outcome.refused, files: [], next: [] }
      : {
          client: name,
          files: outcome.setup.files.map((file) => ({
            ...file,
            mode: file.mode.toString(8).padStart(4, "0"),
            ...(folder === undefined ? {} : { written: pathBelow(folder, outcome.client, file) }),
          })),
          next: outcome.setup.next,
        };
  });
  return `${JSON.stringify({ url: mirror.url, only: mirror.only, clients }, undefined, 2)}\n`;
}
