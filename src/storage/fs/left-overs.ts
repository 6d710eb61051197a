import type { Stats } from "node:fs";
import { opendir, rmdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { CallOptions } from "../../base/call.ts";
import type { StoreLeftOver } from "../blob-store.ts";
import { BLOBS_PREFIX, RECORDS_PREFIX, REPOSITORIES_PREFIX, TEMPORARY_FOLDER } from "../layout.ts";
import { occupiedBy } from "./durable.ts";
import { asStorageError, errnoOf, isMissing } from "./errno.ts";

/** Temporary files, and folders in which nothing is left, below `root`. The deepest folders come first. */
export async function* fsLeftOvers(root: string, o: CallOptions): AsyncIterable<StoreLeftOver> {
  const temporary = join(root, TEMPORARY_FOLDER);
  for (const name of (await entries(temporary)).files) {
    o.signal.throwIfAborted();
    const found = await measured(join(temporary, name));
    if (found !== undefined) yield leftOver(`${TEMPORARY_FOLDER}/${name}`, found, () => unlink(join(temporary, name)));
  }
  for (const prefix of [BLOBS_PREFIX, REPOSITORIES_PREFIX, RECORDS_PREFIX]) {
    for (const folder of (await entries(join(root, prefix))).folders)
      yield* emptyFolders(root, `${prefix}${folder}/`, o);
  }
}

/** The folder itself where it is empty, else those below it that are. */
async function* emptyFolders(root: string, key: string, o: CallOptions): AsyncIterable<StoreLeftOver> {
  o.signal.throwIfAborted();
  const path = join(root, key);
  if (path === join(root, TEMPORARY_FOLDER, "/")) return;
  const { files, folders, there } = await entries(path);
  if (there && files.length === 0 && folders.length === 0) {
    const found = await measured(path);
    if (found !== undefined) yield leftOver(key, found, () => rmdir(path));
  }
  for (const folder of folders) yield* emptyFolders(root, `${key}${folder}/`, o);
}

function leftOver(key: string, stats: Stats, remove: () => Promise<void>): StoreLeftOver {
  return {
    key,
    occupied: occupiedBy(stats),
    changedAtMs: Math.floor(stats.ctimeMs),
    async remove(o: CallOptions): Promise<boolean> {
      o.signal.throwIfAborted();
      try {
        await remove();
        return true;
      } catch (error) {
        const code = errnoOf(error);
        if (isMissing(error) || code === "ENOTEMPTY" || code === "EEXIST") return false;
        throw asStorageError(error, `removing ${key}`);
      }
    },
  };
}

async function measured(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw asStorageError(error, `looking at ${path}`);
  }
}

interface Entries {
  readonly files: readonly string[];
  readonly folders: readonly string[];
  /** Whether the folder itself is there. */
  readonly there: boolean;
}

async function entries(path: string): Promise<Entries> {
  const files: string[] = [];
  const folders: string[] = [];
  try {
    for await (const entry of await opendir(path)) (entry.isDirectory() ? folders : files).push(entry.name);
    return { files, folders, there: true };
  } catch (error) {
    if (isMissing(error)) return { files, folders, there: false };
    throw asStorageError(error, `listing ${path}`);
  }
}
