import { Worker } from "node:worker_threads";
import type { Log } from "../base/log.ts";
import type { Digest, DigestAlgorithm } from "../oci/digest.ts";
import type { HashAnswer, HashOrder } from "./hash-thread.ts";

/** It makes nothing but messages. */
const OLD_MIB = 16;
const YOUNG_MIB = 4;

const NO_THREAD = "the thread that hashes large blobs has failed: it is done without, more slowly";

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
  /** Of the first `to` bytes, no fewer than it was told of. Rejects when they cannot be read, and when the hash is ended. */
  digest(to: number): Promise<Digest>;
  /** Lets go of the file. Repeatable. */
  end(): void;
}

/** Starts its thread when it is first needed. */
export function createFileHashes(deps: { readonly log: Log }): FileHashes {
  return new ThreadHashes(deps.log);
}

class ThreadHashes implements FileHashes {
  readonly #log: Log;
  readonly #asked = new Map<number, PromiseWithResolvers<Digest>>();
  #thread: Worker | undefined;
  #ids = 0;
  /** It has ended, by itself or told to. */
  #over = false;

  constructor(log: Log) {
    this.#log = log;
  }

  begin(path: string, algorithm: DigestAlgorithm): FileHash | undefined {
    if (this.#over) return undefined;
    try {
      this.#thread ??= this.#start();
    } catch (err) {
      this.#over = true;
      this.#log.error({ err }, NO_THREAD);
      return undefined;
    }
    this.#ids += 1;
    const id = this.#ids;
    this.#tell({ do: "begin", id, path, algorithm });
    let ended = false;
    return {
      advance: (to) => {
        if (!ended) this.#tell({ do: "advance", id, to });
      },
      digest: (to) => {
        const asked = Promise.withResolvers<Digest>();
        if (this.#over || ended) {
          asked.reject(new Error("nothing hashes the file any more"));
        } else {
          this.#asked.set(id, asked);
          this.#tell({ do: "tell", id, to });
        }
        return asked.promise;
      },
      end: () => {
        if (ended) return;
        ended = true;
        this.#tell({ do: "end", id });
        this.#settle(id, (asked) => asked.reject(new Error("nobody wants the hash any more")));
      },
    };
  }

  async close(): Promise<void> {
    this.#end("Weir is stopping");
    await this.#thread?.terminate();
  }

  #start(): Worker {
    const own = import.meta.url;
    const thread = new Worker(new URL(own.endsWith(".ts") ? "./hash-thread.ts" : "./hash-thread.js", own), {
      resourceLimits: { maxOldGenerationSizeMb: OLD_MIB, maxYoungGenerationSizeMb: YOUNG_MIB },
    });
    // What waits for a hash has something else that keeps the process.
    thread.unref();
    thread.on("message", ({ id, digest, error }: HashAnswer) => {
      this.#settle(id, (asked) => {
        if (digest === undefined) asked.reject(new Error(error));
        else asked.resolve(digest);
      });
    });
    thread.on("error", (err) => this.#log.error({ err }, NO_THREAD));
    thread.on("exit", () => this.#end("the thread that hashes has ended"));
    return thread;
  }

  #tell(order: HashOrder): void {
    if (!this.#over) this.#thread?.postMessage(order);
  }

  #settle(id: number, how: (asked: PromiseWithResolvers<Digest>) => void): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (asked !== undefined) how(asked);
  }

  #end(why: string): void {
    this.#over = true;
    for (const id of [...this.#asked.keys()]) this.#settle(id, (asked) => asked.reject(new Error(why)));
  }
}
