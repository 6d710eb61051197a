import { silentLog } from "../../src/base/log.ts";
import type { Digest } from "../../src/oci/digest.ts";
import { digestOf } from "../../src/oci/digest.ts";
import type { RepoRef } from "../../src/oci/reference.ts";
import { createRoom, type RunningRoom } from "../../src/proxy/create-room.ts";
import type { RoomCandidate } from "../../src/proxy/room.ts";
import type { EvictionReason, Marks, RoomLimits } from "../../src/proxy/room-eviction.ts";
import type { Pin } from "../../src/proxy/room-pins.ts";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import type { Repositories } from "../../src/storage/repositories.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import { createRoomRecords } from "../../src/storage/room-records.ts";
import type { SmallObjects } from "../../src/storage/small-objects.ts";
import { seededBytes } from "./images.ts";
import { ManualClock } from "./manual-clock.ts";
import { createMemoryBlobStore, createMemorySmallObjects } from "./memory-store.ts";

export const call = { signal: new AbortController().signal };

export const UNLIMITED: RoomLimits = { total: undefined, upstreams: new Map(), maxAgeMs: undefined, pins: [] };

export function marks(limit: number): Marks {
  return { limit, high: limit * 0.95, low: limit * 0.85 };
}

export interface RoomBenchOptions {
  readonly store?: BlobStore;
  readonly objects?: SmallObjects;
  readonly clock?: ManualClock;
  readonly limits?: Partial<RoomLimits>;
}

/** A room over a store in memory, with a clock that the test turns, and a note of all that it evicts. */
export class RoomBench implements AsyncDisposable {
  readonly clock: ManualClock;
  readonly store: BlobStore;
  readonly objects: SmallObjects;
  readonly repositories: Repositories;
  readonly room: RunningRoom;
  limits: RoomLimits;
  spooledBytes = 0;
  operatorPins: readonly Pin[] = [];
  readonly evicted: { readonly digest: Digest; readonly reason: EvictionReason | undefined }[] = [];
  readonly warnings: string[] = [];

  constructor(o: RoomBenchOptions = {}) {
    this.clock = o.clock ?? new ManualClock();
    this.store = o.store ?? createMemoryBlobStore(() => this.clock.now());
    this.objects = o.objects ?? createMemorySmallObjects(() => this.clock.now());
    this.limits = { ...UNLIMITED, ...o.limits };
    const log = { ...silentLog, warn: (_: unknown, message: string) => this.warnings.push(message) };
    this.repositories = createRepositories(this.objects, log, {
      linking: (repo, link) => this.room.linked(repo, link),
    });
    let reason: EvictionReason | undefined;
    this.room = createRoom({
      blobs: this.store,
      repositories: this.repositories,
      records: createRoomRecords(this.objects, this.store),
      limits: () => this.limits,
      morePins: async () => this.operatorPins,
      spooledBytes: () => this.spooledBytes,
      forget: (digest) => this.evicted.push({ digest, reason }),
      clock: this.clock,
      log,
      observer: {
        evicted: (why) => {
          reason = why;
        },
      },
    });
  }

  /** Starts the room, and waits until everything is counted. */
  async started(): Promise<this> {
    this.room.start();
    await this.clock.sleeping();
    return this;
  }

  /** Keeps a blob of so many bytes, a second after what came before. */
  async keep(name: string, bytes: number, repo?: RepoRef): Promise<Digest> {
    this.clock.advance(1000);
    return await this.put(seededBytes(name, bytes), repo, "layer");
  }

  /** Keeps a manifest that lists the blobs and children, and gives it a tag. */
  async keepImage(
    repo: RepoRef,
    tag: string | undefined,
    content: { readonly blobs?: readonly Digest[]; readonly children?: readonly Digest[]; readonly salt?: string },
  ): Promise<Digest> {
    this.clock.advance(1000);
    const descriptor = (digest: Digest) => ({ mediaType: "application/octet-stream", digest, size: 1 });
    const document = {
      schemaVersion: 2,
      layers: (content.blobs ?? []).map(descriptor),
      manifests: (content.children ?? []).map(descriptor),
      annotations: { salt: content.salt ?? tag ?? "" },
    };
    const digest = await this.put(Buffer.from(JSON.stringify(document)), repo, "revision");
    if (tag !== undefined) await this.repositories.putTag(repo, tag, { digest, checkedAtMs: this.clock.now() }, call);
    return digest;
  }

  async put(bytes: Uint8Array, repo: RepoRef | undefined, kind: "layer" | "revision"): Promise<Digest> {
    const digest = digestOf(bytes);
    await this.room.blobs.put(digest, bytes, call);
    if (repo !== undefined && kind === "layer") await this.repositories.linkLayer(repo, digest, call);
    if (repo !== undefined && kind === "revision") await this.repositories.linkRevision(repo, digest, call);
    return digest;
  }

  /** Reads a blob, a second after what came before. */
  async use(digest: Digest): Promise<void> {
    this.clock.advance(1000);
    await (await this.room.blobs.open(digest, call))?.close();
  }

  async holds(digest: Digest): Promise<boolean> {
    return (await this.store.stat(digest, call)) !== undefined;
  }

  /** Lets evictions that are due end. */
  async settled(): Promise<void> {
    for (let i = 0; i < 50; i += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  async collect(o: { readonly dryRun: boolean }): Promise<RoomCandidate[]> {
    const found: RoomCandidate[] = [];
    for await (const candidate of this.room.collect({ ...call, ...o })) found.push(candidate);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.room.stop(call);
  }
}
