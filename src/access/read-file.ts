import { readFileSync } from "node:fs";

/** A file that `access` names and that cannot be used. */
export class AccessFileError extends Error {
  override readonly name = "AccessFileError";
  /** The configuration key that names it. */
  readonly key: string;
  /** The rest of the message: the path, and what is wrong with it. */
  readonly problem: string;

  constructor(key: string, path: string, why: string, options?: ErrorOptions) {
    const problem = `${path} ${why}`;
    super(`${key}: ${problem}`, options);
    this.key = key;
    this.problem = problem;
  }
}

/** A few certificates, or many keys. */
const MAX_KEY_FILE_BYTES = 256 * 1024;

/** What `parse` makes of the text of a file that a key names; what it throws says what is wrong. @throws AccessFileError */
export function readUsing<T>(
  key: string,
  path: string,
  parse: (text: string) => T,
  maxBytes: number = MAX_KEY_FILE_BYTES,
): T {
  const text = readText(key, path, maxBytes);
  try {
    return parse(text);
  } catch (error) {
    throw new AccessFileError(key, path, error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function readText(key: string, path: string, maxBytes: number): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new AccessFileError(key, path, unreadable(error), { cause: error });
  }
  if (bytes.length > maxBytes) {
    throw new AccessFileError(key, path, `has ${bytes.length} bytes, of ${maxBytes} at most`);
  }
  return bytes.toString("utf8");
}

function unreadable(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "ENOENT":
      return "does not exist";
    case "EACCES":
      return "may not be read by this user";
    case "EISDIR":
      return "is a folder, not a file";
    default:
      return `cannot be read (${String(code)})`;
  }
}
