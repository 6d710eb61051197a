import { isDeepStrictEqual } from "node:util";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { FairSemaphore } from "../../base/fair-semaphore.ts";
import { KeyedLock } from "../../base/keyed-lock.ts";
import type { Log } from "../../base/log.ts";
import { Pace } from "../../base/pace.ts";
import { waitFor } from "../../base/wait-for.ts";
import type { Digest } from "../../oci/digest.ts";
import type { RepoRef } from "../../oci/reference.ts";
import { type BlobStore, StorageError } from "../../storage/blob-store.ts";
import type { MarkReason, UsageRecord } from "../../storage/bucket-records.ts";
import type { BucketSide } from "../../storage/open-storage.ts";
import type { LinkName, Repositories } from "../../storage/repositories.ts";
import type { RoomRecords } from "../../storage/room-records.ts";
import { waitAtMost } from "../background.ts";
import type { HeldBlob, RunningRoom } from "../create-room.ts";
import { Bell } from "../fill-bell.ts";
import type { Prospect, Reservation, RoomCandidate, RoomUsage } from "../room.ts";
import { Account } from "../room-account.ts";
import type { RoomLimits } from "../room-eviction.ts";
import { HELD } from "../room-index.ts";
import { markPinned, type Pin } from "../room-pins.ts";
import { prospectOf } from "../room-prospect.ts";
import { type CollectCall, Remains } from "../room-remains.ts";
import { RoomyBlobStore } from "../room-store.ts";
import { BucketEviction } from "./bucket-eviction.ts";
import { graceMs, type Marks } from "./marks.ts";
import { Seat } from "./seat.ts";
import { ServerClock } from "./server-clock.ts";
import { Uses } from "./uses.ts";

export interface BucketRoomDeps {
  readonly bucket: BucketSide;
  /** The bucket's blobs as they are served from. */
  readonly store: BlobStore;
  readonly repositories: Repositories;
  readonly records: RoomRecords;
  readonly marks: Marks;
  /** Asked each time, so that a reload counts at once. */
  limits(): RoomLimits;
  /** What an operator has pinned beside `limits().pins`. */
  morePins(o: CallOptions): Promise<readonly Pin[]>;
  /** Whether the bucket is left alone altogether where nothing bounds what it holds. */
  readonly onlyBounded: boolean;
  evicted(digest: Digest, reason: MarkReason, bytes: number): void;
  /** A name that nobody else has; of `0-9a-z-`. */
  newId(): string;
  readonly clock: Clock;
  readonly log: Log;
}

/** How often it is looked whether something should go, and what others have used. Some requests, whatever is held. */
const TICK_MS = 60_000;

/** After claiming the seat, so long is waited for others that have claimed it, too. */
const CLAIM_MS = 5_000;

/** How often blobs that are too old are looked for. */
const AGE_MS = 60 * 60_000;

/** How often the bucket is counted anew, and looked through for what nobody wants; that for the first time after {@link AGE_MS}. */
const TEND_MS = 24 * 60 * 60_000;

/** When all blobs were used is written down so often. What was used in the last hour each process tells by itself. */
const SAVE_MS = 10 * 60_000;

/** Keys that are listed in a second at most: ten requests. */
const LISTED_PER_S = 10_000;

/**
 * The room of a bucket that several Weirs may use. All of them tell what they have used, and know what is marked; one at a time counts
 * what is there, and lets go. A bucket is never full: no fill waits for a deletion.
 */
export class BucketRoom implements RunningRoom {
  readonly blobs: BlobStore;
  readonly #deps: BucketRoomDeps;
  readonly #uses: Uses;
  readonly #time: ServerClock;
  readonly #seat: Seat;
  readonly #locks = new KeyedLock<Digest>();
  /** The index notes what one look at the links finds, so there is one at a time. */
  readonly #looking = new FairSemaphore(1);
  readonly #bell = new Bell();
  /** Rung when the limits have changed: who should have the seat may have, too. */
  readonly #changed = new Bell();
  readonly #stop = new AbortController();
  #running: Promise<unknown> | undefined;
  #isSeated = false;
  /** It may be this one's by and by: it is given back as the seat is. */
  #hasClaimed = false;
  #tended: Tended | undefined;
  /** What whoever counts has told last. */
  #told: UsageRecord | undefined;
  #hasFailed = false;

