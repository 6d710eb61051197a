/** Several Weirs' rooms over one bucket in memory, which has a clock of its own, as every replica has. */
import { silentLog } from "../../src/base/log.ts";
import type { Digest } from "../../src/oci/digest.ts";
import { digestOf } from "../../src/oci/digest.ts";
import type { RepoRef } from "../../src/oci/reference.ts";
import { BucketRoom } from "../../src/proxy/bucket-room/bucket-room.ts";
import { Marks } from "../../src/proxy/bucket-room/marks.ts";
import type { RoomCandidate } from "../../src/proxy/room.ts";
import type { RoomLimits } from "../../src/proxy/room-eviction.ts";
import type { Pin } from "../../src/proxy/room-pins.ts";
import { type BlobStore, StorageError } from "../../src/storage/blob-store.ts";
import {
  type BucketRecords,
  createBucketRecords,
  type MarkReason,
  type SeatRecord,
} from "../../src/storage/bucket-records.ts";
import type { BucketSide } from "../../src/storage/open-storage.ts";
import type { LinkedName, Repositories } from "../../src/storage/repositories.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import { createRoomRecords } from "../../src/storage/room-records.ts";
import type { SmallObjects } from "../../src/storage/small-objects.ts";
import { seededBytes } from "./images.ts";
import { ManualClock } from "./manual-clock.ts";
import { createMemoryBlobStore, createMemorySmallObjects } from "./memory-store.ts";
import { call, UNLIMITED } from "./room-bench.ts";

export const MINUTE_MS = 60_000;
export const PRESIGNED_MS = 10 * MINUTE_MS;

/** Time passes in steps of so much: timers that follow upon each other all get their turn. */
const STEP_MS = 5_000;

export interface ReplicaOptions {
  /** What its clock is ahead of the bucket's. */
  readonly aheadMs?: number;
  readonly limits?: Partial<RoomLimits>;
  /** What it uses is never told to the others. */
  readonly isMute?: boolean;
  /** It believes that it has the seat, whoever else has it. */
  readonly alwaysSeated?: boolean;
  readonly pins?: readonly Pin[];
}

export interface Deleted {
  readonly digest: Digest;
  readonly reason: MarkReason;
  readonly by: Replica;
  /** By the bucket's clock. */
  readonly atMs: number;
}

/** A bucket, and what is asked of it. */
export class BucketBench implements AsyncDisposable {
  readonly store: BlobStore;
  readonly objects: SmallObjects;
  readonly records: BucketRecords;
  /** Keys that were asked for, by operation. */
  requests: string[] = [];
  readonly deleted: Deleted[] = [];
  readonly replicas: Replica[] = [];
  /** While it is true nobody reaches the bucket. */
  isDown = false;
  #nowMs = Date.UTC(2026, 0, 1);

