import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Document, type ErrorCode, LineCounter, parseDocument, visit } from "yaml";
import { ConfigError, type ConfigProblem } from "./config-error.ts";
import { parseConfig } from "./parse.ts";
import type { Config } from "./types.ts";

/** Thousands of upstreams fit; a mistaken path to a blob does not. */
const MAX_FILE_BYTES = 2 ** 20;

/** Nobody writes more by hand; stops a file of aliases to aliases. */
const MAX_ALIASES = 100;

/** Where the file is looked for, below the working directory, when nothing says otherwise. */
const DEFAULT_FILE = join("config", "weir.yaml");

export interface LoadOptions {
  /** As given on the command line. */
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** Told the absolute path of every file just before it is read, also of one that is then not there. */
  readonly opening?: ((path: string) => void) | undefined;
}

export interface LoadedConfig {
  readonly config: Config;
  /** The file's path as given; undefined for the built-in default. */
  readonly file: string | undefined;
}

/**
 * The configuration from `--config`, else `$WEIR_CONFIG`, else `config/weir.yaml` if it is there, else the built-in default,
 * with the `WEIR_*` variables laid over it.
 *
 * @throws ConfigError with everything that is wrong
 */
export async function loadConfig(o: LoadOptions): Promise<Config> {
  return (await loadConfigFrom(o)).config;
}

/** As {@link loadConfig}, with where it came from. */
export async function loadConfigFrom(o: LoadOptions): Promise<LoadedConfig> {
  const asked = o.file ?? (o.env.WEIR_CONFIG || undefined);
  const path = resolve(o.cwd, asked ?? DEFAULT_FILE);
  o.opening?.(path);
  const text = await readConfigFile(path, asked);
  const file = asked ?? (text === undefined ? undefined : DEFAULT_FILE);
  const input = text === undefined ? undefined : parseYaml(text, file ?? DEFAULT_FILE);
  const result = parseConfig(input, o.env, o.cwd, o.opening);
  if (!result.ok) {
    throw new ConfigError(result.problems);
  }
  return { config: result.config, file };
}

/** The file's text; undefined when nobody asked for the file and it is not there. */
async function readConfigFile(path: string, asked: string | undefined): Promise<string | undefined> {
  try {
    const bytes = await readFile(path);
    if (bytes.length > MAX_FILE_BYTES) {
      throw new ConfigError([
        { path: asked ?? path, message: `has ${bytes.length} bytes, of ${MAX_FILE_BYTES} at most` },
      ]);
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof ConfigError) {
      throw error;
    }
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" && asked === undefined) {
      return undefined;
    }
    throw new ConfigError([{ path: asked ?? path, message: unreadable(code) }]);
  }
}

function unreadable(code: unknown): string {
  switch (code) {
    case "ENOENT":
      return "there is no such file";
    case "EACCES":
      return "the file may not be read by this user";
    case "EISDIR":
      return "is a folder, not a file";
    case "ERR_ENCODING_INVALID_ENCODED_DATA":
      return "is not UTF-8 text";
    default:
      return `cannot be read (${String(code)})`;
  }
}

/** @throws ConfigError naming line and column of everything that is not YAML */
function parseYaml(text: string, file: string): unknown {
  const lines = new LineCounter();
  // No prettier errors: those quote the line, which may hold a password.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const faults = [
    ...[...document.errors, ...document.warnings].map(({ code, pos }) => ({ at: pos[0], message: yamlSentence(code) })),
    ...aliasFaults(document),
  ];
  if (faults.length > 0) {
    throw new ConfigError(
      faults.map(({ at, message }): ConfigProblem => {
        const { line, col } = lines.linePos(at);
        return { path: `${file}:${line}:${col}`, message };
      }),
    );
  }
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError([{ path: file, message: `cannot be read as YAML: ${reason}` }]);
  }
}

interface Fault {
  /** Offset in the text. */
  readonly at: number;
  readonly message: string;
}

/** Aliases that stand for nothing, and those that stand for something which holds them: a tree without end. */
function aliasFaults(document: Document): readonly Fault[] {
  const faults: Fault[] = [];
  visit(document, {
    Alias(_key, alias, path) {
      const target = alias.resolve(document);
      const at = alias.range?.[0] ?? 0;
      if (target === undefined) {
        faults.push({ at, message: "there is no such anchor; a text that begins with * goes in quotes" });
      } else if (path.includes(target)) {
        faults.push({ at, message: "this alias is part of what it stands for" });
      }
    },
  });
  return faults;
}

/** Own words throughout: the library's may quote the text, which may be a password. */
function yamlSentence(code: ErrorCode): string {
  switch (code) {
    case "DUPLICATE_KEY":
      return "the key is there twice in one mapping";
    case "MULTIPLE_DOCS":
      return "a second document starts here; the file has one";
    case "BAD_INDENT":
      return "this is not YAML: the indentation does not fit";
    case "TAB_AS_INDENT":
      return "this is not YAML: indentation is made of spaces, not of tabs";
    case "TAG_RESOLVE_FAILED":
      return "tags have no meaning here; a text that begins with ! goes in quotes";
    default:
      return "this is not YAML: check quotes, brackets and indentation";
  }
}
