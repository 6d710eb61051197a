import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { KeyedLock } from "../base/keyed-lock.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import type { Digest } from "../oci/digest.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { RoomRecords } from "../storage/room-records.ts";
import { LATE, waitAtMost } from "./background.ts";
import { Bell } from "./fill-bell.ts";
import type { Reservation, RoomReason } from "./room.ts";
import type { Account } from "./room-account.ts";
import { HELD, PINNED } from "./room-index.ts";
import { markPinned, type Pin } from "./room-pins.ts";
import { chooseVictims, type Excess, excesses, type Victims, type Wanted } from "./room-victims.ts";

/** What may be used, in bytes, as the configuration says now. */
export interface RoomLimits {
  /** Undefined = no limit. */
  readonly total: Marks | undefined;
  /** By upstream name. */
  readonly upstreams: ReadonlyMap<string, Marks>;
  /** What nobody asks for longer than this goes; undefined = nothing does. Milliseconds. */
  readonly maxAgeMs: number | undefined;
  readonly pins: readonly Pin[];
}

export interface Marks {
  readonly limit: number;
  /** What comes above it sets off eviction... */
  readonly high: number;
  /** ...which ends here. */
  readonly low: number;
}

/** Blobs that are held here and nowhere else, though they are to be elsewhere soon. */
export interface Unsent {
  has(digest: Digest, o: CallOptions): Promise<boolean>;
  /** Those that are known at once. */
  digests(): Iterable<Digest>;
}

/** Why blobs were evicted; `emergency`: the disk was full before the limit was reached; `bucket`: from behind the disk. */
export type EvictionReason = RoomReason | "emergency" | "bucket";

export interface EvictionDeps {
  readonly account: Account;
  /** The store itself: what goes here is told of by the eviction. */
  readonly store: BlobStore;
  readonly repositories: Repositories;
  readonly records: RoomRecords;
  readonly limits: () => RoomLimits;
  /** What is to stay beside {@link RoomLimits.pins}. */
  readonly morePins: (o: CallOptions) => Promise<readonly Pin[]>;
  /** Bytes of unfinished downloads that lie on the storage's own disk and belong to no fill under way. */
  readonly spooledBytes: () => number;
  readonly unsent: Unsent | undefined;
  /** A blob is gone: what is known of its content in memory goes, too. */
  readonly evicted: (digest: Digest, reason: EvictionReason, bytes: number) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** A fill starts all the same when there is no room after this; a disk this slow is full, or dying. */
const MAX_WAIT_MS = 10_000;

/** After finding nothing that may go, what is kept does not make a million blobs be looked through again at once. */
const STUCK_MS = 1000;

/** Share of what is held that goes at least when the disk is full, so that not every write finds it full again. */
const EMERGENCY_SHARE = 0.05;

/** Makes room: down to the low mark when the high one is passed, or at once when the disk is full. */
export class Eviction {
  readonly #deps: EvictionDeps;
  /** Whoever writes or deletes a blob has its digest. */
  readonly locks = new KeyedLock<Digest>();
  readonly #emergencies = new SingleFlight<boolean>();
  readonly #stop = new AbortController();
  /** Rings when something was evicted, and when nothing more will be. */
  readonly #progress = new Bell();
  #reserved = 0;
  #running: Promise<void> | undefined;
  #started = false;
  #due = false;
  /** How many blobs have been evicted. */
  #evictions = 0;
  #stuckUntilMs = 0;
  /** That a pass has found nothing to evict has been logged. */
  #toldStuck = false;

  constructor(deps: EvictionDeps) {
    this.#deps = deps;
  }

  /** Everything that counts against `maxSize`. Bytes. */
  get used(): number {
    return this.#deps.account.bytes + this.#reserved + this.#deps.spooledBytes();
  }

  /** From now on keeps to the limits. */
  start(): void {
    this.#started = true;
    this.check();
  }

