/**
 * Looks through everything that the store holds (`weir verify`): content against its digests, links and records against each
 * other. What is damaged is put aside, what can be put right is; foreign files are never touched. Safe beside serving,
 * fills and eviction: what somebody may just be writing is left alone.
 */
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { Pace } from "../base/pace.ts";
import { createHasher, type Digest, digestAlgorithm } from "../oci/digest.ts";
import { type BlobStore, StorageError } from "./blob-store.ts";
import type { StoreEntry, StoreInspector } from "./inspector.ts";
import { BLOBS_PREFIX, LINK_PREFIXES, parseKey } from "./layout.ts";
import type { Repositories } from "./repositories.ts";
import type { SmallObjects } from "./small-objects.ts";
import { LinkChecks } from "./verify-links.ts";

/**
 * - `damaged`: content that does not hash to its digest, or a file that is cut short
 * - `unreadable`: the disk, or the file's rights, do not let it be read
 * - `wrong-link`: a link that does not hold the digest that it should
 * - `dangling-tag`: a tag of a manifest that its repository does not have
 * - `bad-record`: a record that is none, or that the content contradicts
 * - `access`: a file or folder with the wrong owner or mode
 * - `foreign`: a file that nothing of Weir has made
 * - `incomplete`: what a crash leaves behind at worst, and what means nothing: a record that is missing or out of date, a
 *   tag's history without the tag. Nothing is wrong with it.
 */
export type VerifyProblem =
  | "damaged"
  | "unreadable"
  | "wrong-link"
  | "dangling-tag"
  | "bad-record"
  | "access"
  | "foreign"
  | "incomplete";

export interface VerifyFinding {
  readonly event: "finding";
  readonly problem: VerifyProblem;
  readonly key: string;
  /** What is the matter, in words. */
  readonly detail: string;
  readonly action: "quarantined" | "repaired" | "removed" | "left";
}

export interface VerifyProgress {
  readonly event: "progress";
  readonly phase: "counting" | "content" | "links";
  /** Blobs, or links and records, looked at so far. */
  readonly count: number;
  /** Of so many; undefined where that is not known. */
  readonly of: number | undefined;
  /** Bytes hashed so far. */
  readonly bytes: number;
  /** Of so many. */
  readonly ofBytes: number;
  readonly bytesPerS: number;
  /** Milliseconds; undefined where it cannot be told. */
  readonly leftMs: number | undefined;
}

export interface VerifySummary {
  readonly done: true;
  readonly blobs: number;
  /** Bytes hashed. */
  readonly bytes: number;
  /** Links and records. */
  readonly links: number;
  /** Links to blobs that are not held, as after an eviction: they are fetched again when somebody asks. */
  readonly notHeld: number;
  /** Findings by problem. */
  readonly found: Readonly<Partial<Record<VerifyProblem, number>>>;
  /** Nothing but what is `incomplete`. */
  readonly sound: boolean;
  readonly tookMs: number;
}

export type VerifyEvent = VerifyFinding | VerifyProgress | VerifySummary;

export interface VerifyDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  /** What lies there, past any cache. */
  readonly stored: SmallObjects;
  /** The same objects as the repositories write them. */
  readonly objects: SmallObjects;
  readonly inspector: StoreInspector;
  /** A blob was put aside. */
  removed(digest: Digest): void;
  readonly clock: Clock;
}

/** Often enough to be looked at, and to keep a connection from looking dead. */
const PROGRESS_MS = 1000;

/** @param o.bytesPerS bytes hashed a second, at most */
export function verifyStore(
  deps: VerifyDeps,
  o: CallOptions & { readonly bytesPerS: number },
): AsyncIterable<VerifyEvent> {
  return new Verification(deps, o).run();
}

class Verification {
  readonly #deps: VerifyDeps;
  readonly #call: CallOptions;
  readonly #pace: Pace;
  readonly #links: LinkChecks;
  readonly #startedMs: number;
  readonly #found: Partial<Record<VerifyProblem, number>> = {};
  #progressMs: number;
  #hashingMs = 0;
  #phase: VerifyProgress["phase"] = "counting";
  #blobs = 0;
  #ofBlobs = 0;
  #bytes = 0;
  #ofBytes = 0;
  #checked = 0;

  constructor(deps: VerifyDeps, o: CallOptions & { readonly bytesPerS: number }) {
    this.#deps = deps;
    this.#call = o;
    this.#pace = new Pace({ clock: deps.clock, bytesPerS: o.bytesPerS });
    this.#links = new LinkChecks(deps);
    this.#startedMs = deps.clock.now();
    this.#progressMs = this.#startedMs;
  }

