import { type BigIntStats, readSync } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import type { Clock } from "../../base/clock.ts";
import { isMissing } from "./errno.ts";
import { ReadPace } from "./read-pace.ts";

/** Of files that nobody uses just now; those that are used are bounded by their users. */
const MAX_IDLE = 256;

/**
 * How often those files are closed that have been idle since the last time. Hot ones are used much more often than this; and
 * what another process has deleted gives its room back so soon.
 */
const SWEEP_MS = 1_000;

export interface KeptFilesDeps {
  readonly clock: Clock;
  /** The files may be on another machine, which may hang: no thread that others need is to wait for them. */
  readonly remote?: boolean | undefined;
  /** Nobody will read the file any more. */
  closing(file: KeptFile): void;
}

/**
 * Files that stay open for a moment after their last user has left, and are shared by those who use them at once. Whether the
 * path still leads to the file, unchanged, is asked each time: a file that was deleted, replaced or altered, by whomever, is
 * not given out again.
 */
export class KeptFiles {
  readonly #deps: KeptFilesDeps;
  readonly #kept = new Map<string, KeptFile>();
  /** Those of them that nobody uses, the longest idle first; with whether they were idle already when last looked at. */
  readonly #idle = new Map<KeptFile, boolean>();
  readonly #closing = new Set<Promise<void>>();
  readonly #stopped = new AbortController();
  #sweeping = false;

  constructor(deps: KeptFilesDeps) {
    this.#deps = deps;
  }

  /** Undefined where there is no file, or it is not `usable`. The caller releases what it gets. */
  async open(path: string, usable: (stats: BigIntStats) => boolean): Promise<KeptFile | undefined> {
    const kept = this.#kept.get(path);
    try {
      if (kept === undefined) return await this.#open(path, usable);
      const version = versionOf(await stat(path, { bigint: true }));
      // It may have been dropped meanwhile.
      if (version !== kept.version || this.#kept.get(path) !== kept) return await this.#open(path, usable);
      return this.#use(kept);
    } catch (error) {
      if (!isMissing(error)) throw error;
      await this.drop(path);
      return undefined;
    }
  }

  /** The file at the path is gone: who uses it goes on, and nobody else gets it. When it resolves an idle one is closed. */
  async drop(path: string): Promise<void> {
    const file = this.#kept.get(path);
    if (file === undefined) return;
    this.#kept.delete(path);
    if (this.#idle.delete(file)) await this.#close(file);
  }

  /** Files that are used are closed when their users release them. */
  async close(): Promise<void> {
    this.#stopped.abort();
    await Promise.all([...this.#kept.keys()].map((path) => this.drop(path)));
    await Promise.all(this.#closing);
  }

  async #open(path: string, usable: (stats: BigIntStats) => boolean): Promise<KeptFile | undefined> {
    const handle = await open(path, "r");
    let file: KeptFile | undefined;
    try {
      const stats = await handle.stat({ bigint: true });
      if (usable(stats))
        file = this.#keep(new KeptFile(path, handle, stats, this.#deps, (left) => this.#released(left)));
      return file;
    } finally {
      // Another one who opened it at the same time may have been faster.
      if (file?.handle !== handle) await handle.close();
    }
  }

  /** The file to be used, which is another one where that is kept already. */
  #keep(file: KeptFile): KeptFile {
    const other = this.#kept.get(file.path);
    if (other?.version === file.version) return this.#use(other);
    if (!this.#stopped.signal.aborted) {
      void this.drop(file.path);
      this.#kept.set(file.path, file);
    }
    return this.#use(file);
  }

  #use(file: KeptFile): KeptFile {
    file.users += 1;
    this.#idle.delete(file);
    return file;
  }

  async #released(file: KeptFile): Promise<void> {
    file.users -= 1;
    if (file.users > 0) return;
    if (this.#kept.get(file.path) !== file) return await this.#close(file);
    this.#idle.set(file, false);
    void this.#sweep();
    const [longest] = this.#idle.keys();
    if (this.#idle.size > MAX_IDLE && longest !== undefined) await this.drop(longest.path);
  }

  #close(file: KeptFile): Promise<void> {
    this.#deps.closing(file);
    // Of a file that was only read there is nothing left to fail.
    const closing = file.handle.close().catch(() => undefined);
    this.#closing.add(closing);
    return closing.finally(() => this.#closing.delete(closing));
  }

  async #sweep(): Promise<void> {
    if (this.#sweeping) return;
    this.#sweeping = true;
    const { signal } = this.#stopped;
    while (this.#idle.size > 0 && !signal.aborted) {
      await this.#deps.clock.sleep(SWEEP_MS, signal).catch(() => undefined);
      for (const [file, wasIdle] of this.#idle) {
        if (wasIdle) void this.drop(file.path);
        else this.#idle.set(file, true);
      }
    }
    this.#sweeping = false;
  }
}

/** An open file, as it was when it was opened. */
export class KeptFile {
  readonly path: string;
  readonly handle: FileHandle;
  /** Bytes. */
  readonly size: number;
  /** Another one for another file, and after every change of this one. */
  readonly version: string;
  /** Of whom each releases it once. */
  users = 0;
  readonly #clock: Clock;
  readonly #pace: ReadPace | undefined;
  readonly #released: (file: KeptFile) => Promise<void>;

  constructor(
    path: string,
    handle: FileHandle,
    stats: BigIntStats,
    { clock, remote }: Pick<KeptFilesDeps, "clock" | "remote">,
    released: (file: KeptFile) => Promise<void>,
  ) {
    this.path = path;
    this.handle = handle;
    this.size = Number(stats.size);
    this.version = versionOf(stats);
    this.#clock = clock;
    this.#pace = remote === true ? undefined : new ReadPace();
    this.#released = released;
  }

  /**
   * Fills a buffer from `position` on; gives the bytes read, fewer only at the end of the file.
   *
   * @param ahead what has been read before is still on its way: another thread reads, whether it is at hand or not
   */
  async read(buffer: Buffer, length: number, position: number, ahead = false): Promise<number> {
    let filled = 0;
    while (filled < length) {
      const bytesRead = await this.#read(buffer, filled, length - filled, position + filled, ahead);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return filled;
  }

  /** Whether what is read next is there at once, so that one need not wait for it. */
  get isAtHand(): boolean {
    return this.#pace?.isAtHand === true;
  }

  async #read(buffer: Buffer, offset: number, length: number, position: number, ahead: boolean): Promise<number> {
    const inPlace = this.isAtHand && !ahead;
    // The others' turn: a client that takes all at once would otherwise have this thread to itself.
    if (inPlace) await setImmediate();
    const startedMs = this.#clock.now();
    const bytesRead = inPlace
      ? readSync(this.handle.fd, buffer, offset, length, position)
      : (await this.handle.read(buffer, offset, length, position)).bytesRead;
    this.#pace?.took(this.#clock.now() - startedMs, bytesRead, inPlace);
    return bytesRead;
  }

  /** Once by each user. */
  release(): Promise<void> {
    return this.#released(this);
  }
}

/** The time of the last change of the file or of what is known about it: unlike `mtime`, it cannot be set back. */
function versionOf({ dev, ino, size, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, ctimeNs].join(" ");
}