  /** Looks whether there is too much, a moment later: what was reserved for a blob is given back just after it is kept. */
  check(): void {
    if (this.#due) return;
    this.#due = true;
    setImmediate(() => {
      this.#due = false;
      if (this.#deps.clock.now() >= this.#stuckUntilMs) this.#start();
    });
  }

  async reserve(bytes: number | undefined, o: CallOptions): Promise<Reservation> {
    const reservation = new HeldRoom({
      count: (more) => {
        this.#reserved += more;
      },
      fits: (size) => size <= (this.#deps.limits().total?.high ?? Number.POSITIVE_INFINITY),
      make: (call) => this.#makeRoom(call),
    });
    try {
      if (bytes !== undefined) await reservation.grow(bytes, o);
    } catch (error) {
      reservation.release();
      throw error;
    }
    return reservation;
  }

  async emergency(bytes: number, o: CallOptions): Promise<boolean> {
    const { account, log } = this.#deps;
    const freeing = await this.#emergencies.run("emergency", o, async (signal) => {
      const least = Math.max(bytes, account.index.bytes * EMERGENCY_SHARE);
      log.warn(
        { bytes: least },
        "the disk is full: evicting what was used least recently (see df, and storage.maxSize)",
      );
      return (await this.evict({ bytes: least }, "emergency", signal)) > 0;
    });
    return freeing.value;
  }

  /** Evicts what is wanted, and resolves with the bytes that were given back. */
  async evict(wanted: Wanted, reason: EvictionReason, signal: AbortSignal): Promise<number> {
    const { account, limits } = this.#deps;
    await this.refreshPins(signal);
    let freed = 0;
    for (const victim of chooseVictims(account.index, wanted)) {
      // Others delete, too, and fills end.
      const enough = reason === "room" && this.used <= (limits().total?.low ?? Number.POSITIVE_INFINITY);
      if (enough || freed >= wanted.bytes) break;
      signal.throwIfAborted();
      freed += await this.evictOne(victim, reason, { signal });
    }
    return freed;
  }

  /** Evicts a blob that nobody has used, or begun to write, since it was chosen. Resolves with the bytes given back. */
  async evictOne(victim: Victims[number], reason: EvictionReason, o: CallOptions): Promise<number> {
    const { account, store, evicted, log } = this.#deps;
    const { index } = account;
    const { entry, usedAtMs } = victim;
    const digest = index.digest(entry);
    const delete_ = async (): Promise<number> => {
      const still = index.find(digest) === entry && index.has(entry, HELD) && !index.has(entry, PINNED);
      if (!still || index.usedAtMs(entry) !== usedAtMs) return 0;
      const occupied = index.occupied(entry);
      if ((await this.#deps.unsent?.has(digest, o)) === true) return 0;
      try {
        await store.delete(digest, o);
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        log.warn({ err: error, digest }, "a blob could not be evicted");
        return 0;
      }
      account.removed(digest);
      evicted(digest, reason, occupied);
      this.#evictions += 1;
      this.#progress.ring();
      return occupied;
    };
    return (await this.locks.tryRun(digest, delete_)) ?? 0;
  }

  async refreshPins(signal: AbortSignal): Promise<void> {
    const { account, limits, morePins, unsent } = this.#deps;
    const pins = [...limits().pins, ...(await morePins({ signal }))];
    await markPinned(account.index, pins, this.#deps, { signal });
    for (const digest of unsent?.digests() ?? []) {
      const entry = account.index.find(digest);
      if (entry !== undefined) account.index.set(entry, PINNED, true);
    }
  }

  /** What should go now, and why; undefined where there is room. `stuck` are the caps for which nothing more can go. */
  wanted(stuck: ReadonlySet<string | undefined> = new Set()): Excess | undefined {
    const perUpstream = (): ReadonlyMap<string, number> => this.#deps.account.index.bytesByOwner();
    for (const excess of excesses(this.#deps.limits(), this.used, perUpstream)) {
      if (!stuck.has(excess.wanted.upstream)) return excess;
    }
    return undefined;
  }

  /** Resolves when nothing is being evicted any more. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("Weir is stopping"));
    await this.#running;
  }

  /** Waits until what is reserved fits, too, unless nothing more can go. */
  async #makeRoom(o: CallOptions): Promise<void> {
    const { clock, limits } = this.#deps;
    const untilMs = clock.now() + MAX_WAIT_MS;
    for (;;) {
      o.signal.throwIfAborted();
      const { total } = limits();
      if (total === undefined || this.used <= total.high) return;
      this.#start();
      if (this.#running === undefined) return;
      const before = this.#evictions;
      const changed = Promise.race([this.#progress.next(), this.#running]);
      const leftMs = untilMs - clock.now();
      if (leftMs <= 0 || (await waitAtMost(changed, leftMs, { clock, signal: o.signal })) === LATE) return;
      if (this.#evictions === before) return;
    }
  }

  #start(): void {
    // Before it is known what is a manifest, and whose the blobs are, the wrong ones would go.
    if (!this.#started || this.#running !== undefined || this.#stop.signal.aborted || !this.#deps.account.linksKnown)
      return;
    if (this.wanted() === undefined) return;
    this.#running = this.#pass()
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#deps.log.error({ err: error }, "making room failed");
      })
      .finally(() => {
        this.#running = undefined;
        this.#progress.ring();
      });
  }

  async #pass(): Promise<void> {
    const { signal } = this.#stop;
    const stuck = new Set<string | undefined>();
    for (let due = this.wanted(); due !== undefined; due = this.wanted(stuck)) {
      if ((await this.evict(due.wanted, due.reason, signal)) > 0) continue;
      stuck.add(due.wanted.upstream);
    }
    if (stuck.size === 0) {
      this.#toldStuck = false;
      return;
    }
    this.#stuckUntilMs = this.#deps.clock.now() + STUCK_MS;
    if (this.#toldStuck) return;
    this.#toldStuck = true;
    this.#deps.log.warn(
      { used: this.used, upstreams: [...stuck].filter((upstream) => upstream !== undefined) },
      "more is held than should be, and nothing of it may go: see storage.maxSize, storage.pins and upstreams.<name>.maxSize",
    );
  }
}

interface HeldRoomDeps {
  /** Counts so many bytes more, or fewer, as used. */
  count(more: number): void;
  fits(bytes: number): boolean;
  make(o: CallOptions): Promise<void>;
}

class HeldRoom implements Reservation {
  readonly #deps: HeldRoomDeps;
  #bytes = 0;
  #keep = true;
  #released = false;

  constructor(deps: HeldRoomDeps) {
    this.#deps = deps;
  }

  get keep(): boolean {
    return this.#keep;
  }

  async grow(bytes: number, o: CallOptions): Promise<boolean> {
    if (this.#released || !this.#keep || bytes <= this.#bytes) return this.#keep;
    if (!this.#deps.fits(bytes)) {
      this.#keep = false;
      this.release();
      return false;
    }
    this.#deps.count(bytes - this.#bytes);
    this.#bytes = bytes;
    await this.#deps.make(o);
    return true;
  }

  release(): void {
    this.#released = true;
    this.#deps.count(-this.#bytes);
    this.#bytes = 0;
  }
}
