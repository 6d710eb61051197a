import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { CallOptions } from "../base/call.ts";
import { FairSemaphore } from "../base/fair-semaphore.ts";
import type { Log } from "../base/log.ts";
import type { Digest } from "../oci/digest.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { Background } from "./background.ts";
import { hashesTo } from "./blob-bodies.ts";
import { MAX_READY_BYTES, type ReadyAnswers } from "./ready.ts";

/** Held blobs known to be whole, so that they are not hashed at each hit: some 30 MB when full. */
const MAX_VERIFIED = 100_000;

/** A held blob as it was when its content was last seen to be whole. */
export interface Verified {
  readonly version: string;
  /** Bytes. */
  readonly size: number;
}

export interface VerifiedBlobsDeps {
  readonly blobs: BlobStore;
  readonly background: Background;
  readonly ready: Pick<ReadyAnswers, "forget">;
  /** Tells the other processes that serve from the same files; undefined where there are none. */
  readonly tellVerified?: ((digest: Digest, verified: Verified) => void) | undefined;
  readonly log: Log;
}

/**
 * What has been seen to be whole of what is held, by this process or another that serves from the same files. What turns out to be
 * damaged is deleted, and so fetched again.
 */
export class VerifiedBlobs {
  readonly #deps: VerifiedBlobsDeps;
  readonly #verified = new LRUCache<Digest, Verified>(atMost(MAX_VERIFIED));
  readonly #verifying = new Set<Digest>();
  /** One blob is read at a time: clients have the disk first. */
  readonly #verifier = new FairSemaphore(1);

  constructor(deps: VerifiedBlobsDeps) {
    this.#deps = deps;
  }

  get(digest: Digest): Verified | undefined {
    return this.#verified.get(digest);
  }

  /** Whether the blob is as it was when it was last seen to be whole. */
  isWhole(digest: Digest, { version }: Pick<Verified, "version">): boolean {
    return this.#verified.get(digest)?.version === version;
  }

  /** Another process has read it. */
  hear(digest: Digest, verified: Verified): void {
    this.#verified.set(digest, verified);
  }

  /** What comes in its place is looked at anew. */
  forget(digest: Digest): void {
    this.#verified.delete(digest);
  }

  /** The content of the blob, as it was opened, was held against its digest. */
  async settle(digest: Digest, { version, size }: Verified, agrees: boolean, o: CallOptions): Promise<void> {
    if (agrees) {
      this.#verified.set(digest, { version, size });
      // A small one is read sooner than told of.
      if (size > MAX_READY_BYTES) {
        this.#deps.tellVerified?.(digest, { version, size });
      }
    } else {
      await this.discard(digest, o);
    }
  }

  async discard(digest: Digest, o: CallOptions): Promise<void> {
    this.#deps.log.error({ digest }, "a held blob is damaged: deleting it, so that it is fetched again");
    this.#verified.delete(digest);
    await this.#deps.blobs.delete(digest, o);
    this.#deps.ready.forget(digest);
  }

  /**
   * For a client that reads parts only, of which none can be verified, or has left before the end: damage is found, and healed, by
   * reading all of it.
   */
  verifyBeside(digest: Digest): void {
    if (this.#verifying.has(digest)) {
      return;
    }
    this.#verifying.add(digest);
    this.#deps.background
      .own(async (signal) => {
        const leave = await this.#verifier.acquire(digest, { signal });
        try {
          await this.#verify(digest, { signal });
        } finally {
          leave();
        }
      })
      .catch((error: unknown) => this.#deps.log.debug({ err: error, digest }, "a held blob could not be verified"))
      .finally(() => this.#verifying.delete(digest));
  }

  async #verify(digest: Digest, o: CallOptions): Promise<void> {
    const held = await this.#deps.blobs.open(digest, o);
    if (held === undefined) {
      return;
    }
    try {
      await this.settle(digest, held, await hashesTo(held, digest, o), o);
    } finally {
      await held.close();
    }
  }
}
