import { type BigIntStats, realpathSync, statSync } from "node:fs";
import { realpath, stat } from "node:fs/promises";

/**
 * A text that differs whenever the content of the file at `path` may, be it by a symbolic link that leads elsewhere; the error
 * code where there is no such file.
 */
export async function fileStamp(path: string): Promise<string> {
  try {
    return stamp(await realpath(path), await stat(path, { bigint: true }));
  } catch (error) {
    return reason(error);
  }
}

/** As {@link fileStamp}, for where nothing else may happen in between. */
export function fileStampSync(path: string): string {
  try {
    return stamp(realpathSync(path), statSync(path, { bigint: true }));
  } catch (error) {
    return reason(error);
  }
}

/** The time of the last change of its metadata cannot be set back, as `mtime` can. */
function stamp(real: string, { dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs, real].join(" ");
}

function reason(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
