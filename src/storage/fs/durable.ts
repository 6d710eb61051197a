/**
 * Publishing files so that a reader, or a restart after a power cut, finds all of the content under a name or none of it:
 * write under a temporary name on the same filesystem, sync the data, rename, sync the folder.
 */
import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rmdir, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { checkKey, TEMPORARY_FOLDER } from "../layout.ts";
import { asStorageError, errnoOf, isMissing } from "./errno.ts";

/** A folder may be pruned by a delete between its making and its use; more often than this in a row is something else. */
const FOLDER_ATTEMPTS = 10;

/** Bytes read and written at a time when a file is copied between devices. */
const COPY_CHUNK = 1 << 20;

/** The path of a key, which is checked to stay inside the root. */
export function pathInRoot(root: string, key: string): string {
  checkKey(key);
  return join(root, key);
}

/** Bytes that a file or folder takes up, as `du` counts: `st_blocks` is in units of 512 whatever the filesystem's blocks are. */
export function occupiedBy(stats: { readonly blocks: number }): number {
  return stats.blocks * 512;
}

/** Must have been called before anything is written below `root`. */
export async function makeTemporaryFolder(root: string): Promise<void> {
  try {
    await makeFolder(join(root, TEMPORARY_FOLDER));
  } catch (error) {
    throw asStorageError(error, `preparing ${root}`);
  }
}

/** Writes `bytes` to a new temporary file, synced. Leaves nothing behind when it fails. */
export function writeTemporary(root: string, bytes: Uint8Array): Promise<string> {
  return createTemporary(root, (file) => file.writeFile(bytes));
}

/** Copies an open file to a new temporary file, synced. Leaves nothing behind when it fails. */
export function copyToTemporary(root: string, source: FileHandle, signal: AbortSignal): Promise<string> {
  return createTemporary(root, async (file) => {
    const buffer = Buffer.allocUnsafe(COPY_CHUNK);
    for (let position = 0; ; ) {
      signal.throwIfAborted();
      const { bytesRead } = await source.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) return;
      // Unlike write(), it goes on until everything is written.
      await file.writeFile(buffer.subarray(0, bytesRead));
      position += bytesRead;
    }
  });
}

/**
 * Gives a synced file its name, replacing what had it, and makes that durable. Makes the folders that are missing; one that
 * is `own` to the file usually is. When it fails the file is still at `from`.
 */
export async function publish(from: string, to: string, o: { readonly own: boolean }): Promise<void> {
  const folder = dirname(to);
  const changed = new Set([folder]);
  const addMissing = async (): Promise<void> => {
    for (const above of await addFolder(folder).catch(nonePruned)) changed.add(above);
  };
  if (o.own) await addMissing();
  for (let attempt = 1; ; attempt += 1) {
    try {
      await rename(from, to);
      break;
    } catch (error) {
      if (!isMissing(error) || attempt === FOLDER_ATTEMPTS) {
        if (o.own) await removeIfEmpty(folder).catch(() => false);
        throw error;
      }
      await addMissing();
    }
  }
  try {
    // When all is in its place: with the first the filesystem's journal usually has the others, too.
    for (const one of [...changed].reverse()) await syncFolderIfThere(one);
  } catch (error) {
    await rename(to, from).catch(() => undefined);
    throw error;
  }
}

/**
 * Makes a folder and those above it, durably. (Node's own `recursive` says ENOENT for a read-only filesystem and never
 * returns below /proc; seen with 24.21.)
 */
export async function makeFolder(path: string): Promise<void> {
  for (const folder of (await addFolder(path)).toReversed()) await syncFolderIfThere(folder);
}

/** Makes a folder and those above it. Gives those that have something new in them, the lowest first: that is not durable yet. */
async function addFolder(path: string): Promise<readonly string[]> {
  try {
    await mkdir(path);
    return [dirname(path)];
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return [];
    if (!isMissing(error)) throw error;
    const above = await addFolder(dirname(path));
    await mkdir(path).catch(unlessThere);
    return [dirname(path), ...above];
  }
}

/**
 * Removes a file and then the folders above it that have become empty, up to the root. False when there was no such file.
 * With `durable` the file does not come back after a power cut.
 */
export async function removeFile(root: string, path: string, o: { durable: boolean }): Promise<boolean> {
  try {
    await unlink(path);
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
  const folder = await pruneAbove(root, path);
  if (o.durable) await syncFolderIfThere(folder);
  return true;
}

/** Removes the folders above `path` that have become empty, up to the root. Gives the first that stays. */
export async function pruneAbove(root: string, path: string): Promise<string> {
  let folder = dirname(path);
  while (folder !== root && (await removeIfEmpty(folder))) folder = dirname(folder);
  return folder;
}

async function createTemporary(root: string, fill: (file: FileHandle) => Promise<void>): Promise<string> {
  const path = join(root, TEMPORARY_FOLDER, `weir-${process.pid}-${randomUUID()}`);
  const file = await open(path, "wx");
  try {
    try {
      await fill(file);
      await file.datasync();
    } finally {
      await file.close();
    }
  } catch (error) {
    await discard(path);
    throw error;
  }
  return path;
}

/** Removes a temporary file after a failure; what cannot be removed now is removed when the root is opened next. */
export async function discard(path: string): Promise<void> {
  await unlink(path).catch(() => undefined);
}

/** Another one was faster. */
export function unlessThere(error: unknown): void {
  if (errnoOf(error) !== "EEXIST") throw error;
}

/** Somebody removes empty folders meanwhile: whoever needs them makes them again. */
function nonePruned(error: unknown): readonly string[] {
  if (!isMissing(error)) throw error;
  return [];
}

/** False when the folder is in use; true also when another one removed it first. */
async function removeIfEmpty(folder: string): Promise<boolean> {
  try {
    await rmdir(folder);
    return true;
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT") return true;
    if (code === "ENOTEMPTY" || code === "EEXIST" || code === "EBUSY") return false;
    throw error;
  }
}

/** A folder that is gone was pruned after what stood in it was deleted: there is nothing left to keep. */
async function syncFolderIfThere(path: string): Promise<void> {
  let folder: FileHandle;
  try {
    folder = await open(path, "r");
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