  constructor(deps: BucketRoomDeps) {
    const { store, bucket, marks, clock, log } = deps;
    this.#deps = deps;
    const isMarked = (digest: Digest): boolean => marks.isMarked(digest);
    this.#time = new ServerClock(clock);
    this.#seat = new Seat({ records: bucket.records, token: deps.newId(), clock });
    marks.whenRead(() => this.#uses.hasten());
    this.#uses = new Uses({ records: bucket.records, id: deps.newId(), isMarked, clock, log });
    this.blobs = new RoomyBlobStore(store, this, this.#locks, marks);
  }

  /** Always true: what others have put there is counted by and by, and nobody is held up to find out its size. */
  touch(digest: Digest): boolean {
    this.#uses.touch(digest);
    this.#tended?.account.touch(digest);
    return true;
  }

  added(digest: Digest, occupied: number): void {
    this.#uses.kept(digest, occupied);
    // A blob of one digest has one size, whoever tells it.
    if (this.glance(digest) === undefined) this.#tended?.account.added(digest, occupied);
    else this.#tended?.account.touch(digest);
  }

  removed(digest: Digest): void {
    this.#uses.removed(digest);
    this.#tended?.account.removed(digest);
  }

  linked(repo: RepoRef, link: LinkName): void {
    this.#uses.linked(repo, link);
    this.#tended?.account.linked(repo, link);
  }

  glance(digest: Digest): HeldBlob | undefined {
    const index = this.#tended?.account.index;
    const entry = index?.find(digest);
    if (index === undefined || entry === undefined || !index.has(entry, HELD)) return undefined;
    return { occupied: index.occupied(entry), usedAtMs: index.usedAtMs(entry) };
  }

  async reserve(bytes: number | undefined): Promise<Reservation> {
    const fits = (size: number): boolean => size <= (this.#deps.limits().total?.high ?? Number.POSITIVE_INFINITY);
    let keep = bytes === undefined || fits(bytes);
    return {
      get keep() {
        return keep;
      },
      async grow(size) {
        keep &&= fits(size);
        return keep;
      },
      release() {},
    };
  }

  /** Nothing goes at once. */
  async emergency(): Promise<boolean> {
    return false;
  }

  async *collect(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    if (!this.#tends) return;
    const leave = await this.#looking.acquire("collect", o);
    try {
      if (!o.dryRun) await this.#time.set(this.#deps.bucket.records, o);
      const tended = this.#tended ?? this.#newTended();
      if (!tended.account.counted) await tended.account.count(o);
      yield* this.#round(tended, { ...o, aged: true, tidies: true });
      if (!o.dryRun) await tended.account.save(o);
    } finally {
      leave();
    }
  }

  usage(): RoomUsage {
    const limitBytes = this.#deps.limits().total?.limit;
    const account = this.#tended?.account;
    if (account !== undefined && (account.counted || this.#told === undefined)) {
      const { bytes, counted, index } = account;
      return { bytes, blobs: index.held, limitBytes, perUpstream: index.bytesByOwner(), counting: !counted };
    }
    const { bytes, blobs, perUpstream } = this.#told ?? { bytes: 0, blobs: 0, perUpstream: {} };
    const counting = this.#told === undefined || account !== undefined;
    return { bytes, blobs, limitBytes, perUpstream: new Map(Object.entries(perUpstream)), counting };
  }

  async prospect(digests: readonly Digest[]): Promise<Prospect | undefined> {
    const account = this.#tended?.account;
    return account && prospectOf(account.index, digests, { limits: this.#deps.limits(), usedBytes: account.bytes });
  }

  start(): void {
    const { log } = this.#deps;
    const { signal } = this.#stop;
    this.#running ??= Promise.all([this.#keepSeat(signal), this.#tend(signal)]).catch((error: unknown) => {
      if (!signal.aborted) log.error({ err: error }, "looking after the bucket's room has ended");
    });
  }

  limitsChanged(): void {
    this.#bell.ring();
    this.#changed.ring();
  }

  async stop(o: CallOptions): Promise<void> {
    this.#stop.abort(new Error("Weir is stopping"));
    await waitFor(Promise.resolve(this.#running), o.signal);
    await this.#uses.stop(o);
    if (this.#isSeated) await this.#attempt(async () => await this.#tended?.account.save(o), o);
    await this.#attempt(() => this.#leaveSeat(o), o);
  }

  /** Whether somebody looks after the bucket. */
  get #tends(): boolean {
    return !this.#deps.onlyBounded || this.#isBounded;
  }

  get #isBounded(): boolean {
    const { total, upstreams, maxAgeMs } = this.#deps.limits();
    return total !== undefined || upstreams.size > 0 || maxAgeMs !== undefined;
  }

  async #keepSeat(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    for (;;) {
      const changed = this.#changed.next();
      const attempt = async (): Promise<void> => {
        if (!this.#tends) {
          await this.#leaveSeat({ signal });
          return;
        }
        const taken = await this.#seat.take({ signal, isBounded: this.#isBounded });
        this.#hasClaimed = taken === "claimed";
        if (this.#isSeated === (taken === "mine")) return;
        this.#isSeated = taken === "mine";
        this.#bell.ring();
      };
      await this.#attempt(attempt, { signal });
      if (this.#hasClaimed) await clock.sleep(CLAIM_MS, signal);
      else await waitAtMost(changed, TICK_MS, { clock, signal });
    }
  }

  async #leaveSeat(o: CallOptions): Promise<void> {
    if (this.#isSeated || this.#hasClaimed) await this.#seat.leave(o);
    this.#isSeated = false;
    this.#hasClaimed = false;
  }

  async #tend(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    for (;;) {
      const rung = this.#bell.next();
      await this.#attempt(() => this.#tick({ signal }), { signal });
      await waitAtMost(rung, TICK_MS, { clock, signal });
    }
  }

  async #tick(o: CallOptions): Promise<void> {
    const { bucket, clock } = this.#deps;
    if (!this.#tends) {
      this.#tended = undefined;
      return;
    }
    if (!this.#isSeated || this.#told === undefined) this.#told = (await bucket.records.usage(o)) ?? this.#told;
    if (!this.#isSeated) {
      this.#tended = undefined;
      return;
    }
    const leave = await this.#looking.acquire("tend", o);
    try {
      await this.#time.set(bucket.records, o);
      this.#tended ??= this.#newTended();
      const tended = this.#tended;
      const now = clock.now();
      const isDue = (sinceMs: number, everyMs: number): boolean => now - sinceMs >= everyMs;
      if (!tended.account.counted || isDue(tended.countedMs, TEND_MS)) {
        await tended.account.count(o);
        tended.countedMs = now;
      }
      const tidies = isDue(tended.tidiedMs, TEND_MS);
      const aged = tidies || isDue(tended.agedMs, AGE_MS);
      if (tidies) tended.tidiedMs = now;
      if (aged) tended.agedMs = now;
      await this.#exhaust(this.#round(tended, { ...o, dryRun: false, aged, tidies }));
      await this.#tell(tended.account, o);
      if (!isDue(tended.savedMs, SAVE_MS)) return;
      tended.savedMs = now;
      await tended.account.save(o);
    } finally {
      leave();
    }
  }

  async #tell({ bytes, index }: Account, o: CallOptions): Promise<void> {
    const usage = { bytes, blobs: index.held, perUpstream: Object.fromEntries(index.bytesByOwner()) };
    if (isDeepStrictEqual(usage, this.#told)) return;
    await this.#deps.bucket.records.putUsage(usage, o);
    this.#told = usage;
  }

  async *#round(
    { account, eviction, remains }: Tended,
    o: CollectCall & { readonly aged: boolean; readonly tidies: boolean },
  ): AsyncGenerator<RoomCandidate, void, undefined> {
    try {
      if (o.tidies) await account.lookAtLinks(o);
      await eviction.hear(o);
      yield* eviction.settle(o);
      yield* eviction.mark({ ...o, unlinked: o.tidies });
      if (o.tidies) {
        yield* remains.dangling(o);
        yield* remains.unneededRecords(o);
      }
    } finally {
      if (o.tidies) account.dropAbsent();
    }
    if (o.tidies) yield* remains.leftOvers(o);
  }

  #newTended(): Tended {
    const { bucket, store, repositories, records, marks, limits, morePins, evicted, newId, log } = this.#deps;
    const clock = this.#time;
    const pace = new Pace({ clock, bytesPerS: LISTED_PER_S });
    const account = new Account({
      store,
      repositories,
      records,
      links: (o) => bucket.blobs.links(o),
      pace: ({ signal }) => pace.spent(1, signal),
      clock,
      log,
    });
    const remains = new Remains({ account, locks: this.#locks, store, repositories, records, clock });
    const eviction = new BucketEviction({
      account,
      marks,
      records: bucket.records,
      store: bucket.blobs,
      remains,
      locks: this.#locks,
      limits: () => limits(),
      refreshPins: async (o) => {
        const pins = [...limits().pins, ...(await morePins(o))];
        await markPinned(account.index, pins, { records, repositories }, o);
      },
      graceMs: graceMs(bucket.presignedMs),
      newId: () => newId(),
      evicted: (digest, reason, bytes) => evicted(digest, reason, bytes),
      clock,
      log,
    });
    const now = this.#deps.clock.now();
    return {
      account,
      eviction,
      remains,
      countedMs: now,
      agedMs: now,
      savedMs: now,
      tidiedMs: now - TEND_MS + AGE_MS,
    };
  }

  async #exhaust(candidates: AsyncIterable<RoomCandidate>): Promise<void> {
    let [count, bytes, marked] = [0, 0, 0];
    for await (const candidate of candidates) {
      if (candidate.markedMs !== undefined) {
        marked += 1;
        continue;
      }
      count += 1;
      bytes += candidate.bytes;
    }
    if (count > 0 || marked > 0) {
      this.#deps.log.info({ count, bytes, marked }, "the bucket was cleared of what nobody wants any more");
    }
  }

  /** A bucket that fails now may be there again later. */
  async #attempt(work: () => Promise<unknown>, o: CallOptions): Promise<void> {
    const { log } = this.#deps;
    try {
      await work();
      this.#hasFailed = false;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      if (o.signal.aborted) return;
      const level = this.#hasFailed ? "debug" : "warn";
      this.#hasFailed = true;
      log[level]({ err: error }, "looking after the bucket's room failed, and is tried again later");
    }
  }
}

/** What only whoever lets go has. */
interface Tended {
  readonly account: Account;
  readonly eviction: BucketEviction;
  readonly remains: Remains;
  countedMs: number;
  agedMs: number;
  savedMs: number;
  tidiedMs: number;
}
