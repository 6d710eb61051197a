import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { KeyedLock } from "../../base/keyed-lock.ts";
import type { Log } from "../../base/log.ts";
import type { Digest } from "../../oci/digest.ts";
import type { BlobStat } from "../../storage/blob-store.ts";
import type { BucketRecords, Mark, MarkReason } from "../../storage/bucket-records.ts";
import type { RoomCandidate } from "../room.ts";
import type { Account } from "../room-account.ts";
import type { RoomLimits } from "../room-eviction.ts";
import { HELD, LINKED, MANIFEST, PINNED } from "../room-index.ts";
import { type CollectCall, GRACE_MS as LINK_GRACE_MS, type Remains } from "../room-remains.ts";
import {
  chooseAged,
  chooseAgedManifests,
  chooseUnlinked,
  chooseVictims,
  excesses,
  type Victims,
} from "../room-victims.ts";
import type { Marks } from "./marks.ts";

/** What a bucket does for eviction. */
export interface EvictableStore {
  stat(digest: Digest, o: CallOptions): Promise<BlobStat | undefined>;
  /** Deletes the blob, unless it was put there after `untilMs`, by the server's clock. */
  deleteOlder(digest: Digest, untilMs: number, o: CallOptions): Promise<"deleted" | "absent" | "newer">;
}

export interface BucketEvictionDeps {
  readonly account: Account;
  readonly marks: Marks;
  readonly records: BucketRecords;
  readonly store: EvictableStore;
  readonly remains: Remains;
  /** Whoever writes or deletes a blob has its digest. */
  readonly locks: KeyedLock<Digest>;
  readonly limits: () => RoomLimits;
  readonly refreshPins: (o: CallOptions) => Promise<void>;
  /** How long a marked blob stays; see `graceMs`. */
  readonly graceMs: number;
  readonly newId: () => string;
  /** A blob is gone. */
  readonly evicted: (digest: Digest, reason: MarkReason, bytes: number) => void;
  /** The server's. */
  readonly clock: Clock;
  readonly log: Log;
}

/** Of one object: 4,000 of some 200 bytes each. */
const MAX_MARKS = 4_000;

/** Marked at a time, by all processes together; more is marked when these are gone. */
const MAX_BATCHES = 16;

/** Deleted before it is looked again what others have used meanwhile, and on their way at once. */
const CHUNK = 200;
const AT_ONCE = 8;

/** What its writer has not written for so long is deleted: nothing in it counts any more. */
const SILENT_MS = 2 * 60 * 60_000;

/** Lets go from a bucket that others read from, too: what is not wanted is marked, and deleted when nobody has used it for long after. */
export class BucketEviction {
  readonly #deps: BucketEvictionDeps;
  /** Until when the uses of each process have been heard of, by its own clock, and when it had written them by the server's. */
  readonly #heard = new Map<string, { readonly untilMs: number; readonly writtenAtMs: number }>();

  constructor(deps: BucketEvictionDeps) {
    this.#deps = deps;
  }

  /** Takes in what everybody has used: each use once, since it is newer than what the same process had written before. */
  async hear(o: CallOptions): Promise<void> {
    const { records, clock } = this.#deps;
    for await (const id of records.uses.ids(o)) {
      const writtenAtMs = await records.uses.writtenAtMs(id, o);
      if (writtenAtMs === undefined) continue;
      const before = this.#heard.get(id);
      const silentMs = clock.now() - writtenAtMs;
      // The server tells seconds: what was written in the same one is read again.
      const isKnown = before?.writtenAtMs === writtenAtMs && silentMs > 2_000;
      if (!isKnown) await this.#take(id, writtenAtMs, o);
      if (silentMs < SILENT_MS) continue;
      await records.uses.delete(id, o);
      this.#heard.delete(id);
    }
  }

