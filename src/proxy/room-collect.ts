import type { Clock } from "../base/clock.ts";
import type { Digest } from "../oci/digest.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { RoomCandidate, RoomReason } from "./room.ts";
import type { Account } from "./room-account.ts";
import type { Eviction } from "./room-eviction.ts";
import { HELD, LINKED, PINNED } from "./room-index.ts";
import { type CollectCall, GRACE_MS, type Remains } from "./room-remains.ts";
import { chooseAged, chooseAgedManifests, chooseUnlinked, chooseVictims, type Victims } from "./room-victims.ts";

export interface CollectDeps {
  readonly account: Account;
  readonly eviction: Eviction;
  readonly remains: Remains;
  readonly store: BlobStore;
  /** Names stay: another store has their content. */
  readonly isFront: boolean;
  readonly maxAgeMs: () => number | undefined;
  readonly clock: Clock;
}

/** Finds, and unless it is a dry run removes, what the rules or nobody want any more. One at a time. */
export class Collector {
  readonly #deps: CollectDeps;

  constructor(deps: CollectDeps) {
    this.#deps = deps;
  }

  async *all(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { account, eviction, remains } = this.#deps;
    await eviction.refreshPins(o.signal);
    try {
      await account.lookAtLinks(o);
      // In a dry run what one rule wants is still there for the next.
      const told = new Set<Digest>();
      for (const rule of [this.#aged(o), this.#tooMuch(o), this.#unlinked(o)]) {
        for await (const candidate of rule) {
          const { digest, key } = candidate;
          if (digest !== undefined && key === undefined && told.size === told.add(digest).size) continue;
          yield candidate;
        }
      }
      if (!this.#deps.isFront) {
        yield* remains.dangling(o);
        yield* remains.unneededRecords(o);
      }
    } finally {
      account.dropAbsent();
    }
    yield* remains.leftOvers(o);
  }

  /** Only what is older than `maxAge`: what is due more often than the rest. */
  async *aged(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    await this.#deps.eviction.refreshPins(o.signal);
    yield* this.#aged(o);
  }

  async *#aged(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { account, clock, maxAgeMs } = this.#deps;
    const { index } = account;
    const ageMs = maxAgeMs();
    if (ageMs === undefined) return;
    const beforeMs = clock.now() - ageMs;
    yield* this.#blobs(chooseAged(index, beforeMs), "age", o);
    const expired = (digest: Digest): boolean => {
      const entry = index.find(digest);
      return (
        entry !== undefined && index.has(entry, HELD) && !index.has(entry, PINNED) && index.usedAtMs(entry) < beforeMs
      );
    };
    const manifests = chooseAgedManifests(index, beforeMs);
    if (manifests.length === 0) return;
    if (!this.#deps.isFront) yield* this.#deps.remains.expiredNames(expired, o);
    yield* this.#blobs(manifests, "age", o);
  }

  async *#tooMuch(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { account, eviction } = this.#deps;
    const due = eviction.wanted();
    if (due !== undefined) yield* this.#blobs(chooseVictims(account.index, due.wanted), due.reason, o);
  }

  async *#unlinked(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { account, store, clock } = this.#deps;
    const { index } = account;
    const beforeMs = clock.now() - GRACE_MS;
    for (const victim of chooseUnlinked(index, beforeMs)) {
      const stat = await store.stat(index.digest(victim.entry), o);
      // It may have been put there by somebody who has not come to linking it; or have got a link since.
      if (stat === undefined || stat.storedAtMs > beforeMs || index.has(victim.entry, LINKED)) continue;
      yield* this.#blobs([victim], "unreferenced", o);
    }
  }

  async *#blobs(victims: Victims, reason: RoomReason, o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { account, eviction, clock } = this.#deps;
    for (const victim of victims) {
      const digest = account.index.digest(victim.entry);
      const ageMs = clock.now() - victim.usedAtMs;
      const bytes = o.dryRun ? account.index.occupied(victim.entry) : await eviction.evictOne(victim, reason, o);
      if (bytes > 0) yield { digest, reason, ageMs, bytes };
    }
  }
}
