import type { Log } from "../base/log.ts";
import { StorageError } from "../storage/blob-store.ts";

/**
 * Writes what saves work later. Where storage fails, the client gets its answer all the same: then the failure is logged and
 * the result is false.
 */
export async function recorded(log: Log, about: string, write: () => Promise<unknown>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (!(error instanceof StorageError)) {
      throw error;
    }
    log.warn({ err: error, about }, "storage could not be written");
    return false;
  }
}
