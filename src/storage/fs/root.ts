import { randomUUID } from "node:crypto";
import { access, link, opendir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { saysDiskFull } from "../../base/disk-full.ts";
import { Secret } from "../../base/secret.ts";
import type { ListenAddress } from "../../config/types.ts";
import { StorageError } from "../blob-store.ts";
import { lockFile } from "../file-lock.ts";
import { HOLDER_KEY, LOCK_KEY, TEMPORARY_FOLDER, TOKEN_KEY_KEY } from "../layout.ts";
import { discard, makeFolder, unlessThere, writeTemporary } from "./durable.ts";
import { errnoOf, isMissing } from "./errno.ts";

/** A root that this process, and no other, writes to. */
export interface OpenRoot {
  /** Absolute. */
  readonly path: string;
  /** No room, or no inode, is left: what is held can be served, but nothing be kept before there is room again. */
  readonly full: boolean;
  /**
   * Tells commands on this machine how to reach the process that has the root. Readable by its own user only, since
   * whoever has the token may do what an operator may.
   */
  announce(control: HolderControl): Promise<void>;
  /**
   * The secret that is kept in the root, for all who use it and for every start. Where there is none yet it is what `make`
   * gives. Readable by its own user only.
   */
  keepSecret(make: () => string): Promise<Secret>;
  /** Lets others have the root. Repeatable. */
  close(): Promise<void>;
}

/** Who has a root, as it says itself. */
export interface RootHolder {
  readonly pid: number;
  readonly host: string;
  /** Undefined while it listens nowhere. */
  readonly control: HolderControl | undefined;
}

/** How a holder is told what to do. */
export interface HolderControl {
  /** Its admin listener. */
  readonly admin: ListenAddress;
  readonly token: Secret;
}

/** Another process has the root. */
export class RootInUseError extends StorageError {}

/**
 * Who else writes to a root.
 * - `alone`: nobody
 * - `shared`: other Weirs that were told so as well (`storage.filesystem.shared`)
 * - `under-parent`: the process that has the root and has started this one, and its other children
 */
export type RootUse = "alone" | "shared" | "under-parent";

/** Temporary files of another process that are older than this belong to one that crashed: small writes take no time. */
const ABANDONED_MS = 60 * 60 * 1000;

/**
 * Makes the folder if it is missing, takes it for this process, and clears away the temporary files of one that crashed.
 * Rejects with a {@link StorageError} whose message tells the operator what to do when the folder cannot be made or written
 * to, takes upper case for lower case, or is in use by another Weir.
 */
export async function openRoot(root: string, use: RootUse = "alone"): Promise<OpenRoot> {
  const path = resolve(root);
  let full = await explained(path, () => tryOut(path));
  const unlock = use === "under-parent" ? () => {} : await lock(path, full, use);
  try {
    full = await explained(path, () => moveIn(path, use));
  } catch (error) {
    unlock();
    throw error;
  }
  let closed: Promise<void> | undefined;
  return {
    path,
    full,
    keepSecret: (make) => explained(path, () => keepSecret(path, make)),
    announce: ({ admin, token }) => explained(path, () => writeHolder(path, { admin, token: token.reveal() })),
    close() {
      closed ??= moveOut(path).finally(unlock);
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
    if (saysDiskFull(error)) return true;
    throw error;
  }
}

async function lock(path: string, full: boolean, use: "alone" | "shared"): Promise<() => void> {
  let unlock: (() => void) | undefined;
  try {
    unlock = lockFile(join(path, LOCK_KEY), use === "alone" ? "exclusive" : "shared");
  } catch (error) {
    if (full) throw noRoom(path, error);
    throw refusal(path, `cannot be locked (${String(error)})`, "name a folder on a filesystem with file locks", error);
  }
  if (unlock === undefined) {
    const holder = await readHolder(path);
    const who = holder === undefined ? "which has not said who it is" : `process ${holder.pid} on ${holder.host}`;
    throw new RootInUseError(
      "unavailable",
      `storage.filesystem.root: ${path} is in use by another Weir (${who}): stop that one, name another folder, or set storage.filesystem.shared: true for both`,
    );
  }
  return unlock;
}

/** Of a root of one's own, whatever is temporary was left by a process that is no more. Resolves with whether the disk is full. */
async function moveIn(path: string, use: RootUse): Promise<boolean> {
  if (use === "under-parent") return false;
  const folder = join(path, TEMPORARY_FOLDER);
  for await (const entry of await opendir(folder)) {
    const file = join(folder, entry.name);
    if (use === "alone" || (await isAbandoned(file))) await discard(file);
  }
  if (await isFull(path)) return true;
  await writeHolder(path, {});
  return false;
}

async function isAbandoned(file: string): Promise<boolean> {
  try {
    // The filesystem's own clock wrote it, and it may be another machine's.
    return Date.now() - (await stat(file)).mtimeMs > ABANDONED_MS;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** The name of another process that shares the root is left alone. */
async function moveOut(path: string): Promise<void> {
  const holder = await readHolder(path);
  if (holder?.pid === process.pid && holder.host === hostname()) await discard(join(path, HOLDER_KEY));
}

/** By way of a new file: one with a wider mode may be there from before. */
async function writeHolder(
  path: string,
  control: { readonly admin?: ListenAddress; readonly token?: string },
): Promise<void> {
  const temporary = join(path, TEMPORARY_FOLDER, `holder-${process.pid}`);
  await discard(temporary);
  await writeFile(temporary, JSON.stringify({ pid: process.pid, host: hostname(), ...control }), { mode: 0o600 });
  await rename(temporary, join(path, HOLDER_KEY));
}

/** Whoever is first has made it: a link to a whole file is there at once, and not in the place of another's. */
async function keepSecret(path: string, make: () => string): Promise<Secret> {
  const file = join(path, TOKEN_KEY_KEY);
  const kept = await readIfThere(file);
  if (kept !== undefined) return new Secret(kept);
  const temporary = join(path, TEMPORARY_FOLDER, `secret-${process.pid}-${randomUUID()}`);
  try {
    await writeFile(temporary, make(), { mode: 0o600, flush: true });
    await link(temporary, file).catch(unlessThere);
  } finally {
    await discard(temporary);
  }
  return new Secret(await readFile(file, "utf8"));
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Who has the root; undefined where that cannot be read. Left behind by a crash it names one that is no more. */
export async function readHolder(root: string): Promise<RootHolder | undefined> {
  try {
    const { pid, host, admin, token } = JSON.parse(await readFile(join(root, HOLDER_KEY), "utf8"));
    if (typeof pid !== "number" || typeof host !== "string") return undefined;
    const told = typeof admin?.host === "string" && typeof admin.port === "number" && typeof token === "string";
    const control = told ? { admin: { host: admin.host, port: admin.port }, token: new Secret(token) } : undefined;
    return { pid, host, control };
  } catch {
    return undefined;
  }
}

/** Turns what goes wrong in `work` into a sentence for the operator. */
async function explained<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StorageError) throw error;
    const code = errnoOf(error);
    if (saysDiskFull(error)) throw noRoom(path, error);
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
