import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";

/**
 * What the storage holds, and what goes when there is too much of it (design, section 5 "Room"). Serving tells it of what is
 * used, kept and deleted; none of that does I/O.
 */
export interface Room {
  /** A blob was served or kept. False where it is not known to be held, though it is: then {@link added} should follow. */
  touch(digest: Digest): boolean;
  /** A blob is held now. Repeatable: the last size counts. */
  added(digest: Digest, occupied: number): void;
  /** A blob is not held any more. Repeatable. */
  removed(digest: Digest): void;
  /**
   * Makes room for a fill of `bytes` (undefined: not known yet) before it starts. Resolves when there is room, or nothing
   * more can go, or making it takes too long. Rejects with the signal's reason only.
   */
  reserve(bytes: number | undefined, o: CallOptions): Promise<Reservation>;
  /** After the disk was found full: evicts at least so many bytes, whatever the marks say. True when something was freed. */
  emergency(bytes: number, o: CallOptions): Promise<boolean>;
  /** What should go, and why; unless it is a dry run each is gone when it is yielded. Safe beside serving. */
  collect(o: CallOptions & { readonly dryRun: boolean }): AsyncIterable<RoomCandidate>;
  usage(): RoomUsage;
  /** When these blobs would go, which are held for one image; changes nothing. Undefined where none of them is counted. */
  prospect(digests: readonly Digest[], o: CallOptions): Promise<Prospect | undefined>;
}

/** What will become of what is held, as far as can be told now. */
export interface Prospect {
  /** Of the blobs that were asked for, the one that would go first. */
  readonly first: Digest;
  /** When that was last used; milliseconds since the epoch. */
  readonly usedAtMs: number;
  /** A pin, as it was when something was evicted last, keeps every one of them. */
  readonly pinned: boolean;
  /** What would go before it. */
  readonly blobsBefore: number;
  readonly bytesBefore: number;
  /** What is used now, and beyond what blobs go; undefined without a limit. Bytes. */
  readonly usedBytes: number;
  readonly evictsAboveBytes: number | undefined;
  /** When it goes for `storage.maxAge`, unless it is used; undefined where it does not. Milliseconds since the epoch. */
  readonly agedAtMs: number | undefined;
}

/** The bytes of a fill under way: they count as used until it has ended. */
export interface Reservation {
  /** False where the blob is larger than everything that may be held: then it is not to be kept at all. */
  readonly keep: boolean;
  /** The fill turns out to have so many bytes in all. Resolves as {@link Room.reserve} does, with `keep`. */
  grow(bytes: number, o: CallOptions): Promise<boolean>;
  /** The fill has ended, whichever way. Repeatable. */
  release(): void;
}

/**
 * - `age`: nobody has asked for it for `storage.maxAge`
 * - `room`: the storage is above `storage.highWater`, and it was used least recently
 * - `upstream-cap`: the same for its upstream's `maxSize`
 * - `unreferenced`: a blob that no repository has
 * - `dangling-link`: a repository's link to a blob that is not held, and that nothing which is held needs
 * - `left-over`: a temporary file, an unfinished upload or an empty folder
 */
export type RoomReason = "age" | "room" | "upstream-cap" | "unreferenced" | "dangling-link" | "left-over";

export interface RoomCandidate {
  readonly digest?: Digest;
  /** The key in the root or bucket of what is no blob. */
  readonly key?: string;
  /** `<upstream>/<repository>`, of links. */
  readonly repository?: string;
  readonly reason: RoomReason;
  /** Milliseconds since it was last used, or written. */
  readonly ageMs: number;
  /** Bytes that its going gives back. */
  readonly bytes: number;
  /**
   * It is still there: it was marked so many milliseconds ago, and goes some time after that unless it is used. Undefined for what
   * goes, or has gone, at once.
   */
  readonly markedMs?: number;
}

export interface RoomUsage {
  /** Bytes that the storage uses for blobs, as `du` counts; while `counting`, what is known of it. */
  readonly bytes: number;
  readonly blobs: number;
  /** `storage.maxSize`; undefined where there is no limit. */
  readonly limitBytes: number | undefined;
  /** Bytes by upstream name. What several upstreams have counts for each. */
  readonly perUpstream: ReadonlyMap<string, number>;
  /** The storage is still being looked through after the start. */
  readonly counting: boolean;
}
