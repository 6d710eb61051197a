/**
 * The folder of downloads under way, always on a local disk (design, section 5).
 *
 *     <dir>/<owner>/lock          locked while the owner lives
 *     <dir>/<owner>/<name>.part   the bytes received so far
 *     <dir>/<owner>/<name>.json   what they are, and how many of them are known to be on disk
 *
 * Every owner has a folder of its own and every download a file of its own, so two writers of one blob never share one.
 * What an owner that is no more has left behind is taken over by the next that looks.
 */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../base/log.ts";
import { type Digest, isDigest } from "../oci/digest.ts";
import { lockFile } from "./file-lock.ts";

export interface Spool {
  readonly dir: string;
  /** A new, empty file. Rejects with the system's error when there is no room, or no right, to make one. */
  create(): Promise<SpoolFile>;
  /**
   * What this and earlier owners left behind, except the files in use; whatever cannot be resumed is removed. Never
   * rejects: a folder that cannot be read holds nothing to resume.
   */
  leftovers(): Promise<readonly SpoolLeftover[]>;
  /** Lets others take over what is left. Repeatable. */
  close(): Promise<void>;
}

/** What is known of a spool file's content. */
export interface SpoolNote {
  readonly domain: string;
  readonly digest: Digest;
  /** The blob's size in bytes, where an upstream has told it. */
  readonly total: number | undefined;
  /** So many bytes from the start survive a power cut. */
  readonly mark: number;
  /** The repository that the bytes came from. */
  readonly source: string;
  /** Milliseconds since the epoch. */
  readonly writtenAtMs: number;
}

/** An open spool file. Whoever makes it holds it once; it is closed when everybody who held it has released it. */
export interface SpoolFile {
  readonly path: string;
  hold(): void;
  release(): Promise<void>;
  /** Fills `buffer` from `position`; resolves with the number of bytes, less than asked for only at the file's end. */
  read(buffer: Uint8Array, position: number): Promise<number>;
  /** Rejects with the system's error (ENOSPC, ...); how much was written is then unknown. */
  write(parts: readonly Uint8Array[], position: number): Promise<void>;
  /** Puts what was written so far on disk. */
  sync(): Promise<void>;
  truncate(length: number): Promise<void>;
  /** Writes the note, atomically and durably. Its `mark` must have been synced. */
  annotate(note: SpoolNote): Promise<void>;
  /** Cuts the file to the note's `mark`, which must have been synced, and gives up one hold; the rest can be resumed. */
  keep(note: SpoolNote): Promise<SpoolLeftover>;
  /** Removes the names, note included; those who hold the file go on reading it. Repeatable. */
  remove(): Promise<void>;
}

/** A download that ended early. */
export interface SpoolLeftover {
  readonly note: SpoolNote;
  /** Opens the file, cut to the note's mark. Rejects when it is not what the note says. */
  resume(): Promise<SpoolFile>;
  remove(): Promise<void>;
}

const PART = ".part";
const NOTE = ".json";
const LOCK = "lock";

/** A note holds a few short strings; anything longer was not written by us. */
const MAX_NOTE_BYTES = 8192;

export function createSpool(o: { readonly dir: string; readonly log: Log }): Spool {
  return new FolderSpool(o.dir, o.log);
}

class FolderSpool implements Spool {
  readonly dir: string;
  readonly #log: Log;
  readonly #inUse = new Set<string>();
  #home: Promise<Home> | undefined;

  constructor(dir: string, log: Log) {
    this.dir = dir;
    this.#log = log;
  }

  async create(): Promise<SpoolFile> {
    const { folder } = await this.#moveIn();
    const base = join(folder, randomUUID());
    return new OpenSpoolFile(base, await open(base + PART, "wx+"), { inUse: this.#inUse, noted: false });
  }

  async leftovers(): Promise<readonly SpoolLeftover[]> {
    try {
      const { folder } = await this.#moveIn();
      await this.#takeOver(folder);
      return await this.#look(folder);
    } catch (error) {
      this.#log.warn({ err: error, dir: this.dir }, "the spool folder could not be read: nothing will be resumed");
      return [];
    }
  }

  async close(): Promise<void> {
    const home = await this.#home?.catch(() => undefined);
    this.#home = undefined;
    if (home === undefined) return;
    home.unlock();
    const names = await readdir(home.folder);
    if (names.every((name) => name === LOCK)) await removeFolder(home.folder);
  }

  /** Makes the own folder when it is first needed: a disk that is full now may have room later. */
  #moveIn(): Promise<Home> {
    const home = this.#home ?? makeHome(this.dir);
    this.#home = home;
    home.catch(() => {
      if (this.#home === home) this.#home = undefined;
    });
    return home;
  }

  /** Moves what the dead have left into `folder`. */
  async #takeOver(folder: string): Promise<void> {
    for (const entry of await readdir(this.dir, { withFileTypes: true })) {
      const theirs = join(this.dir, entry.name);
      if (!entry.isDirectory() || theirs === folder) continue;
      const unlock = lockFolder(theirs);
      if (unlock === undefined) continue;
      try {
        for (const name of await namesIn(theirs)) {
          if (name.endsWith(PART) || name.endsWith(NOTE)) await rename(join(theirs, name), join(folder, name));
        }
        await removeFolder(theirs);
      } finally {
        unlock();
      }
    }
  }

  async #look(folder: string): Promise<SpoolLeftover[]> {
    const found: SpoolLeftover[] = [];
    for (const name of await readdir(folder)) {
      const base = join(folder, name.slice(0, name.indexOf(".")));
      if (name === LOCK || this.#inUse.has(base)) continue;
      const path = join(folder, name);
      const note = (await exists(base + PART)) ? await readNote(base + NOTE) : undefined;
      if (note === undefined || (path !== base + PART && path !== base + NOTE)) await removeAny(path);
      else if (path === base + PART) found.push(new Leftover(base, note, this.#inUse));
    }
    return found;
  }
}

interface Home {
  readonly folder: string;
  readonly unlock: () => void;
}

async function makeHome(dir: string): Promise<Home> {
  const folder = join(dir, randomUUID());
  await mkdir(folder, { recursive: true });
  const unlock = lockFolder(folder);
  // Another owner's look may come between the two calls: it takes the folder away, as if its owner were dead.
  if (unlock === undefined) return makeHome(dir);
  if ((await namesIn(folder)).length === 0) {
    unlock();
    return makeHome(dir);
  }
  return { folder, unlock };
}

/** Undefined where somebody else has it, and where it is gone: closed by its owner, or taken over. */
function lockFolder(folder: string): (() => void) | undefined {
  try {
    return lockFile(join(folder, LOCK));
  } catch (error) {
    if (existsSync(folder)) throw error;
    return undefined;
  }
}

/** Another owner may look into it at the same moment, and leaves a lock of its own behind: then that one removes it. */
async function removeFolder(folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true });
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOTEMPTY")) throw error;
  }
}

