import type { Dirent, Stats } from "node:fs";
import { chmod, chown, lstat, opendir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { CallOptions } from "../../base/call.ts";
import type { QuarantinedFile, StoreEntry, StoreInspector } from "../inspector.ts";
import { parseQuarantineKey, QUARANTINE_PREFIX, quarantineKey } from "../layout.ts";
import { occupiedBy, pathInRoot, pruneAbove, publish, removeFile } from "./durable.ts";
import { asStorageError, errnoOf, isMissing } from "./errno.ts";

/** What the owner needs of a file and of a folder. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** The files below `root`, which the caller holds (`openRoot`) or only reads. */
export function createFsInspector(o: { readonly root: string }): StoreInspector {
  return new FsInspector(resolve(o.root));
}

class FsInspector implements StoreInspector {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async *entries(prefix: string, o: CallOptions): AsyncIterable<StoreEntry> {
    if (!prefix.endsWith("/")) throw new RangeError(`a prefix ends in "/": ${JSON.stringify(prefix)}`);
    const { uid } = await this.#owner();
    yield* this.#below(prefix, uid, o);
  }

  async quarantine(key: string, atMs: number, o: CallOptions): Promise<boolean> {
    o.signal.throwIfAborted();
    const path = pathInRoot(this.#root, key);
    try {
      await lstat(path);
      await publish(path, pathInRoot(this.#root, quarantineKey(key, atMs)), { own: false });
      await pruneAbove(this.#root, path);
      return true;
    } catch (error) {
      // Making the folders does not help against a source that has gone.
      if (isMissing(error)) return false;
      throw asStorageError(error, `putting ${key} aside`);
    }
  }

  async *quarantined(o: CallOptions): AsyncIterable<QuarantinedFile> {
    for await (const { key, kind } of this.entries(QUARANTINE_PREFIX, o)) {
      const parsed = parseQuarantineKey(key);
      if (kind === "folder" || parsed === undefined) continue;
      const path = pathInRoot(this.#root, key);
      const stats = await measured(path);
      if (stats === undefined) continue;
      yield {
        key,
        was: parsed.key,
        sinceMs: parsed.atMs,
        occupied: occupiedBy(stats),
        remove: async (call) => {
          call.signal.throwIfAborted();
          return await removeFile(this.#root, path, { durable: false });
        },
      };
    }
  }

  async repairAccess(key: string, o: CallOptions): Promise<boolean> {
    o.signal.throwIfAborted();
    const path = pathInRoot(this.#root, key.replace(/\/$/, ""));
    try {
      const { uid, gid } = await this.#owner();
      const stats = await lstat(path);
      if (stats.isSymbolicLink()) return false;
      if (stats.uid !== uid) await chown(path, uid, gid);
      await chmod(path, (stats.mode & 0o7777) | (stats.isDirectory() ? FOLDER_MODE : FILE_MODE));
      return true;
    } catch (error) {
      const code = errnoOf(error);
      if (code === "EPERM" || code === "EACCES" || code === "EROFS" || isMissing(error)) return false;
      throw asStorageError(error, `repairing the rights of ${key}`);
    }
  }

  /** Whoever the root belongs to runs Weir, also where somebody else is looking now. */
  async #owner(): Promise<Stats> {
    try {
      return await stat(this.#root);
    } catch (error) {
      throw asStorageError(error, `looking at ${this.#root}`);
    }
  }

  async *#below(prefix: string, uid: number, o: CallOptions): AsyncIterable<StoreEntry> {
    for (const entry of await entriesOf(pathInRoot(this.#root, prefix.slice(0, -1)))) {
      o.signal.throwIfAborted();
      const folder = entry.isDirectory();
      const key = `${prefix}${entry.name}${folder ? "/" : ""}`;
      const stats = await measured(join(this.#root, key));
      if (stats === undefined) continue;
      yield {
        key,
        kind: folder ? "folder" : entry.isFile() ? "file" : "other",
        size: stats.size,
        changedAtMs: stats.ctimeMs,
        accessProblem: accessProblem(stats, uid),
      };
      if (folder) yield* this.#below(key, uid, o);
    }
  }
}

/** All of one folder: a listing that stays open while its files are looked at would hold a descriptor for hours. */
async function entriesOf(path: string): Promise<readonly Dirent[]> {
  const entries: Dirent[] = [];
  try {
    for await (const entry of await opendir(path)) entries.push(entry);
  } catch (error) {
    const code = errnoOf(error);
    // Its folder has been reported already.
    if (isMissing(error) || code === "EACCES") return entries;
    throw asStorageError(error, `listing ${path}`);
  }
  return entries;
}

/** Undefined when it is gone. */
async function measured(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw asStorageError(error, `looking at ${dirname(path)}`);
  }
}

function accessProblem(stats: Stats, uid: number): string | undefined {
  if (stats.isSymbolicLink()) return undefined;
  // A file with several names is shared with the registry that it was adopted from, and is that one's.
  const shared = stats.isFile() && stats.nlink > 1;
  if (stats.uid !== uid && !shared) return `it belongs to user ${stats.uid}, the root to user ${uid}`;
  const wanted = stats.isDirectory() ? FOLDER_MODE : FILE_MODE;
  if (stats.uid === uid && (stats.mode & wanted) !== wanted) {
    return `its mode is ${(stats.mode & 0o777).toString(8)}, which keeps its owner out`;
  }
  if (shared && stats.uid !== uid && (stats.mode & 0o044) === 0) {
    return `it belongs to user ${stats.uid}, who lets nobody else read it`;
  }
  return undefined;
}
