import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { KeyedLock } from "../base/keyed-lock.ts";
import { type Digest, isDigest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { LinkName } from "../storage/repositories.ts";
import type { RunningRoom } from "./create-room.ts";
import type { Prospect, Reservation, Room } from "./room.ts";
import { type Redirects, RoomyBlobStore } from "./room-store.ts";

/** A line to another process; the channels of cluster/ are such lines. */
export interface RoomLine {
  readonly closed: AbortSignal;
  ask(what: string, data: unknown, o: CallOptions): Promise<unknown>;
  tell(what: string, data: unknown): void;
  onAsked(what: string, answer: (data: unknown, o: CallOptions) => Promise<unknown>): void;
  onTold(what: string, listener: (data: unknown) => void): void;
}

/** What was used is told this late, so that a hit costs no message. */
const TOUCH_MS = 500;

const TOUCHED = "room.touched";
const ADDED = "room.added";
const REMOVED = "room.removed";
const LINKED = "room.linked";
const RESERVE = "room.reserve";
const GROW = "room.grow";
const RELEASE = "room.release";
const EMERGENCY = "room.emergency";
const PROSPECT = "room.prospect";
const FORGET = "room.forget";

export interface RemoteRoomDeps {
  readonly line: RoomLine;
  readonly blobs: BlobStore;
  /** For a store that clients may be sent to. */
  readonly redirects?: Redirects | undefined;
  /** A blob is not held any more: nobody must go on answering from what he remembers of it. */
  forget(digest: Digest): void;
  readonly clock: Clock;
}

/** A worker's room: the parent keeps the account and evicts, for all of them. */
export function createRemoteRoom({ line, blobs, redirects, forget, clock }: RemoteRoomDeps): RunningRoom {
  const touched = new Set<Digest>();
  const stopped = new AbortController();
  const tellLater = (): void => {
    clock.sleep(TOUCH_MS, stopped.signal).then(tellTouched, () => {});
  };
  const tellTouched = (): void => {
    line.tell(TOUCHED, [...touched]);
    touched.clear();
  };
  line.onTold(FORGET, (data) => {
    if (typeof data === "string" && isDigest(data)) forget(data);
  });
  const room: RunningRoom = {
    get blobs() {
      return roomy;
    },
    touch(digest) {
      if (touched.size === 0) tellLater();
      touched.add(digest);
      return true;
    },
    added: (digest, occupied) => line.tell(ADDED, [digest, occupied]),
    removed: (digest) => line.tell(REMOVED, digest),
    linked: (repo, link) => line.tell(LINKED, [repo, link]),
    async reserve(bytes, o) {
      try {
        const [id, keep] = (await line.ask(RESERVE, bytes ?? null, o)) as [number, boolean];
        return remoteReservation(line, id, keep);
      } catch {
        // Without the parent nobody evicts; the download goes on all the same.
        o.signal.throwIfAborted();
        return { keep: true, grow: async () => true, release() {} };
      }
    },
    async emergency(bytes, o) {
      try {
        return (await line.ask(EMERGENCY, bytes, o)) === true;
      } catch {
        o.signal.throwIfAborted();
        return false;
      }
    },
    collect() {
      throw new Error("only the parent collects");
    },
    glance: () => undefined,
    usage: () => ({ bytes: 0, blobs: 0, limitBytes: undefined, perUpstream: new Map(), counting: true }),
    async prospect(digests, o) {
      try {
        return ((await line.ask(PROSPECT, digests, o)) as Prospect | null) ?? undefined;
      } catch {
        o.signal.throwIfAborted();
        return undefined;
      }
    },
    start() {},
    limitsChanged() {},
    async stop() {
      stopped.abort();
      tellTouched();
    },
  };
  const roomy = new RoomyBlobStore(blobs, room, new KeyedLock(), redirects);
  return room;
}

function remoteReservation(line: RoomLine, id: number, keep: boolean): Reservation {
  return {
    keep,
    async grow(bytes, o) {
      try {
        return (await line.ask(GROW, [id, bytes], o)) === true;
      } catch {
        o.signal.throwIfAborted();
        return true;
      }
    },
    release: () => line.tell(RELEASE, id),
  };
}

/**
 * Lets a worker use the parent's room; what it has reserved is given back when it is gone. Gives the function that tells the
 * worker of a blob which is not held any more.
 */
export function brokerRoom(
  line: RoomLine,
  room: Room & { readonly blobs: BlobStore; linked(repo: RepoRef, link: LinkName): void },
): (digest: Digest) => void {
  const reserved = new Map<number, Reservation>();
  let lastId = 0;
  const o: CallOptions = { signal: line.closed };
  line.onTold(TOUCHED, (data) => {
    for (const digest of data as Digest[]) {
      // By opening it the store finds out what it did not know of.
      if (!room.touch(digest)) void discover(room.blobs, digest, o);
    }
  });
  line.onTold(ADDED, (data) => room.added(...(data as [Digest, number])));
  line.onTold(REMOVED, (data) => room.removed(data as Digest));
  line.onTold(LINKED, (data) => room.linked(...(data as [RepoRef, LinkName])));
  line.onAsked(RESERVE, async (bytes, asking) => {
    const reservation = await room.reserve((bytes as number | null) ?? undefined, asking);
    if (asking.signal.aborted) {
      reservation.release();
      throw asking.signal.reason;
    }
    lastId += 1;
    reserved.set(lastId, reservation);
    return [lastId, reservation.keep];
  });
  line.onAsked(GROW, async (data, asking) => {
    const [id, bytes] = data as [number, number];
    return (await reserved.get(id)?.grow(bytes, asking)) ?? true;
  });
  line.onTold(RELEASE, (id) => {
    reserved.get(id as number)?.release();
    reserved.delete(id as number);
  });
  line.onAsked(EMERGENCY, (bytes, asking) => room.emergency(bytes as number, asking));
  line.onAsked(PROSPECT, async (digests, asking) => (await room.prospect(digests as Digest[], asking)) ?? null);
  line.closed.addEventListener(
    "abort",
    () => {
      for (const reservation of reserved.values()) reservation.release();
      reserved.clear();
    },
    { once: true },
  );
  return (digest) => line.tell(FORGET, digest);
}

async function discover(blobs: BlobStore, digest: Digest, o: CallOptions): Promise<void> {
  try {
    await (await blobs.open(digest, o))?.close();
  } catch {
    // It is counted when the store is looked through again.
  }
}
