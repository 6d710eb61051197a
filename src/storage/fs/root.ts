import { access, opendir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { StorageError } from "../blob-store.ts";
import { lockFile } from "../file-lock.ts";
import { HOLDER_KEY, LOCK_KEY, TEMPORARY_FOLDER } from "../layout.ts";
import { discard, makeFolder, writeTemporary } from "./durable.ts";
import { errnoOf, isMissing } from "./errno.ts";

/** A root that this process, and no other, writes to. */
export interface OpenRoot {
  /** Absolute. */
  readonly path: string;
  /** No room, or no inode, is left: what is held can be served, but nothing be kept before there is room again. */
  readonly full: boolean;
  /** Lets others have the root. Repeatable. */
  close(): Promise<void>;
}

/**
 * Makes the folder if it is missing, takes it for this process, and clears away the temporary files of one that crashed.
 * Rejects with a {@link StorageError} whose message tells the operator what to do when the folder cannot be made or written
 * to, takes upper case for lower case, or is in use by another Weir.
 */
export async function openRoot(root: string): Promise<OpenRoot> {
  const path = resolve(root);
  let full = await explained(path, () => tryOut(path));
  const unlock = await lock(path, full);
  try {
    full = await explained(path, () => moveIn(path));
  } catch (error) {
    unlock();
    throw error;
  }
  let closed: Promise<void> | undefined;
  return {
    path,
    full,
    close() {
      closed ??= discard(join(path, HOLDER_KEY)).finally(unlock);
      return closed;
    },
  };
}

/** Whether the filesystem finds `file`, which exists, by its name in upper case too. */
export async function foldsCase(file: string): Promise<boolean> {
  try {
    await access(join(dirname(file), basename(file).toUpperCase()));
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Resolves with whether the disk is full. */
async function tryOut(path: string): Promise<boolean> {
  const folder = join(path, TEMPORARY_FOLDER);
  await makeFolder(folder);
  if (await foldsCase(folder)) {
    throw refusal(
      path,
      "does not tell upper from lower case, so that it would mix up the tags Foo and foo",
      "name a folder on a filesystem that does",
    );
  }
  return await isFull(path);
}

/** Whether not even a few bytes can be written. Rejects where they may not be. */
async function isFull(path: string): Promise<boolean> {
  try {
    await discard(await writeTemporary(path, Buffer.from("probe")));
    return false;
  } catch (error) {
    if (saysFull(error)) return true;
    throw error;
  }
}

function saysFull(error: unknown): boolean {
  const code = errnoOf(error);
  return code === "ENOSPC" || code === "EDQUOT";
}

async function lock(path: string, full: boolean): Promise<() => void> {
  let unlock: (() => void) | undefined;
  try {
    unlock = lockFile(join(path, LOCK_KEY));
  } catch (error) {
    if (full) throw noRoom(path, error);
    throw refusal(path, `cannot be locked (${String(error)})`, "name a folder on a filesystem with file locks", error);
  }
  if (unlock === undefined) {
    throw refusal(path, `is in use by another Weir (${await holder(path)})`, "stop that one, or name another folder");
  }
  return unlock;
}

/** With the lock held, whatever is temporary was left by a process that is no more. Resolves with whether the disk is full. */
async function moveIn(path: string): Promise<boolean> {
  const folder = join(path, TEMPORARY_FOLDER);
  for await (const entry of await opendir(folder)) await discard(join(folder, entry.name));
  if (await isFull(path)) return true;
  await writeFile(join(path, HOLDER_KEY), `process ${process.pid} on ${hostname()}`);
  return false;
}

async function holder(path: string): Promise<string> {
  try {
    return await readFile(join(path, HOLDER_KEY), "utf8");
  } catch {
    return "which has not said who it is";
  }
}

/** Turns what goes wrong in `work` into a sentence for the operator. */
async function explained<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const code = errnoOf(error);
    if (saysFull(error)) throw noRoom(path, error);
    if (code === "ENOTDIR" || code === "EEXIST") throw refusal(path, "is not a folder", "name a folder", error);
    const user = process.getuid === undefined ? "this user" : `user ${process.getuid()}`;
    throw refusal(
      path,
      `cannot be written to by ${user} (${code ?? String(error)})`,
      "make it writable, or name another folder",
      error,
    );
  }
}

function noRoom(path: string, cause: unknown): StorageError {
  const message = `storage.filesystem.root: ${path} is full, or has no inode left (see df and df -i): make room`;
  return new StorageError("no-space", message, cause);
}

function refusal(path: string, problem: string, remedy: string, cause?: unknown): StorageError {
  return new StorageError("unavailable", `storage.filesystem.root: ${path} ${problem}: ${remedy}`, cause);
}
