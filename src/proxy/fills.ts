import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { ByteStream } from "../base/byte-stream.ts";
import type { CallOptions, OnBehalf } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { TracePlace } from "../base/trail.ts";
import { waitFor } from "../base/wait-for.ts";
import type { DownloadConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { FileHashes } from "../storage/file-hashes.ts";
import type { Spool, SpoolLeftover } from "../storage/spool.ts";
import { RunningFill } from "./fill.ts";
import { FillStoppedError } from "./fill-errors.ts";
import { FillMemory } from "./fill-memory.ts";
import type { FillSource } from "./fill-source.ts";
import { FILL_TUNING, type FillTuning } from "./fill-tuning.ts";
import type { FillTurns } from "./fill-turn.ts";
import type { Room } from "./room.ts";

/**
 * How a fill ended.
 * - `committed`: verified and held by the store
 * - `streamed`: every reader could be served, but nothing was kept (no room, or the store failed)
 * - `failed`: given up, or the bytes were wrong; readers that had not finished were cut off
 */
export type FillOutcome = "committed" | "streamed" | "failed";

/** One download of one blob, shared by everybody who wants it (design, section 2 "Blobs"). */
export interface Fill {
  readonly digest: Digest;
  readonly domain: string;
  /** Bytes; undefined until an upstream has told it, which it may never do. */
  readonly size: number | undefined;
  /** Bytes readable now, counted from the start. */
  readonly position: number;
  /** When it began; milliseconds since the epoch. */
  readonly startedAtMs: number;
  /** How many are following it now. */
  readonly readers: number;
  /** The repository that it is, or would be, asked of; undefined when none is left. */
  readonly source: Pick<FillSource, "key" | "upstream"> | undefined;
  /**
   * Resolves when an answer may go out: the size is known, or the upstream has said that it does not tell; for blobs up to
   * 256 KiB, when the content is verified. Rejects with the reason when the fill failed first, or the signal's when aborted.
   * Who waits on behalf of one repository names its source's key: a plain "no" of that repository's upstream is theirs alone,
   * while the fill goes on for the others.
   */
  ready(o: CallOptions & { readonly source?: string }): Promise<void>;
  /**
   * Bytes `start` to `end` (exclusive; undefined = the blob's end), following the download. The last bytes of the blob are
   * held back until its digest is verified. Throws when the fill fails: what was handed out until then is not the blob.
   * The caller iterates it to the end or leaves the loop; a stream that is never iterated holds nothing.
   */
  read(start: number, end: number | undefined, o: CallOptions & { readonly client?: string }): ByteStream;
  /** Another repository's way to the same bytes; used when the current source fails. A known key replaces the old source. */
  addSource(source: FillSource): void;
  /** Whether the download should have passed `offset` within so many milliseconds, by the rate measured so far. */
  willReach(offset: number, withinMs: number): boolean;
  /** Whether a reader of that client is reading the blob from byte 0. */
  readsFromStart(client: string): boolean;
  /** Resolves when the fill is over; never rejects. */
  readonly outcome: Promise<FillOutcome>;
  /** Where in a trace it is told of, if it is. */
  readonly place?: TracePlace | undefined;
}

/** The fills of this process, one for each (domain, digest). */
export interface Fills {
  get(domain: string, digest: Digest): Fill | undefined;
  /**
   * Another number whenever a fill of the blob has ended: who has not found the blob in the storage, and there is no fill of it now,
   * looks again if the number is another one than before. The least recent ends are forgotten.
   */
  ended(domain: string, digest: Digest): number;
  /** Those that are running, in the order in which they began. */
  all(): Iterable<Fill>;
  /** The running fill of the blob, with `source` added to it, or a new one. */
  join(
    domain: string,
    digest: Digest,
    source: FillSource,
    o: JoinOptions,
  ): { readonly fill: Fill; readonly started: boolean };
  /** Looks through the spool folder: drops what cannot be resumed, remembers what can. Call once, before the first join. */
  open(): Promise<void>;
  /** Ends every fill; spools that can be resumed are kept. Resolves when nothing of them is left running. */
  stop(o: CallOptions): Promise<void>;
  /** How many fills are running. */
  readonly size: number;
  /** Bytes in the spool that belong to no running fill: what is left to be resumed. */
  readonly leftoverBytes: number;
}

export interface JoinOptions {
  /** The blob's size by a descriptor that lists it, bytes. */
  readonly expectedSize?: number;
  /** Of whoever may begin the fill. */
  readonly behalf?: OnBehalf;
}

/** A finished, kept fill: what was received, and from whom. */
export interface CommittedFill {
  readonly domain: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** Every source that was waiting for the blob, whether or not it delivered bytes. */
  readonly sources: readonly FillSource[];
}

/** What the fills report; telemetry/ implements it. */
export interface FillObserver {
  fillStarted(): void;
  fillEnded(outcome: FillOutcome): void;
  /** A body broke off or stalled and the download goes on at the same place. */
  resumed(upstream: string): void;
  /** An upstream delivered a blob that does not hash to its digest. */
  mismatch(upstream: string): void;
  /** How many readers are following fills now. */
  readers(count: number): void;
}

export interface FillsDeps {
  readonly store: BlobStore;
  readonly spool: Spool;
  /** What hashes large blobs; each fill does it by itself where it is left out. */
  readonly hashes?: Pick<FileHashes, "begin"> | undefined;
  readonly room: Pick<Room, "reserve" | "emergency">;
  readonly clock: Clock;
  /** As `Math.random`; spreads the waiting times. */
  readonly random: () => number;
  readonly log: Log;
  readonly download: DownloadConfig;
  /** Which process downloads a blob for all of them. */
  readonly turns: FillTurns;
  readonly observer: FillObserver;
  /** Called once for each kept blob, before its fill leaves the registry, so that links exist when the next pull looks for them. */
  readonly committed: (fill: CommittedFill) => Promise<void>;
}

/** Blobs of which it is known that a fill has ended: far more than end while a request looks in the storage. */
const MAX_ENDED = 1_000;

/** What is left of a download longer ago than this is not resumed. */
const LEFTOVER_LIFETIME_MS = 24 * 60 * 60 * 1000;

export function createFills(deps: FillsDeps, tuning: FillTuning = FILL_TUNING): Fills {
  return new FillRegistry(deps, tuning);
}

class FillRegistry implements Fills {
  readonly #deps: FillsDeps;
  readonly #tuning: FillTuning;
  readonly #memory: FillMemory;
  readonly #fills = new Map<string, RunningFill>();
  readonly #ended = new LRUCache<string, number>(atMost(MAX_ENDED));
  #ends = 0;
  readonly #leftovers = new Map<string, Promise<SpoolLeftover | undefined>>();
  readonly #leftoverBytes = new Map<string, number>();
  /** Everything that must end before {@link stop} is done. */
  readonly #running = new Set<Promise<unknown>>();
  #stopped = false;

  constructor(deps: FillsDeps, tuning: FillTuning) {
    this.#deps = deps;
    this.#tuning = tuning;
    this.#memory = new FillMemory(tuning.blockBytes, (count) => deps.observer.readers(count));
  }

  get size(): number {
    return this.#fills.size;
  }

  get leftoverBytes(): number {
    return [...this.#leftoverBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  get(domain: string, digest: Digest): Fill | undefined {
    return this.#fills.get(keyOf(domain, digest));
  }

  ended(domain: string, digest: Digest): number {
    return this.#ended.get(keyOf(domain, digest)) ?? 0;
  }

  all(): Iterable<Fill> {
    return this.#fills.values();
  }

  join(domain: string, digest: Digest, source: FillSource, o: JoinOptions): { fill: Fill; started: boolean } {
    if (this.#stopped) throw new FillStoppedError("Weir is stopping");
    const key = keyOf(domain, digest);
    const running = this.#fills.get(key);
    if (running !== undefined) {
      running.addSource(source);
      return { fill: running, started: false };
    }
    this.#dropExpired();
    const leftover = this.#leftovers.get(key);
    this.#forget(key);
    const fill = new RunningFill({
      domain,
      digest,
      source,
      expectedSize: o.expectedSize,
      behalf: o.behalf ?? {},
      deps: this.#deps,
      memory: this.#memory,
      tuning: this.#tuning,
      leftover: leftover ?? Promise.resolve(undefined),
      onOver: (left) => {
        this.#fills.delete(key);
        this.#ends += 1;
        this.#ended.set(key, this.#ends);
        this.#remember(key, left);
      },
      next: (sources) => this.#joinAll(domain, digest, sources, o),
    });
    this.#fills.set(key, fill);
    this.#own(fill.run());
    return { fill, started: true };
  }

  async open(): Promise<void> {
    const { spool, clock } = this.#deps;
    const best = new Map<string, SpoolLeftover>();
    for (const leftover of await spool.leftovers()) {
      const { domain, digest, mark, writtenAtMs } = leftover.note;
      const key = keyOf(domain, digest);
      const other = best.get(key);
      const expired = clock.now() - writtenAtMs > LEFTOVER_LIFETIME_MS;
      if (expired || (other !== undefined && other.note.mark >= mark)) {
        await leftover.remove();
        continue;
      }
      await other?.remove();
      best.set(key, leftover);
    }
    for (const [key, leftover] of best) this.#remember(key, Promise.resolve(leftover));
  }

  async stop(o: CallOptions): Promise<void> {
    this.#stopped = true;
    for (const fill of this.#fills.values()) fill.stop(new FillStoppedError("Weir is stopping"));
    while (this.#running.size > 0) await waitFor(Promise.all(this.#running), o.signal);
  }

  #joinAll(domain: string, digest: Digest, sources: readonly FillSource[], o: JoinOptions): Fill | undefined {
    let fill: Fill | undefined;
    for (const source of sources) fill = this.join(domain, digest, source, o).fill;
    return fill;
  }

  /** Keeps what a fill leaves for the next fill of the same blob; that one may begin before it is written down. */
  #remember(key: string, left: Promise<SpoolLeftover | undefined>): void {
    this.#leftovers.set(key, left);
    this.#own(
      left.then((leftover) => {
        if (this.#leftovers.get(key) !== left) return;
        if (leftover === undefined) this.#forget(key);
        else this.#leftoverBytes.set(key, leftover.note.mark);
      }),
    );
  }

  #dropExpired(): void {
    for (const [key, left] of this.#leftovers) {
      this.#own(
        left.then(async (leftover) => {
          if (leftover === undefined || this.#leftovers.get(key) !== left) return;
          if (this.#deps.clock.now() - leftover.note.writtenAtMs <= LEFTOVER_LIFETIME_MS) return;
          this.#forget(key);
          await leftover.remove();
        }),
      );
    }
  }

  #forget(key: string): void {
    this.#leftovers.delete(key);
    this.#leftoverBytes.delete(key);
  }

  #own(work: Promise<unknown>): void {
    this.#running.add(work);
    void work.finally(() => this.#running.delete(work));
  }
}

function keyOf(domain: string, digest: Digest): string {
  return `${domain} ${digest}`;
}
