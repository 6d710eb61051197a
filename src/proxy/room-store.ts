import type { CallOptions } from "../base/call.ts";
import type { KeyedLock } from "../base/keyed-lock.ts";
import type { Digest } from "../oci/digest.ts";
import {
  type BlobStat,
  type BlobStore,
  type OpenBlob,
  type PendingBlob,
  StorageError,
  type StoreLeftOver,
} from "../storage/blob-store.ts";
import type { ObjectStat, SmallObjects } from "../storage/small-objects.ts";
import type { Room } from "./room.ts";

/** A link or a record has a few hundred bytes, and takes a block and an inode. */
const SMALL_BYTES = 4096;

/** A full disk is emptied in steps; one write needs more than this many only where others fill it up meanwhile. */
const MAX_EMERGENCIES = 3;

/** Which blobs clients may be sent to. */
export interface Redirects {
  /** Whether the blob stays where it is for as long as that may take. */
  mayRedirect(digest: Digest, o: CallOptions): Promise<boolean>;
}

/** A store that tells the room of everything that is used, kept and deleted, and evicts when the disk is full. */
export class RoomyBlobStore implements BlobStore {
  readonly name: string;
  readonly begin: BlobStore["begin"];
  readonly #store: BlobStore;
  readonly #room: Room;
  readonly #locks: KeyedLock<Digest>;
  readonly #redirects: Redirects | undefined;

  constructor(store: BlobStore, room: Room, locks: KeyedLock<Digest>, redirects?: Redirects) {
    this.name = store.name;
    this.#store = store;
    this.#room = room;
    this.#locks = locks;
    this.#redirects = redirects;
    const { begin } = store;
    this.begin = begin && ((digest, path) => this.#counted(digest, begin.call(store, digest, path)));
  }

  stat(digest: Digest, o: CallOptions): Promise<BlobStat | undefined> {
    return this.#store.stat(digest, o);
  }

  async open(digest: Digest, o: CallOptions): Promise<OpenBlob | undefined> {
    const blob = await this.#store.open(digest, o);
    if (blob !== undefined && !this.#room.touch(digest)) await this.#discovered(digest, blob, o);
    const redirects = this.#redirects;
    const presign = blob?.presign?.bind(blob);
    if (blob === undefined || presign === undefined || redirects === undefined) return blob;
    return {
      size: blob.size,
      version: blob.version,
      read: (start, end, call) => blob.read(start, end, call),
      presign: async () => ((await redirects.mayRedirect(digest, o)) ? await presign() : undefined),
      close: () => blob.close(),
    };
  }

  put(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<void> {
    return this.#keep(digest, bytes.length, () => this.#store.put(digest, bytes, o), o);
  }

  ingest(digest: Digest, path: string, o: CallOptions): Promise<void> {
    return this.#keep(digest, SMALL_BYTES, () => this.#store.ingest(digest, path, o), o);
  }

  #counted(digest: Digest, pending: PendingBlob): PendingBlob {
    return {
      advance: (bytes) => pending.advance(bytes),
      complete: (o) => this.#keep(digest, SMALL_BYTES, () => pending.complete(o), o),
      abort: () => pending.abort(),
    };
  }

  delete(digest: Digest, o: CallOptions): Promise<boolean> {
    return this.#locks.run(digest, async () => {
      const deleted = await this.#store.delete(digest, o);
      this.#room.removed(digest);
      return deleted;
    });
  }

  list(o: CallOptions): AsyncIterable<BlobStat> {
    return this.#store.list(o);
  }

  overhead(o: CallOptions): Promise<number> {
    return this.#store.overhead(o);
  }

  leftOvers(o: CallOptions): AsyncIterable<StoreLeftOver> {
    return this.#store.leftOvers(o);
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  /** Another process that shares the store has put it there. */
  async #discovered(digest: Digest, blob: OpenBlob, o: CallOptions): Promise<void> {
    try {
      const stat = await this.#store.stat(digest, o);
      if (stat !== undefined) this.#room.added(digest, stat.occupied);
    } catch (error) {
      await blob.close();
      throw error;
    }
  }

  /** Nobody evicts the blob between its coming and its being counted. */
  #keep(digest: Digest, bytes: number, write: () => Promise<void>, o: CallOptions): Promise<void> {
    return this.#locks.run(digest, async () => {
      await whereThereIsRoom(this.#room, bytes, write, o);
      const stat = await this.#store.stat(digest, o);
      if (stat !== undefined) this.#room.added(digest, stat.occupied);
    });
  }
}

/** Small objects for which blobs are evicted when the disk is full: without its link a blob is of no use. */
export class RoomySmallObjects implements SmallObjects {
  readonly #objects: SmallObjects;
  readonly #room: () => Room | undefined;

  /** @param room undefined for as long as there is none */
  constructor(objects: SmallObjects, room: () => Room | undefined) {
    this.#objects = objects;
    this.#room = room;
  }

  get(key: string, o: CallOptions): Promise<Uint8Array | undefined> {
    return this.#objects.get(key, o);
  }

  put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void> {
    return whereThereIsRoom(this.#room(), SMALL_BYTES, () => this.#objects.put(key, bytes, o), o);
  }

  stat(key: string, o: CallOptions): Promise<ObjectStat | undefined> {
    return this.#objects.stat(key, o);
  }

  delete(key: string, o: CallOptions): Promise<boolean> {
    return this.#objects.delete(key, o);
  }

  list(prefix: string, o: CallOptions): AsyncIterable<string> {
    return this.#objects.list(prefix, o);
  }
}

/** Writes, and where the disk is full makes room and writes again. */
async function whereThereIsRoom<T>(
  room: Room | undefined,
  bytes: number,
  write: () => Promise<T>,
  o: CallOptions,
): Promise<T> {
  for (let emergencies = 0; ; emergencies += 1) {
    try {
      return await write();
    } catch (error) {
      const full = error instanceof StorageError && error.fault === "no-space";
      if (!full || room === undefined || emergencies === MAX_EMERGENCIES) throw error;
      if (!(await room.emergency(bytes, o))) throw error;
    }
  }
}
