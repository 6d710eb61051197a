import { readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";

/** A secret or a certificate is far smaller; a mistaken path may not be. */
const MAX_FILE_BYTES = 64 * 1024;

/** `$${` first, so that what it escapes is not taken for the start of an expression. */
const EXPRESSION = /\$\$\{|\$\{([^}]*)(\})?/g;

export interface InterpolationSources {
  readonly env: NodeJS.ProcessEnv;
  /** Relative paths start here. */
  readonly cwd: string;
  /** Told the absolute path of every file just before it is read. */
  opening(path: string): void;
  /** A name that is left as it stands, `${` and `}` included: what takes its place is known later. */
  readonly keep?: string | undefined;
}

/**
 * Replaces `${ENV}`, `${ENV:-default}` and `${file:/path}` in a text; `$${` stands for `${`. What is put in is not looked at
 * again. `fail` is told, without any value, what could not be replaced.
 */
export function interpolate(text: string, sources: InterpolationSources, fail: (message: string) => void): string {
  return text.replace(EXPRESSION, (_all, body: string | undefined, close: string | undefined) => {
    if (body === undefined) {
      return "${";
    }
    if (close === undefined) {
      fail(`a \${ without its }; write $\${ where the text itself holds \${`);
      return "";
    }
    if (body === sources.keep) {
      return `\${${body}}`;
    }
    if (body.startsWith("file:")) {
      return readReferenced(body.slice("file:".length), sources, fail);
    }
    return readVariable(body, sources, fail);
  });
}

function readVariable(body: string, sources: InterpolationSources, fail: (message: string) => void): string {
  const match = /^([A-Za-z_]\w*)(?::-(.*))?$/s.exec(body);
  if (match?.[1] === undefined) {
    // The body may be a password with `${` in it: it is not repeated.
    fail(`expected \${NAME}, \${NAME:-default} or \${file:/path}; write $\${ where the text itself holds \${`);
    return "";
  }
  const value = sources.env[match[1]] ?? "";
  if (value !== "") {
    return value;
  }
  if (match[2] !== undefined) {
    return match[2];
  }
  if (sources.env[match[1]] === undefined) {
    fail(`the variable ${match[1]} is not set`);
  }
  return value;
}

function readReferenced(path: string, sources: InterpolationSources, fail: (message: string) => void): string {
  if (path === "") {
    fail(`\${file:} names no file`);
    return "";
  }
  try {
    const absolute = resolve(sources.cwd, path);
    sources.opening(absolute);
    const { size } = statSync(absolute);
    if (size > MAX_FILE_BYTES) {
      fail(`the file ${path} has ${size} bytes, of ${MAX_FILE_BYTES} at most`);
      return "";
    }
    return readFileSync(absolute, "utf8").replace(/\r?\n$/, "");
  } catch (error) {
    fail(`the file ${path} cannot be read (${errorCode(error)})`);
    return "";
  }
}

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
