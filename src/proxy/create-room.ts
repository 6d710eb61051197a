import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { FairSemaphore } from "../base/fair-semaphore.ts";
import type { Log } from "../base/log.ts";
import { waitFor } from "../base/wait-for.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { LinkName, Repositories } from "../storage/repositories.ts";
import type { RoomRecords } from "../storage/room-records.ts";
import type { Prospect, Reservation, Room, RoomCandidate, RoomUsage } from "./room.ts";
import { Account } from "./room-account.ts";
import { Collector } from "./room-collect.ts";
import { Eviction, type EvictionReason, type RoomLimits, type Unsent } from "./room-eviction.ts";
import { HELD } from "./room-index.ts";
import type { Pin } from "./room-pins.ts";
import { prospectOf } from "./room-prospect.ts";
import { Remains } from "./room-remains.ts";
import { RoomyBlobStore } from "./room-store.ts";

/** What the room reports; telemetry/ implements it. */
export interface RoomObserver {
  /** A blob is gone. */
  evicted(reason: EvictionReason, bytes: number): void;
}

export interface RoomDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  readonly records: RoomRecords;
  /** Asked each time, so that a reload counts at once. */
  limits(): RoomLimits;
  /** What an operator has pinned beside `limits().pins`; nothing if left out. */
  morePins?(o: CallOptions): Promise<readonly Pin[]>;
  /** Bytes of unfinished downloads that lie on the storage's own disk and belong to no fill under way. */
  spooledBytes(): number;
  /** What has no copy elsewhere yet, where everything is to have one: it stays until it has. */
  readonly unsent?: Unsent | undefined;
  /** Another store behind this one holds what goes here: names stay when their content goes. */
  readonly isFront?: boolean;
  /** The room of that store: what is used here is not to go there. */
  readonly behind?: Pick<RunningRoom, "touch" | "added" | "removed" | "linked"> | undefined;
  /** A blob was deleted to make room: nobody must go on answering from what he remembers of it. */
  forget(digest: Digest): void;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: RoomObserver;
}

/** A blob in the account. */
export interface HeldBlob {
  /** What the storage uses for it; bytes. */
  readonly occupied: number;
  /** When it was last served or kept; milliseconds since the epoch. */
  readonly usedAtMs: number;
}

/** A room with its work in the background. */
export interface RunningRoom extends Room {
  /** The store for everybody else: what goes through it is counted. */
  readonly blobs: BlobStore;
  /** A repository is about to have a link. */
  linked(repo: RepoRef, link: LinkName): void;
  /** What is known of a blob that is held; undefined where it is not, or not counted yet, or another process counts. */
  glance(digest: Digest): HeldBlob | undefined;
  /** Looks through the store in the background, and keeps to the limits. Without it there is only what is asked for. */
  start(): void;
  /** The configuration has changed: looks whether there is too much now. */
  limitsChanged(): void;
  /** Ends the work in the background and writes down what was used when. Repeatable. */
  stop(o: CallOptions): Promise<void>;
}

/** What was used when is written down so often; what comes after that is lost in a crash. */
const SAVE_MS = 60_000;

/** How often blobs that are too old are looked for. */
const AGE_MS = 60 * 60_000;

/** How often the store is counted anew, and looked through for what nobody wants; the first time after {@link AGE_MS}. */
const TEND_MS = 24 * 60 * 60_000;

export function createRoom(deps: RoomDeps): RunningRoom {
  return new StorageRoom(deps);
}

