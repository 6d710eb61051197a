import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { waitFor } from "../../base/wait-for.ts";
import type { Digest } from "../../oci/digest.ts";
import type { RepoRef } from "../../oci/reference.ts";
import { StorageError } from "../../storage/blob-store.ts";
import type { BucketRecords, KeptBlob } from "../../storage/bucket-records.ts";
import type { LinkName } from "../../storage/repositories.ts";

/** Uses are written down so long after the first of them... */
const PUBLISH_MS = 60_000;

/** ...and those of marked blobs after so long: many of them cost one request a second. */
const KEEP_MS = 1_000;

/** What was used before is known to whoever lets go, or to nobody. */
const WINDOW_MS = 60 * 60_000;

/** Some 200 bytes each, here and in the bucket. Of more in an hour the last ones are told. */
const MAX_USED = 5_000;

export interface UsesDeps {
  readonly records: BucketRecords;
  /** A name of this process that no other one has. */
  readonly id: string;
  readonly isMarked: (digest: Digest) => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** What this process has used lately, for whoever lets go from the bucket: one small object, replaced as a whole. */
export class Uses {
  readonly #deps: UsesDeps;
  /** What was used last comes last. */
  readonly #used = new Map<Digest, { readonly usedAtMs: number; readonly kept: KeptBlob | undefined }>();
  readonly #stop = new AbortController();
  #published: Promise<void> = Promise.resolve();
  #isDue = false;
  #isDueSoon = false;
  /** Used since it was written down last. */
  readonly #news = new Set<Digest>();

  constructor(deps: UsesDeps) {
    this.#deps = deps;
  }

  touch(digest: Digest): void {
    this.#note(digest, this.#used.get(digest)?.kept);
  }

  kept(digest: Digest, bytes: number): void {
    this.#note(digest, this.#used.get(digest)?.kept ?? { bytes, isManifest: false, upstreams: [] });
  }

  linked({ upstream }: RepoRef, { kind, digest }: LinkName): void {
    const known = this.#used.get(digest);
    if (known?.kept === undefined) return;
    const { bytes, isManifest, upstreams } = known.kept;
    const kept = {
      bytes,
      isManifest: isManifest || kind === "revision",
      upstreams: upstreams.includes(upstream) ? upstreams : [...upstreams, upstream],
    };
    this.#used.set(digest, { ...known, kept });
    this.#news.add(digest);
    this.#schedule(false);
  }

  removed(digest: Digest): void {
    this.#used.delete(digest);
    this.#news.delete(digest);
  }

  /** More is known of what is marked: if it is among what was just used, that cannot wait. */
  hasten(): void {
    for (const digest of this.#news) {
      if (this.#deps.isMarked(digest)) {
        this.#schedule(true);
        return;
      }
    }
  }

  /** Writes down what has not been yet. Repeatable. */
  async stop(o: CallOptions): Promise<void> {
    this.#stop.abort(new Error("Weir is stopping"));
    await waitFor(this.#publish(o), o.signal);
  }

  #note(digest: Digest, kept: KeptBlob | undefined): void {
    this.#used.delete(digest);
    this.#used.set(digest, { usedAtMs: this.#deps.clock.now(), kept });
    this.#news.add(digest);
    if (this.#used.size > MAX_USED) this.#forgetFirst();
    this.#schedule(this.#deps.isMarked(digest));
  }

  #schedule(soon: boolean): void {
    if (this.#isDueSoon || (this.#isDue && !soon) || this.#stop.signal.aborted) return;
    this.#isDue = true;
    this.#isDueSoon = soon;
    void this.#publishAfter(soon ? KEEP_MS : PUBLISH_MS);
  }

  async #publishAfter(ms: number): Promise<void> {
    const { signal } = this.#stop;
    try {
      await this.#deps.clock.sleep(ms, signal);
      await this.#publish({ signal });
    } catch (error) {
      if (!signal.aborted) this.#deps.log.error({ err: error }, "what was used is not told to the other Weirs");
    }
  }

  /** One after the other. */
  #publish(o: CallOptions): Promise<void> {
    const publishing = this.#published.then(() => this.#publishNow(o));
    this.#published = publishing.catch(() => {});
    return publishing;
  }

  async #publishNow(o: CallOptions): Promise<void> {
    const { records, id, clock, log } = this.#deps;
    this.#isDue = false;
    this.#isDueSoon = false;
    if (this.#news.size === 0) return;
    const told = [...this.#news];
    this.#news.clear();
    const writtenAtMs = clock.now();
    for (const [digest, { usedAtMs }] of this.#used) {
      if (writtenAtMs - usedAtMs <= WINDOW_MS) break;
      this.#used.delete(digest);
    }
    const blobs = [...this.#used].map(([digest, use]) => ({ digest, ...use })).reverse();
    try {
      await records.uses.put(id, { writtenAtMs, blobs }, o);
    } catch (error) {
      for (const digest of told) this.#news.add(digest);
      this.#schedule(false);
      if (!(error instanceof StorageError)) throw error;
      log.warn({ err: error }, "what was used could not be told to the other Weirs on the bucket, and is told later");
    }
  }

  #forgetFirst(): void {
    for (const digest of this.#used.keys()) {
      this.removed(digest);
      return;
    }
  }
}