  /**
   * Takes the marks from what was used, or may stay after all, and deletes what nobody has used since it was marked long ago. A
   * dry run tells what is marked.
   */
  async *settle(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { marks, records, graceMs, clock } = this.#deps;
    await marks.read(o);
    for (const [id, batch] of marks.batches) {
      const markedAtMs = batch.markedAtMs ?? (await records.marks.writtenAtMs(id, o));
      if (markedAtMs === undefined) continue;
      const left = batch.marks.filter((mark) => this.#isStillWanted(mark, markedAtMs));
      const markedMs = Math.max(0, clock.now() - markedAtMs);
      if (o.dryRun) {
        for (const mark of left) yield { ...this.#candidate(mark), ...(markedMs < graceMs ? { markedMs } : {}) };
      } else if (markedMs >= graceMs) {
        yield* this.#delete(left, markedAtMs, o);
        await records.marks.delete(id, o);
      } else if (left.length < batch.marks.length) {
        // First the new batch: a blob that is marked twice loses both marks the same way.
        if (left.length > 0) await records.marks.put(this.#deps.newId(), { markedAtMs, marks: left }, o);
        await records.marks.delete(id, o);
      }
    }
  }

  /**
   * Marks what should go, and is not marked yet. A dry run tells what that would be.
   *
   * @param o.aged what is too old, too
   * @param o.unlinked what nobody has, too; all links have just been looked at
   */
  async *mark(
    o: CollectCall & { readonly aged: boolean; readonly unlinked: boolean },
  ): AsyncGenerator<RoomCandidate, void, undefined> {
    const { marks, records, newId } = this.#deps;
    const marked = new Set<Digest>();
    for (const batch of marks.batches.values()) for (const { digest } of batch.marks) marked.add(digest);
    const wanted: Mark[] = [];
    for await (const mark of this.#unwanted(marked, o)) {
      if (marked.size === marked.add(mark.digest).size) continue;
      wanted.push(mark);
      if (o.dryRun) yield { ...this.#candidate(mark), markedMs: 0 };
    }
    for (let at = 0; !o.dryRun && at < wanted.length; at += MAX_MARKS) {
      if (marks.batches.size + at / MAX_MARKS >= MAX_BATCHES) return;
      const batch = wanted.slice(at, at + MAX_MARKS);
      await records.marks.put(newId(), { marks: batch }, o);
      for (const mark of batch) yield { ...this.#candidate(mark), markedMs: 0 };
    }
  }

  async *#unwanted(
    marked: ReadonlySet<Digest>,
    o: CallOptions & { readonly aged: boolean; readonly unlinked: boolean },
  ): AsyncIterable<Mark> {
    const { account, clock, store, refreshPins } = this.#deps;
    const { index } = account;
    // Looking for what is pinned is dear, and there is mostly nothing new to be marked.
    const isNew = ({ digest }: Mark): boolean => !marked.has(digest);
    if (!o.unlinked && !this.#chosen(o.aged).some(isNew)) return;
    await refreshPins(o);
    yield* this.#chosen(o.aged);
    if (!o.unlinked) return;
    const beforeMs = clock.now() - LINK_GRACE_MS;
    for (const victim of chooseUnlinked(index, beforeMs)) {
      const stat = await store.stat(index.digest(victim.entry), o);
      // It may have been put there by somebody who has not come to linking it.
      if (stat !== undefined && stat.storedAtMs <= beforeMs) yield* this.#marksOf([victim], "unreferenced");
    }
  }

  #chosen(aged: boolean): readonly Mark[] {
    const { account, limits, clock } = this.#deps;
    const { index } = account;
    const { maxAgeMs } = limits();
    const chosen: Mark[] = [];
    if (aged && maxAgeMs !== undefined) {
      const beforeMs = clock.now() - maxAgeMs;
      chosen.push(...this.#marksOf(chooseAged(index, beforeMs), "age"));
      chosen.push(...this.#marksOf(chooseAgedManifests(index, beforeMs), "age"));
    }
    for (const { reason, wanted } of excesses(limits(), account.bytes, () => index.bytesByOwner())) {
      chosen.push(...this.#marksOf(chooseVictims(index, wanted), reason));
    }
    return chosen;
  }

  /** What was used later than a grace ago would only lose its mark again. */
  #marksOf(victims: Victims, reason: MarkReason): readonly Mark[] {
    const { account, clock, graceMs } = this.#deps;
    const { index } = account;
    return victims
      .filter(({ usedAtMs }) => usedAtMs <= clock.now() - graceMs)
      .map(({ entry }) => ({ digest: index.digest(entry), reason, bytes: index.occupied(entry) }));
  }

  /** Whether nobody has used it since, and the rule by which it was marked still wants it to go. */
  #isStillWanted({ digest, reason }: Mark, markedAtMs: number): boolean {
    const { account, limits, clock, graceMs } = this.#deps;
    const { index } = account;
    const entry = index.find(digest);
    if (entry === undefined || !index.has(entry, HELD) || index.has(entry, PINNED)) return false;
    // When it was marked, the last use that was known of lay a whole grace before: the rest is for clocks that disagree.
    const usedAtMs = index.usedAtMs(entry);
    if (usedAtMs > markedAtMs - graceMs / 2) return false;
    const { total, upstreams, maxAgeMs } = limits();
    switch (reason) {
      case "age":
        return maxAgeMs !== undefined && usedAtMs < clock.now() - maxAgeMs;
      case "room":
        return total !== undefined && account.bytes > total.low;
      case "upstream-cap": {
        const perUpstream = index.bytesByOwner();
        return [...upstreams].some(
          ([upstream, { low }]) => index.isOwnedBy(entry, upstream) && (perUpstream.get(upstream) ?? 0) > low,
        );
      }
      case "unreferenced":
        return !index.has(entry, LINKED);
    }
  }

  async *#delete(
    marks: readonly Mark[],
    markedAtMs: number,
    o: CollectCall,
  ): AsyncGenerator<RoomCandidate, void, undefined> {
    const { remains, refreshPins } = this.#deps;
    await refreshPins(o);
    for (let from = 0; from < marks.length; from += CHUNK) {
      // The last word of everybody else.
      await this.hear(o);
      if (from === 0) yield* this.#expireNames(marks, markedAtMs, remains, o);
      for (let at = from; at < Math.min(from + CHUNK, marks.length); at += AT_ONCE) {
        o.signal.throwIfAborted();
        const some = marks.slice(at, Math.min(at + AT_ONCE, from + CHUNK));
        const gone = await Promise.all(some.map((mark) => this.#deleteOne(mark, markedAtMs, o)));
        yield* gone.filter((candidate) => candidate !== undefined);
      }
    }
  }

  /** Names of manifests that are too old go before the manifests: the other way round, a crash would leave names of nothing. */
  async *#expireNames(
    marks: readonly Mark[],
    markedAtMs: number,
    remains: Remains,
    o: CollectCall,
  ): AsyncGenerator<RoomCandidate, void, undefined> {
    const aged = new Map(marks.filter(({ reason }) => reason === "age").map((mark) => [mark.digest, mark]));
    if (![...aged.keys()].some((digest) => this.#isManifest(digest))) return;
    yield* remains.expiredNames((digest) => {
      const mark = aged.get(digest);
      return mark !== undefined && this.#isStillWanted(mark, markedAtMs);
    }, o);
  }

  async #deleteOne(mark: Mark, markedAtMs: number, o: CallOptions): Promise<RoomCandidate | undefined> {
    const { account, store, locks, evicted, clock } = this.#deps;
    const { digest, reason } = mark;
    return await locks.tryRun(digest, async () => {
      if (!this.#isStillWanted(mark, markedAtMs)) return undefined;
      const candidate = this.#candidate(mark);
      const result = await store.deleteOlder(digest, markedAtMs, o);
      if (result === "newer") {
        account.heard(digest, { usedAtMs: clock.now(), kept: undefined });
        return undefined;
      }
      account.removed(digest);
      if (result === "absent") return undefined;
      evicted(digest, reason, mark.bytes);
      return candidate;
    });
  }

  #isManifest(digest: Digest): boolean {
    const { index } = this.#deps.account;
    const entry = index.find(digest);
    return entry !== undefined && index.has(entry, MANIFEST);
  }

  #candidate({ digest, reason, bytes }: Mark): RoomCandidate {
    const { account, clock } = this.#deps;
    const entry = account.index.find(digest);
    const ageMs = entry === undefined ? 0 : clock.now() - account.index.usedAtMs(entry);
    return { digest, reason, ageMs, bytes };
  }

  async #take(id: string, writtenAtMs: number, o: CallOptions): Promise<void> {
    const { records, account, log } = this.#deps;
    const found = await records.uses.get(id, o);
    // Asked for after it was read: written anew in between, it counts as used later, not earlier, than it was.
    const serverMs = await records.uses.writtenAtMs(id, o);
    if (found === undefined || serverMs === undefined) return;
    const { value } = found;
    if (value === undefined) {
      log.warn({ id }, "what another Weir has used in the bucket cannot be read: left out");
      return;
    }
    const aheadMs = serverMs - value.writtenAtMs;
    const untilMs = this.#heard.get(id)?.untilMs ?? 0;
    for (const { digest, usedAtMs, kept } of value.blobs) {
      if (usedAtMs >= untilMs) account.heard(digest, { usedAtMs: usedAtMs + aheadMs, kept });
    }
    this.#heard.set(id, { untilMs: value.writtenAtMs, writtenAtMs });
  }
}
