import { packageVersion } from "../base/package-version.ts";
import { ConfigError } from "../config/config-error.ts";
import { ConfigSource } from "../config/config-source.ts";
import type { LoadedConfig } from "../config/load.ts";
import type { Config, ListenAddress } from "../config/types.ts";
import { formatProblems } from "./check.ts";
import { EXIT } from "./exit-code.ts";
import { describeStartFailure } from "./start-failure.ts";
import { startMessage } from "./start-message.ts";
import type { Terminal } from "./terminal.ts";

/** A running Weir, as the command sees it; compose.ts starts one. */
export interface Running {
  readonly address: ListenAddress;
  readonly adminAddress: ListenAddress;
  /** Graceful. */
  stop(): Promise<void>;
  /** Reads configuration and TLS files again; never rejects. */
  reload(): Promise<void>;
  /** Of one of several workers: resolves when its parent wants it to stop. Signals are not for it, and nor are greetings. */
  readonly ended?: Promise<void>;
}

/** Starts what `source` has just given, and lets it follow the changes there. */
export type StartWeir = (config: Config, source: ConfigSource) => Promise<Running>;

/** The process, as far as a server that runs until it is told to end needs it. */
export interface ServeTerminal extends Terminal {
  on(signal: NodeJS.Signals, listener: () => void): unknown;
  off(signal: NodeJS.Signals, listener: () => void): unknown;
  exit(code: number): void;
}

export interface ServeOptions {
  readonly config?: string | undefined;
}

/** What a shell reports for a process that the signal ended. */
const ENDED_BY = { SIGINT: 130, SIGTERM: 143 } as const;

/** `weir serve`: resolves with the exit code when the first SIGTERM or SIGINT has been seen through; a second one ends at once. */
export async function serve(options: ServeOptions, terminal: ServeTerminal, start: StartWeir): Promise<number> {
  const source = new ConfigSource({ file: options.config, env: terminal.env, cwd: terminal.cwd() });
  const loaded = await load(source, terminal);
  if (loaded === undefined) {
    return EXIT.failed;
  }
  const ending = endSignal(terminal);
  let app: Running | undefined;
  // From the beginning, since it would end the process otherwise. What changes during the start is seen without it.
  const reload = (): void => void app?.reload();
  terminal.on("SIGHUP", reload);
  try {
    return await run(
      loaded,
      terminal,
      async (config) => {
        app = await start(config, source);
        return app;
      },
      ending.first,
    );
  } finally {
    terminal.off("SIGHUP", reload);
    ending.forget();
  }
}

async function run(
  { config, file }: LoadedConfig,
  terminal: ServeTerminal,
  start: (config: Config) => Promise<Running>,
  ended: Promise<void>,
): Promise<number> {
  let app: Running;
  try {
    app = await start(config);
  } catch (error) {
    terminal.stderr.write(`weir: cannot start: ${describeStartFailure(error, config)}\n`);
    return EXIT.failed;
  }
  const { address, adminAddress } = app;
  if (app.ended === undefined) {
    terminal.stderr.write(startMessage({ version: packageVersion(), config, file, address, adminAddress }));
  }
  await (app.ended ?? ended);
  await app.stop();
  return EXIT.ok;
}

async function load(source: ConfigSource, terminal: Terminal): Promise<LoadedConfig | undefined> {
  try {
    return await source.load();
  } catch (error) {
    if (!(error instanceof ConfigError)) {
      throw error;
    }
    terminal.stderr.write(formatProblems(error.problems));
    return undefined;
  }
}

interface EndSignal {
  /** Resolves at the first SIGTERM or SIGINT. */
  readonly first: Promise<void>;
  forget(): void;
}

function endSignal(terminal: ServeTerminal): EndSignal {
  const { promise, resolve } = Promise.withResolvers<void>();
  let asked = false;
  const listeners = Object.entries(ENDED_BY).map(([signal, code]) => {
    const listener = (): void => {
      if (asked) {
        terminal.exit(code);
      }
      asked = true;
      resolve();
    };
    return { signal: signal as keyof typeof ENDED_BY, listener };
  });
  for (const { signal, listener } of listeners) {
    terminal.on(signal, listener);
  }
  return {
    first: promise,
    forget() {
      for (const { signal, listener } of listeners) {
        terminal.off(signal, listener);
      }
    },
  };
}
