import type { Clock } from "../base/clock.ts";
import { fileStamp, fileStampSync } from "../base/file-stamp.ts";
import type { Log } from "../base/log.ts";
import { type HtpasswdEntry, MAX_HTPASSWD_BYTES, parseHtpasswd } from "./htpasswd-entries.ts";
import { AccessFileError, readUsing } from "./read-file.ts";

/** How often the file is looked at while people sign in. */
const LOOK_MS = 1_000;

const KEY = "access.htpasswd.file";

export interface HtpasswdDeps {
  readonly clock: Clock;
  readonly log: Log;
}

/** Who is in an htpasswd file, read again when it changes. A file that cannot be used leaves the one before in force. */
export class Htpasswd {
  readonly #path: string;
  readonly #deps: HtpasswdDeps;
  #entries: ReadonlyMap<string, HtpasswdEntry>;
  /** What the file was when it was read last. */
  #stamp: string;
  #lookedAtMs: number;

  /** @throws AccessFileError that names the line where it can */
  constructor(path: string, deps: HtpasswdDeps) {
    this.#path = path;
    this.#deps = deps;
    this.#stamp = fileStampSync(path);
    this.#entries = readHtpasswd(path);
    this.#lookedAtMs = deps.clock.now();
  }

  /** As the file has been within the last second. */
  async entries(): Promise<ReadonlyMap<string, HtpasswdEntry>> {
    const now = this.#deps.clock.now();
    if (now - this.#lookedAtMs >= LOOK_MS) {
      this.#lookedAtMs = now;
      const stamp = await fileStamp(this.#path);
      if (stamp !== this.#stamp) this.#read(stamp);
    }
    return this.#entries;
  }

  #read(stamp: string): void {
    const { log } = this.#deps;
    try {
      const entries = readHtpasswd(this.#path);
      if (fileStampSync(this.#path) !== stamp) {
        // It is being written: the next look finds it whole.
        return;
      }
      this.#entries = entries;
      log.info({ file: this.#path, entries: entries.size }, "the htpasswd file was read again");
    } catch (err) {
      if (!(err instanceof AccessFileError)) throw err;
      log.error({ err, file: this.#path }, "the changed htpasswd file cannot be used; who was in it before still is");
    }
    this.#stamp = stamp;
  }
}

/** @throws AccessFileError that names the line where it can */
function readHtpasswd(path: string): ReadonlyMap<string, HtpasswdEntry> {
  return readUsing(KEY, path, parseHtpasswd, MAX_HTPASSWD_BYTES);
}
