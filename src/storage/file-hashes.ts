import { Worker } from "node:worker_threads";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { NO_MORE } from "../base/no-more.ts";
import type { Digest, DigestAlgorithm } from "../oci/digest.ts";
import type { HashAnswer, HashOrder } from "./hash-thread.ts";
import { knownOf, progressOf } from "./hash-thread-memory.ts";

/** It makes nothing but messages. */
const OLD_MIB = 16;
const YOUNG_MIB = 4;

/** A thread takes a few MiB, and starting one takes a few hundredths of a second. */
const IDLE_MS = 15_000;

/** Many times what a disk takes for the few hundred KiB that are read at once; the one who waits does it without then. */
const STUCK_MS = 10_000;

/** A thread that is held up by its disk does not hold up the process's end. */
const END_MS = 1_000;

/** Hashes files while they grow, in a thread of its own, so that whoever writes them need not. */
export interface FileHashes {
  /** Begins at the file's first byte. Undefined where there is no thread to be had. */
  begin(path: string, algorithm: DigestAlgorithm): FileHash | undefined;
  /** Ends the thread. Repeatable. */
  close(): Promise<void>;
}

/** The hash of one file. Whoever began it ends it. */
export interface FileHash {
  /** The first `to` bytes are in the file, and stay as they are. */
  advance(to: number): void;
  /**
   * Of the first `to` bytes, no fewer than it was told of. Rejects when they cannot be read, when the hash is ended, and when the
   * thread fails or stands still.
   */
  digest(to: number): Promise<Digest>;
  /** Lets go of the file. Repeatable. */
  end(): void;
}

export interface FileHashesDeps {
  readonly clock: Clock;
  readonly log: Log;
}

/** Starts its thread when it is needed, and ends it when it has not been for a while. */
export function createFileHashes(deps: FileHashesDeps): FileHashes {
  return new ThreadHashes(deps);
}

class ThreadHashes implements FileHashes {
  readonly #deps: FileHashesDeps;
  #thread: HashThread | undefined;
  #idle: AbortController | undefined;
  /** No thread is started any more: one has failed, or the process stops. */
  #over = false;

  constructor(deps: FileHashesDeps) {
    this.#deps = deps;
  }

  begin(path: string, algorithm: DigestAlgorithm): FileHash | undefined {
    if (this.#over) return undefined;
    this.#idle?.abort(NO_MORE);
    this.#idle = undefined;
    try {
      this.#thread ??= this.#start();
    } catch (error) {
      this.#failed(error);
      return undefined;
    }
    return this.#thread.begin(path, algorithm);
  }

  async close(): Promise<void> {
    this.#over = true;
    this.#idle?.abort(NO_MORE);
    await this.#thread?.end(new Error("Weir is stopping"));
  }

  #start(): HashThread {
    const { clock } = this.#deps;
    const thread: HashThread = new HashThread({
      clock,
      onIdle: () => this.#endSoon(thread),
      onFailed: (error) => this.#failed(error),
    });
    return thread;
  }

  #endSoon(thread: HashThread): void {
    const idle = new AbortController();
    this.#idle = idle;
    this.#deps.clock.sleep(IDLE_MS, idle.signal).then(
      () => {
        this.#thread = undefined;
        void thread.end(NO_MORE);
      },
      () => {},
    );
  }

  #failed(err: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#deps.log.error(
      { err },
      "the thread that hashes large blobs has failed: until Weir starts anew it is done without",
    );
    void this.#thread?.end(err);
  }
}

interface HashThreadOptions {
  readonly clock: Clock;
  /** Every hash that was begun has been ended. */
  readonly onIdle: () => void;
  readonly onFailed: (error: unknown) => void;
}

/** One thread, from its start to its end. */
class HashThread {
  readonly #o: HashThreadOptions;
  readonly #worker: Worker;
  readonly #progress = progressOf();
  readonly #asked = new Map<number, PromiseWithResolvers<Digest>>();
  #watching: AbortController | undefined;
  #ids = 0;
  /** How many hashes are begun and not ended. */
  #open = 0;
  #over: { readonly error: unknown } | undefined;

  /** Throws when no thread can be started. */
  constructor(o: HashThreadOptions) {
    this.#o = o;
    const own = import.meta.url;
    this.#worker = new Worker(new URL(own.endsWith(".ts") ? "./hash-thread.ts" : "./hash-thread.js", own), {
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: OLD_MIB, maxYoungGenerationSizeMb: YOUNG_MIB },
      workerData: this.#progress.shared,
    });
    // What waits for a hash has something else that keeps the process.
    this.#worker.unref();
    this.#worker.on("message", ({ id, digest, error }: HashAnswer) => {
      this.#settle(id, (asked) => {
        if (digest === undefined) asked.reject(new Error(error));
        else asked.resolve(digest);
      });
    });
    this.#worker.on("error", (error) => this.#fail(error));
    this.#worker.on("exit", (code) => this.#fail(new Error(`the thread has ended by itself, with exit code ${code}`)));
  }

  begin(path: string, algorithm: DigestAlgorithm): FileHash {
    this.#ids += 1;
    this.#open += 1;
    const id = this.#ids;
    const known = knownOf();
    this.#tell({ do: "begin", id, path, algorithm, known: known.shared });
    let ended = false;
    return {
      advance: (to) => {
        if (!ended && known.advance(to)) this.#tell({ do: "advance", id });
      },
      digest: (to) => {
        const asked = Promise.withResolvers<Digest>();
        if (this.#over !== undefined || ended) {
          asked.reject(new Error("nothing hashes the file any more", { cause: this.#over?.error }));
        } else {
          this.#asked.set(id, asked);
          this.#tell({ do: "tell", id, to });
          this.#watch();
        }
        return asked.promise;
      },
      end: () => {
        if (ended) return;
        ended = true;
        this.#tell({ do: "end", id });
        this.#settle(id, (asked) => asked.reject(new Error("nobody wants the hash any more")));
        this.#open -= 1;
        if (this.#open === 0 && this.#over === undefined) this.#o.onIdle();
      },
    };
  }

  /** Rejects what is asked. Resolves when the thread is no more, or does not end. */
  async end(error: unknown): Promise<void> {
    this.#over ??= { error };
    for (const id of [...this.#asked.keys()]) this.#settle(id, (asked) => asked.reject(error));
    const ended = new AbortController();
    const late = this.#o.clock.sleep(END_MS, ended.signal).catch(() => {});
    await Promise.race([this.#worker.terminate(), late]);
    ended.abort(NO_MORE);
  }

  #tell(order: HashOrder): void {
    if (this.#over === undefined) this.#worker.postMessage(order);
  }

  #settle(id: number, how: (asked: PromiseWithResolvers<Digest>) => void): void {
    const asked = this.#asked.get(id);
    if (asked === undefined) return;
    this.#asked.delete(id);
    how(asked);
    if (this.#asked.size > 0) return;
    this.#watching?.abort(NO_MORE);
    this.#watching = undefined;
  }

  /** Sees to it that nobody waits for a thread that stands still. */
  #watch(): void {
    if (this.#watching !== undefined) return;
    const watching = new AbortController();
    this.#watching = watching;
    const look = (before: number): void => {
      this.#o.clock.sleep(STUCK_MS, watching.signal).then(
        () => {
          const now = this.#progress.get();
          if (now === before) this.#fail(new Error(`the thread has hashed nothing for ${STUCK_MS} ms`));
          else look(now);
        },
        () => {},
      );
    };
    look(this.#progress.get());
  }

  #fail(error: unknown): void {
    if (this.#over !== undefined) return;
    this.#o.onFailed(error);
  }
}