/** None where the folder is gone. */
async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (existsSync(folder)) throw error;
    return [];
  }
}

class OpenSpoolFile implements SpoolFile {
  readonly path: string;
  readonly #base: string;
  readonly #handle: FileHandle;
  readonly #inUse: Set<string>;
  #noted: boolean;
  #holders = 1;

  constructor(base: string, handle: FileHandle, o: { readonly inUse: Set<string>; readonly noted: boolean }) {
    const { inUse, noted } = o;
    this.path = base + PART;
    this.#noted = noted;
    this.#base = base;
    this.#handle = handle;
    this.#inUse = inUse;
    inUse.add(base);
  }

  hold(): void {
    this.#holders += 1;
  }

  async release(): Promise<void> {
    this.#holders -= 1;
    if (this.#holders > 0) return;
    this.#inUse.delete(this.#base);
    await this.#handle.close();
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    let filled = 0;
    while (filled < buffer.length) {
      const { bytesRead } = await this.#handle.read(buffer, filled, buffer.length - filled, position + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return filled;
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    let left = parts;
    let at = position;
    while (left.length > 0) {
      const { bytesWritten } = await this.#handle.writev(left, at);
      at += bytesWritten;
      left = without(left, bytesWritten);
    }
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  truncate(length: number): Promise<void> {
    return this.#handle.truncate(length);
  }

  annotate(note: SpoolNote): Promise<void> {
    this.#noted = true;
    return writeNote(this.#base + NOTE, note);
  }

  async keep(note: SpoolNote): Promise<SpoolLeftover> {
    await this.annotate(note);
    await this.#handle.truncate(note.mark);
    await this.release();
    return new Leftover(this.#base, note, this.#inUse);
  }

  async remove(): Promise<void> {
    await removeAny(this.path);
    if (this.#noted) await removeAny(this.#base + NOTE);
  }
}

class Leftover implements SpoolLeftover {
  readonly note: SpoolNote;
  readonly #base: string;
  readonly #inUse: Set<string>;

  constructor(base: string, note: SpoolNote, inUse: Set<string>) {
    this.note = note;
    this.#base = base;
    this.#inUse = inUse;
  }

  async resume(): Promise<SpoolFile> {
    const handle = await open(this.#base + PART, "r+");
    try {
      const { size } = await handle.stat();
      if (size < this.note.mark) throw new Error(`the file has ${size} bytes, fewer than the ${this.note.mark} noted`);
      await handle.truncate(this.note.mark);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return new OpenSpoolFile(this.#base, handle, { inUse: this.#inUse, noted: true });
  }

  async remove(): Promise<void> {
    await removeAny(this.#base + PART);
    await removeAny(this.#base + NOTE);
  }
}

/** What is left of `parts` after their first `bytes` bytes. */
function without(parts: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skip = bytes;
  for (const [index, part] of parts.entries()) {
    if (skip < part.length) return [part.subarray(skip), ...parts.slice(index + 1)];
    skip -= part.length;
  }
  return [];
}

async function writeNote(path: string, note: SpoolNote): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w");
  try {
    await file.writeFile(JSON.stringify(note));
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

/** Undefined when there is no note, or none that we would have written. */
async function readNote(path: string): Promise<SpoolNote | undefined> {
  try {
    if ((await stat(path)).size > MAX_NOTE_BYTES) return undefined;
    return toNote(JSON.parse(await readFile(path, "utf8")));
  } catch {
    return undefined;
  }
}

function toNote(value: unknown): SpoolNote | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { domain, digest, total, mark, source, writtenAtMs } = value as Record<string, unknown>;
  if (typeof domain !== "string" || typeof digest !== "string" || !isDigest(digest)) return undefined;
  if (typeof source !== "string" || !isCount(mark) || !isCount(writtenAtMs)) return undefined;
  if (total !== undefined && (!isCount(total) || mark > total)) return undefined;
  return { domain, digest, total, mark, source, writtenAtMs };
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** What cannot be removed now is looked at again by the next owner. */
async function removeAny(path: string): Promise<void> {
  await unlink(path).catch(() => undefined);
}