  constructor() {
    const now = (): number => Math.floor(this.#nowMs / 1000) * 1000;
    this.store = createMemoryBlobStore(now);
    const objects = createMemorySmallObjects(now);
    const asked = (what: string): void => {
      this.requests.push(what);
      if (this.isDown) throw new StorageError("unavailable", "the bucket does not answer");
    };
    this.objects = {
      async get(key, o) {
        asked(`get ${key}`);
        return await objects.get(key, o);
      },
      async put(key, bytes, o) {
        asked(`put ${key}`);
        await objects.put(key, bytes, o);
      },
      async stat(key, o) {
        asked(`stat ${key}`);
        return await objects.stat(key, o);
      },
      async delete(key, o) {
        asked(`delete ${key}`);
        return await objects.delete(key, o);
      },
      async *list(prefix, o) {
        asked(`list ${prefix}`);
        yield* objects.list(prefix, o);
      },
    };
    this.records = createBucketRecords(this.objects);
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  replica(o: ReplicaOptions = {}): Replica {
    const replica = new Replica(this, `replica-${this.replicas.length}-`, o);
    this.replicas.push(replica);
    return replica;
  }

  /** One that has the seat and has counted. */
  async evictor(o: ReplicaOptions = {}): Promise<Replica> {
    const replica = this.replica(o);
    replica.room.start();
    await this.pass(10_000);
    return replica;
  }

  /** Time passes for everybody. */
  async pass(ms: number): Promise<void> {
    await settled();
    for (let left = ms; left > 0; left -= STEP_MS) {
      const step = Math.min(left, STEP_MS);
      this.#nowMs += step;
      for (const { clock } of this.replicas) clock.advance(step);
      await settled();
    }
  }

  async holds(digest: Digest): Promise<boolean> {
    return (await this.store.stat(digest, call)) !== undefined;
  }

  /** What is marked now. */
  async marked(): Promise<Digest[]> {
    const marked: Digest[] = [];
    for await (const id of this.records.marks.ids(call)) {
      for (const { digest } of (await this.records.marks.get(id, call))?.value?.marks ?? []) marked.push(digest);
    }
    return marked;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isDown = false;
    for (const replica of this.replicas) await replica.room.stop(call);
  }
}

/** One Weir. */
export class Replica {
  readonly clock: ManualClock;
  readonly room: BucketRoom;
  readonly repositories: Repositories;
  limits: RoomLimits;
  /** Before a deletion reaches the bucket; may throw, or never resolve. */
  deleting: () => Promise<void> = async () => {};
  readonly #bench: BucketBench;

  constructor(bench: BucketBench, name: string, o: ReplicaOptions) {
    this.#bench = bench;
    const { aheadMs = 0, limits, pins = [] } = o;
    this.clock = new ManualClock(bench.nowMs + aheadMs);
    this.limits = { ...UNLIMITED, ...limits };
    this.repositories = createRepositories(bench.objects, silentLog, {
      linking: (repo, link) => this.room.linked(repo, link),
    });
    const { store, objects, records } = bench;
    let ids = 0;
    const deps = { clock: this.clock, log: silentLog };
    this.room = new BucketRoom({
      bucket: this.#side(o),
      store: {
        ...store,
        async open(digest, o) {
          const blob = await store.open(digest, o);
          return blob && { ...blob, presign: async () => `https://bucket.example/${digest}` };
        },
      },
      repositories: this.repositories,
      records: createRoomRecords(objects, store),
      marks: new Marks({ records, ...deps }),
      limits: () => this.limits,
      morePins: async () => pins,
      onlyBounded: false,
      evicted: (digest, reason) => bench.deleted.push({ digest, reason, by: this, atMs: bench.nowMs }),
      newId() {
        ids += 1;
        return `${name}${ids}`;
      },
      ...deps,
    });
  }

  /** Keeps a blob of so many bytes, a second after what came before. */
  async keep(name: string, bytes: number, repo?: RepoRef): Promise<Digest> {
    await this.#bench.pass(1000);
    const content = seededBytes(name, bytes);
    const digest = digestOf(content);
    await this.room.blobs.put(digest, content, call);
    if (repo !== undefined) await this.repositories.linkLayer(repo, digest, call);
    return digest;
  }

  async keepImage(repo: RepoRef, tag: string, blobs: readonly Digest[]): Promise<Digest> {
    await this.#bench.pass(1000);
    const layers = blobs.map((digest) => ({ mediaType: "application/octet-stream", digest, size: 1 }));
    const content = Buffer.from(JSON.stringify({ schemaVersion: 2, layers }));
    const digest = digestOf(content);
    await this.room.blobs.put(digest, content, call);
    await this.repositories.linkRevision(repo, digest, call);
    await this.repositories.putTag(repo, tag, { digest, checkedAtMs: this.clock.now() }, call);
    return digest;
  }

  /** Serves it, and sends the client to the bucket where that may be. False where it is not held. */
  async serve(digest: Digest): Promise<"redirected" | "streamed" | false> {
    const blob = await this.room.blobs.open(digest, call);
    if (blob === undefined) return false;
    const address = await blob.presign?.();
    await blob.close();
    return address === undefined ? "streamed" : "redirected";
  }

  async collect(o: { readonly dryRun: boolean }): Promise<RoomCandidate[]> {
    const found: RoomCandidate[] = [];
    for await (const candidate of this.room.collect({ ...call, ...o })) found.push(candidate);
    return found;
  }

  /** As by SIGKILL: nothing of it reaches the bucket any more. */
  kill(): void {
    const at = this.#bench.replicas.indexOf(this);
    this.#bench.replicas.splice(at, 1);
    this.deleting = () => new Promise(() => {});
  }

  #side({ alwaysSeated, isMute }: ReplicaOptions): BucketSide {
    const { store, objects } = this.#bench;
    let own: SeatRecord | undefined;
    const seat = {
      seat: async () => own,
      putSeat: async (claimed: SeatRecord) => {
        own = claimed;
      },
    };
    const { uses } = this.#bench.records;
    const put = async (): Promise<void> => {
      throw new StorageError("unavailable", "it may not write this");
    };
    const records = {
      ...this.#bench.records,
      ...(alwaysSeated === true ? seat : {}),
      uses: isMute === true ? { ...uses, put } : uses,
    };
    const links = (): AsyncIterable<LinkedName> => this.#links();
    return {
      blobs: {
        ...store,
        upload: async () => {},
        links,
        deleteOlder: async (digest, untilMs, o) => {
          await this.deleting();
          const stat = await store.stat(digest, o);
          if (stat === undefined) return "absent";
          if (stat.storedAtMs > untilMs) return "newer";
          await store.delete(digest, o);
          return "deleted";
        },
      },
      records,
      objects,
      presignedMs: PRESIGNED_MS,
    };
  }

  async *#links(): AsyncIterable<LinkedName> {
    for await (const repo of this.repositories.linked(call)) {
      for await (const link of this.repositories.linkNames(repo, call)) yield { repo, link };
    }
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 40; i += 1) await new Promise((resolve) => setImmediate(resolve));
}