class StorageRoom implements RunningRoom {
  readonly blobs: BlobStore;
  readonly #deps: RoomDeps;
  readonly #account: Account;
  readonly #eviction: Eviction;
  readonly #collector: Collector;
  /** The index notes what one look at the links finds, so there is one at a time. */
  readonly #looking = new FairSemaphore(1);
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(deps: RoomDeps) {
    const { blobs: store, repositories, records, clock, log, observer } = deps;
    this.#deps = deps;
    this.#account = new Account({ store, repositories, records, clock, log });
    this.#eviction = new Eviction({
      account: this.#account,
      store,
      repositories,
      records,
      limits: () => deps.limits(),
      morePins: async (o) => (await deps.morePins?.(o)) ?? [],
      spooledBytes: () => deps.spooledBytes(),
      unsent: deps.unsent,
      evicted(digest, reason, bytes) {
        observer.evicted(reason, bytes);
        deps.forget(digest);
      },
      clock,
      log,
    });
    const parts = { account: this.#account, store, repositories, records, clock };
    const remains = new Remains({ ...parts, locks: this.#eviction.locks });
    const { isFront = false } = deps;
    const maxAgeMs = (): number | undefined => deps.limits().maxAgeMs;
    this.#collector = new Collector({ ...parts, eviction: this.#eviction, remains, isFront, maxAgeMs });
    this.blobs = new RoomyBlobStore(store, this, this.#eviction.locks);
  }

  touch(digest: Digest): boolean {
    this.#deps.behind?.touch(digest);
    return this.#account.touch(digest);
  }

  added(digest: Digest, occupied: number): void {
    this.#deps.behind?.added(digest, occupied);
    this.#account.added(digest, occupied);
    this.#eviction.check();
  }

  removed(digest: Digest): void {
    this.#deps.behind?.removed(digest);
    this.#account.removed(digest);
  }

  linked(repo: RepoRef, link: LinkName): void {
    this.#deps.behind?.linked(repo, link);
    this.#account.linked(repo, link);
    this.#eviction.check();
  }

  glance(digest: Digest): HeldBlob | undefined {
    const { index } = this.#account;
    const entry = index.find(digest);
    if (entry === undefined || !index.has(entry, HELD)) return undefined;
    return { occupied: index.occupied(entry), usedAtMs: index.usedAtMs(entry) };
  }

  limitsChanged(): void {
    this.#eviction.check();
  }

  reserve(bytes: number | undefined, o: CallOptions): Promise<Reservation> {
    return this.#eviction.reserve(bytes, o);
  }

  emergency(bytes: number, o: CallOptions): Promise<boolean> {
    return this.#eviction.emergency(bytes, o);
  }

  async *collect(o: CallOptions & { readonly dryRun: boolean }): AsyncGenerator<RoomCandidate, void, undefined> {
    const leave = await this.#looking.acquire("collect", o);
    try {
      if (!this.#account.counted) await this.#account.count(o);
      yield* this.#collector.all(o);
    } finally {
      leave();
    }
  }

  usage(): RoomUsage {
    const { counted, bytes, index } = this.#account;
    return {
      bytes,
      blobs: index.held,
      limitBytes: this.#deps.limits().total?.limit,
      perUpstream: index.bytesByOwner(),
      counting: !counted,
    };
  }

  async prospect(digests: readonly Digest[]): Promise<Prospect | undefined> {
    return prospectOf(this.#account.index, digests, { limits: this.#deps.limits(), usedBytes: this.#eviction.used });
  }

  start(): void {
    const { signal } = this.#stop;
    this.#eviction.start();
    this.#running ??= this.#work(signal).catch((error: unknown) => {
      if (!signal.aborted) this.#deps.log.error({ err: error }, "looking after the storage's room has ended");
    });
  }

  async stop(o: CallOptions): Promise<void> {
    this.#stop.abort(new Error("Weir is stopping"));
    await waitFor(Promise.all([this.#running, this.#eviction.stop()]), o.signal);
    await this.#account.save(o);
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const startedMs = clock.now();
    await this.#attempt("counting the storage", () => this.#count({ signal }));
    let [agedMs, tendedMs] = [startedMs, startedMs - TEND_MS + AGE_MS];
    for (;;) {
      await clock.sleep(SAVE_MS, signal);
      await this.#attempt("noting what was used when", async () => {
        await this.#account.save({ signal });
        await this.#account.measure({ signal });
      });
      this.#eviction.check();
      if (!this.#account.counted || clock.now() - tendedMs >= TEND_MS) {
        tendedMs = clock.now();
        await this.#attempt("counting the storage", () => this.#count({ signal }));
        if (!this.#account.counted) continue;
        await this.#attempt("cleaning the storage", () => this.#exhaust(this.collect({ signal, dryRun: false })));
      } else if (clock.now() - agedMs >= AGE_MS) {
        agedMs = clock.now();
        await this.#attempt("looking for what is too old", () =>
          this.#exhaust(this.#collector.aged({ signal, dryRun: false })),
        );
      }
    }
  }

  async #count(o: CallOptions): Promise<void> {
    const leave = await this.#looking.acquire("count", o);
    try {
      await this.#account.count(o);
    } finally {
      leave();
    }
    this.#eviction.check();
  }

  async #exhaust(candidates: AsyncIterable<RoomCandidate>): Promise<void> {
    let [count, bytes] = [0, 0];
    for await (const candidate of candidates) {
      count += 1;
      bytes += candidate.bytes;
    }
    if (count > 0) this.#deps.log.info({ count, bytes }, "the storage was cleared of what nobody wants any more");
  }

  /** A storage that fails now may be there again later. */
  async #attempt(what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#stop.signal.aborted) throw error;
      this.#deps.log.warn({ err: error }, `${what} failed, and is tried again later`);
    }
  }
}
