import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { BlobStat, BlobStore } from "../storage/blob-store.ts";
import type { KeptBlob } from "../storage/bucket-records.ts";
import type { LinkedName, LinkName, Repositories } from "../storage/repositories.ts";
import type { RoomRecords } from "../storage/room-records.ts";
import { BlobIndex, HELD, LINKED, MANIFEST, SEEN } from "./room-index.ts";
import { Recency, type RecencyPart } from "./room-recency.ts";

export interface AccountDeps {
  readonly store: BlobStore;
  readonly repositories: Repositories;
  readonly records: RoomRecords;
  /** Every link, where there is a shorter way to them than through the repositories. */
  readonly links?: ((o: CallOptions) => AsyncIterable<LinkedName>) | undefined;
  /** Holds up the look through the store where that is dear: called after each thing that was listed. */
  readonly pace?: ((o: CallOptions) => Promise<void>) | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** What another process has noted of a blob. */
export interface HeardOf {
  /** By this process's clock; milliseconds since the epoch. */
  readonly usedAtMs: number;
  /** It has put the blob there. */
  readonly kept: KeptBlob | undefined;
}

/**
 * What is held, how large it is and when it was used. The truth lies in the store: this is counted from it in the
 * background while blobs come and go, and once a day anew.
 */
export class Account {
  readonly index = new BlobIndex();
  readonly #deps: AccountDeps;
  readonly #recency: Recency;
  #recorded: ReadonlyMap<number, RecencyPart> | undefined;
  /** Bytes that were held when that was written down last, with what has changed since. */
  #expectedBytes = 0;
  #overheadBytes = 0;
  /** What was deleted while the store is being looked through: it may have been listed before. */
  #deleted: Set<Digest> | undefined;
  /** What repositories have and the store has not is kept in the index: somebody is looking at the links. */
  #keepsAbsent = false;
  #counted = false;
  #linksKnown = false;

  constructor(deps: AccountDeps) {
    this.#deps = deps;
    this.#recency = new Recency(deps.records, deps.log);
  }

  /** Whether the store has been looked through since the start. */
  get counted(): boolean {
    return this.#counted;
  }

  /** Whether it is known which blobs are manifests, and whose they are. */
  get linksKnown(): boolean {
    return this.#linksKnown;
  }

