import { saysDiskFull } from "../../base/disk-full.ts";
import { StorageError } from "../blob-store.ts";

/** The name of a system call's failure (`ENOENT`); undefined for any other error. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Nothing has that name. */
export function isMissing(error: unknown): boolean {
  return errnoOf(error) === "ENOENT";
}

/**
 * The storage fault behind a failed file operation; `doing` says what was tried ("writing blob sha256:...").
 * A StorageError, an abort and a RangeError (a caller's mistake) stay what they are.
 */
export function asStorageError(error: unknown, doing: string): unknown {
  const code = errnoOf(error);
  if (error instanceof StorageError || code === undefined) return error;
  if (saysDiskFull(error)) return new StorageError("no-space", `${doing}: the disk is full`, error);
  if (code === "ENOTDIR" || code === "EISDIR") {
    return new StorageError(
      "unavailable",
      `${doing}: a file stands where a folder should, or the other way round`,
      error,
    );
  }
  return new StorageError("unavailable", `${doing}: ${(error as Error).message}`, error);
}
