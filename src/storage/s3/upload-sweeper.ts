import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { BlobStore } from "../blob-store.ts";

/** No upload of a layer takes so long: it was left by a process that is no more. Another Weir's may be under way. */
export const UPLOAD_GRACE_MS = 24 * 60 * 60 * 1000;

/** Parts that were uploaded for nothing cost rent by the hour, and listing them a request. */
export const SWEEP_EVERY_MS = 60 * 60 * 1000;

/** Clears away uploads that nobody will finish, at the start and from time to time. The bucket's rules may do it too. */
export class UploadSweeper {
  readonly #blobs: BlobStore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(blobs: BlobStore, { clock, log }: { readonly clock: Clock; readonly log: Log }) {
    this.#blobs = blobs;
    this.#clock = clock;
    this.#log = log;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error("the store is closed"));
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#sweep(signal);
      } catch (error) {
        if (!signal.aborted) this.#log.warn({ err: error }, "unfinished uploads could not be looked through");
      }
      await this.#clock.sleep(SWEEP_EVERY_MS, signal).catch(() => undefined);
    }
  }

  async #sweep(signal: AbortSignal): Promise<void> {
    for await (const upload of this.#blobs.leftOvers({ signal })) {
      if (this.#clock.now() - upload.changedAtMs < UPLOAD_GRACE_MS) continue;
      await upload.remove({ signal });
      this.#log.info({ key: upload.key }, "an upload that nobody has finished was cleared away");
    }
  }
}