  /** Bytes that the store uses; before everything is counted no less than were used when that was written down last. */
  get bytes(): number {
    return (this.#counted ? this.index.bytes : Math.max(this.index.bytes, this.#expectedBytes)) + this.#overheadBytes;
  }

  touch(digest: Digest): boolean {
    // What is served is held, though it may not have been counted yet.
    const entry = this.#counted ? this.index.find(digest) : this.index.ensure(digest);
    if (entry === undefined) return false;
    this.index.use(entry, this.#deps.clock.now());
    this.#recency.changed(this.index.part(entry));
    return this.index.has(entry, HELD) || !this.#counted;
  }

  added(digest: Digest, occupied: number): void {
    const entry = this.index.ensure(digest);
    this.#deleted?.delete(digest);
    this.#expectedBytes += occupied - this.index.occupied(entry);
    this.index.setHeld(entry, occupied);
    this.index.set(entry, SEEN, true);
    this.index.use(entry, this.#deps.clock.now());
    this.#recency.changed(this.index.part(entry));
  }

  /** Another process that shares the store has used a blob, or kept it. */
  heard(digest: Digest, { usedAtMs, kept }: HeardOf): void {
    const { index } = this;
    const entry = kept === undefined ? index.find(digest) : index.ensure(digest);
    if (entry === undefined) return;
    if (kept !== undefined) {
      if (!index.has(entry, HELD)) index.setHeld(entry, kept.bytes);
      index.set(entry, SEEN, true);
      if (kept.isManifest) index.set(entry, MANIFEST, true);
      if (kept.upstreams.length > 0) index.set(entry, LINKED, true);
      for (const upstream of kept.upstreams) index.own(entry, upstream);
    }
    index.use(entry, Math.max(index.usedAtMs(entry), Math.min(usedAtMs, this.#deps.clock.now())));
    this.#recency.changed(index.part(entry));
  }

  removed(digest: Digest): void {
    this.#deleted?.add(digest);
    const entry = this.index.find(digest);
    if (entry === undefined) return;
    this.#expectedBytes -= this.index.occupied(entry);
    this.#recency.changed(this.index.part(entry));
    if (this.#keepsAbsent) this.index.setHeld(entry, undefined);
    else this.index.delete(entry);
  }

  /** A repository is about to have a link to the digest. */
  linked(repo: RepoRef, { kind, digest }: LinkName): void {
    const entry = this.#keepsAbsent ? this.index.ensure(digest) : this.index.find(digest);
    if (entry === undefined) return;
    this.index.set(entry, LINKED, true);
    if (kind === "revision") this.index.set(entry, MANIFEST, true);
    this.index.own(entry, repo.upstream);
  }

  /** Looks through all of the store. What comes and goes meanwhile is counted right, too. */
  async count(o: CallOptions): Promise<void> {
    if (!this.#counted && this.#recorded === undefined) {
      this.#recorded = await this.#recency.load(o);
      for (const { bytes } of this.#recorded.values()) this.#expectedBytes += bytes;
    }
    this.#deleted = new Set();
    this.index.clear(SEEN);
    try {
      await this.lookAtLinks(o);
      for await (const found of this.#deps.store.list(o)) {
        this.#found(found);
        await this.#deps.pace?.(o);
      }
      for (const entry of this.index.entries()) {
        if (!this.index.has(entry, SEEN)) this.index.setHeld(entry, undefined);
      }
      this.dropAbsent();
      this.#counted = true;
      this.#recorded = undefined;
    } finally {
      this.#deleted = undefined;
    }
    await this.measure(o);
  }

  /** Finds out which blobs repositories have, held or not: {@link dropAbsent} forgets the latter. */
  async lookAtLinks(o: CallOptions): Promise<void> {
    const { links = (call: CallOptions) => this.#walked(call), pace } = this.#deps;
    this.#keepsAbsent = true;
    this.index.clear(LINKED);
    for await (const { repo, link } of links(o)) {
      o.signal.throwIfAborted();
      this.linked(repo, link);
      await pace?.(o);
    }
    this.#linksKnown = true;
  }

  /** Forgets what repositories have but the store has not. */
  dropAbsent(): void {
    this.#keepsAbsent = false;
    for (const entry of this.index.entries()) if (!this.index.has(entry, HELD)) this.index.delete(entry);
  }

  /** Asks the store what it uses beyond the blobs themselves. */
  async measure(o: CallOptions): Promise<void> {
    this.#overheadBytes = await this.#deps.store.overhead(o);
  }

  /** Writes down what was used when. Before everything is counted that would forget what was known of the rest. */
  async save(o: CallOptions): Promise<void> {
    if (this.#counted) await this.#recency.save(this.index, o);
  }

  async *#walked(o: CallOptions): AsyncIterable<LinkedName> {
    const { repositories } = this.#deps;
    for await (const repo of repositories.linked(o)) {
      for await (const link of repositories.linkNames(repo, o)) yield { repo, link };
    }
  }

  #found({ digest, occupied, storedAtMs }: BlobStat): void {
    if (this.#deleted?.has(digest) === true) return;
    const { index } = this;
    const entry = index.ensure(digest);
    if (index.has(entry, SEEN)) return;
    index.set(entry, SEEN, true);
    index.setHeld(entry, occupied);
    if (index.usedAtMs(entry) !== 0) return;
    const recorded = this.#recorded?.get(index.part(entry))?.usedAtMs(index.prefix(entry));
    // A clock that was wrong once must not make a blob the one used last for ever.
    index.use(entry, Math.min(recorded ?? storedAtMs, this.#deps.clock.now()));
    this.#recency.changed(index.part(entry));
  }
}
