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
  /** Lets others have the root. Repeatable. */
  close(): Promise<void>;
}

/**
 * Makes the folder if it is missing, takes it for this process, and clears away the temporary files of one that crashed.
 * Rejects with a {@link StorageError} whose message tells the operator what to do when the folder cannot be written to,
 * is full, takes upper case for lower case, or is in use by another Weir.
 */
export async function openRoot(root: string): Promise<OpenRoot> {
  const path = resolve(root);
  await explained(path, () => tryOut(path));
  const unlock = await lock(path);
  try {
    await explained(path, () => moveIn(path));
  } catch (error) {
    unlock();
    throw error;
  }
  let closed: Promise<void> | undefined;
  return {
    path,
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

async function tryOut(path: string): Promise<void> {
  await makeFolder(join(path, TEMPORARY_FOLDER));
  const probe = await writeTemporary(path, Buffer.from("probe"));
  try {
    if (await foldsCase(probe)) {
      throw refusal(
        path,
        "does not tell upper from lower case, so that it would mix up the tags Foo and foo",
        "name a folder on a filesystem that does",
      );
    }
  } finally {
    await discard(probe);
  }
}

async function lock(path: string): Promise<() => void> {
  let unlock: (() => void) | undefined;
  try {
    unlock = lockFile(join(path, LOCK_KEY));
  } catch (error) {
    throw refusal(path, `cannot be locked (${String(error)})`, "name a folder on a filesystem with file locks", error);
  }
  if (unlock === undefined) {
    throw refusal(path, `is in use by another Weir (${await holder(path)})`, "stop that one, or name another folder");
  }
  return unlock;
}

/** With the lock held, whatever is temporary was left by a process that is no more. */
async function moveIn(path: string): Promise<void> {
  const folder = join(path, TEMPORARY_FOLDER);
  for await (const entry of await opendir(folder)) await discard(join(folder, entry.name));
  await writeFile(join(path, HOLDER_KEY), `process ${process.pid} on ${hostname()}`);
}

async function holder(path: string): Promise<string> {
  try {
    return await readFile(join(path, HOLDER_KEY), "utf8");
  } catch {
    return "which has not said who it is";
  }
}

/** Turns what goes wrong in `work` into a sentence for the operator. */
async function explained(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const code = errnoOf(error);
    if (code === "ENOSPC" || code === "EDQUOT") {
      const message = `storage.filesystem.root: ${path} is full, or has no inode left (see df and df -i): make room`;
      throw new StorageError("no-space", message, error);
    }
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

function refusal(path: string, problem: string, remedy: string, cause?: unknown): StorageError {
  return new StorageError("unavailable", `storage.filesystem.root: ${path} ${problem}: ${remedy}`, cause);
}