  async *run(): AsyncIterable<VerifyEvent> {
    for await (const { size } of this.#deps.blobs.list(this.#call)) {
      this.#ofBlobs += 1;
      this.#ofBytes += size;
      yield* this.#progress();
    }
    this.#phase = "content";
    this.#hashingMs = this.#deps.clock.now();
    for await (const entry of this.#deps.inspector.entries(BLOBS_PREFIX, this.#call)) yield* this.#content(entry);
    this.#phase = "links";
    for (const prefix of LINK_PREFIXES) {
      for await (const entry of this.#deps.inspector.entries(prefix, this.#call)) yield* this.#link(entry);
    }
    const { incomplete: _, ...wrong } = this.#found;
    yield {
      done: true,
      blobs: this.#blobs,
      bytes: this.#bytes,
      links: this.#checked,
      notHeld: this.#links.notHeld,
      found: this.#found,
      sound: Object.keys(wrong).length === 0,
      tookMs: this.#deps.clock.now() - this.#startedMs,
    };
  }

  async *#content(entry: StoreEntry): AsyncIterable<VerifyEvent> {
    yield* this.#access(entry);
    if (entry.kind === "folder") return;
    const parsed = entry.kind === "file" ? parseKey(entry.key) : undefined;
    if (parsed?.kind !== "blob") {
      yield this.#finding("foreign", entry.key, "nothing of Weir is called so", "left");
      return;
    }
    this.#blobs += 1;
    const { digest } = parsed;
    try {
      const held = await this.#deps.blobs.open(digest, this.#call);
      if (held === undefined) {
        // Evicted meanwhile, or empty: only the latter is still there to be put aside.
        if (entry.size === 0) yield* this.#quarantine(entry.key, digest, "the file is empty");
        return;
      }
      let hashed: Digest;
      try {
        const hasher = createHasher(digestAlgorithm(digest));
        for await (const chunk of held.read(0, held.size, this.#call)) {
          hasher.update(chunk);
          this.#bytes += chunk.length;
          await this.#pace.spent(chunk.length, this.#call.signal);
          yield* this.#progress();
        }
        hashed = hasher.digest();
      } finally {
        await held.close();
      }
      if (hashed !== digest && (await this.#isStill(digest, held.version))) {
        yield* this.#quarantine(entry.key, digest, `its ${held.size} bytes hash to ${hashed}`);
      }
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      yield this.#finding("unreadable", entry.key, error.message, "left");
    }
    yield* this.#progress();
  }

  /** False where it was healed, or evicted, while it was being read. */
  async #isStill(digest: Digest, version: string): Promise<boolean> {
    const held = await this.#deps.blobs.open(digest, this.#call);
    await held?.close();
    return held?.version === version;
  }

  async *#quarantine(key: string, digest: Digest, detail: string): AsyncIterable<VerifyEvent> {
    const { inspector, clock, removed } = this.#deps;
    if (await inspector.quarantine(key, clock.now(), this.#call)) {
      removed(digest);
      yield this.#finding("damaged", key, detail, "quarantined");
    }
  }

  async *#link(entry: StoreEntry): AsyncIterable<VerifyEvent> {
    yield* this.#access(entry);
    if (entry.kind === "folder") return;
    this.#checked += 1;
    for (const { problem, key, detail, action } of await this.#links.check(entry, this.#call)) {
      yield this.#finding(problem, key, detail, action);
    }
    yield* this.#progress();
  }

  async *#access({ key, accessProblem }: StoreEntry): AsyncIterable<VerifyEvent> {
    if (accessProblem === undefined) return;
    const repaired = await this.#deps.inspector.repairAccess(key, this.#call);
    yield this.#finding("access", key, accessProblem, repaired ? "repaired" : "left");
  }

  #finding(problem: VerifyProblem, key: string, detail: string, action: VerifyFinding["action"]): VerifyFinding {
    this.#found[problem] = (this.#found[problem] ?? 0) + 1;
    return { event: "finding", problem, key, detail, action };
  }

  *#progress(): Iterable<VerifyProgress> {
    const nowMs = this.#deps.clock.now();
    if (nowMs - this.#progressMs < PROGRESS_MS) return;
    this.#progressMs = nowMs;
    const hashing = this.#phase === "content";
    const tookMs = Math.max(1, nowMs - this.#hashingMs);
    const bytesPerS = hashing ? Math.round((this.#bytes * 1000) / tookMs) : 0;
    yield {
      event: "progress",
      phase: this.#phase,
      count: this.#phase === "links" ? this.#checked : this.#blobs,
      of: hashing ? this.#ofBlobs : undefined,
      bytes: this.#bytes,
      ofBytes: this.#ofBytes,
      bytesPerS,
      leftMs:
        hashing && this.#bytes > 0
          ? Math.max(0, Math.round(((this.#ofBytes - this.#bytes) * tookMs) / this.#bytes))
          : undefined,
    };
  }
}
