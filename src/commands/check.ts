import { checkAccessFiles } from "../access/create-access.ts";
import { AccessFileError } from "../access/read-file.ts";
import { silentLog } from "../base/log.ts";
import { systemClock } from "../base/system-clock.ts";
import { ConfigError, type ConfigProblem } from "../config/config-error.ts";
import { loadConfigFrom } from "../config/load.ts";
import type { Config } from "../config/types.ts";
import { EXIT } from "./exit-code.ts";
import { formatListen } from "./start-message.ts";
import type { Terminal } from "./terminal.ts";

export interface CheckOptions {
  readonly config?: string | undefined;
  readonly json?: boolean | undefined;
}

/** `weir check`: is the configuration right, with the files by which clients sign in, and what does it come to? Touches nothing. */
export async function check(options: CheckOptions, terminal: Terminal): Promise<number> {
  try {
    const { config, file } = await loadConfigFrom({ file: options.config, env: terminal.env, cwd: terminal.cwd() });
    checkFiles(config);
    const summary = summarise(config, file);
    terminal.stdout.write(options.json === true ? toJson({ ok: true, ...summary }) : asText(summary));
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof ConfigError)) {
      throw error;
    }
    if (options.json === true) {
      terminal.stdout.write(toJson({ ok: false, problems: error.problems }));
    } else {
      terminal.stderr.write(formatProblems(error.problems));
    }
    return EXIT.failed;
  }
}

/** The files by which clients sign in, which a start would stumble over. @throws ConfigError */
function checkFiles({ access }: Config): void {
  try {
    checkAccessFiles(access.signIn, { clock: systemClock, log: silentLog });
  } catch (error) {
    if (!(error instanceof AccessFileError)) throw error;
    throw new ConfigError([{ path: error.key, message: error.problem }]);
  }
}

/** One line a problem. */
export function formatProblems(problems: readonly ConfigProblem[]): string {
  const lines = problems.map(({ path, message }) => `  ${path}: ${message}\n`);
  return `weir: the configuration has ${problems.length === 1 ? "a problem" : `${problems.length} problems`}:\n${lines.join("")}`;
}

function summarise(config: Config, file: string | undefined) {
  return {
    file: file ?? null,
    listen: formatListen(config.server.listen),
    tls: config.server.tls !== undefined,
    admin: formatListen(config.admin.listen),
    storage: { driver: config.storage.driver, root: config.storage.filesystem.root, spool: config.storage.spool.dir },
    default: config.routing.default ?? null,
    upstreams: config.upstreams.map((upstream) => ({
      name: upstream.name,
      type: upstream.type,
      aliases: upstream.aliases,
      endpoints: upstream.endpoints.map(({ url, prefix }) => (prefix === "" ? url.origin : `${url.origin}/${prefix}`)),
      credentials: upstream.credentials.map(({ label }) => label),
    })),
  };
}

function asText(summary: ReturnType<typeof summarise>): string {
  const width = Math.max(0, ...summary.upstreams.map(({ name }) => name.length));
  const upstreams = summary.upstreams.map(({ name, type, endpoints, credentials }) => {
    const signedIn = credentials.length === 0 ? "anonymous" : `credentials ${credentials.join(", ")}`;
    return `    ${name.padEnd(width)}  ${type}, ${endpoints.join(", then ")}, ${signedIn}\n`;
  });
  return [
    `ok: ${summary.file ?? "the built-in default"}\n`,
    `  listen     ${summary.listen}${summary.tls ? " (TLS)" : ""}, admin ${summary.admin}\n`,
    `  storage    ${summary.storage.driver}, ${summary.storage.root}\n`,
    `  upstreams  default ${summary.default ?? "none"}\n`,
    ...upstreams,
  ].join("");
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
