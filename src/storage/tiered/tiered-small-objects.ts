import { LRUCache } from "lru-cache";
import { atMost } from "../../base/at-most.ts";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { SingleFlight } from "../../base/single-flight.ts";
import { StorageError } from "../blob-store.ts";
import { parseKey, RECORDS_PREFIX } from "../layout.ts";
import type { ObjectStat, SmallObjects } from "../small-objects.ts";
import type { Errand, Sent, UploadQueue } from "./upload-queue.ts";

export interface TieredSmallObjectsDeps {
  readonly disk: SmallObjects;
  readonly bucket: SmallObjects;
  readonly queue: UploadQueue;
  readonly clock: Clock;
  readonly log: Log;
}

/** Another Weir may change what both have read: it is compared with the bucket's again when it is used after so long. */
const COMPARED_MS = 60_000;

/** Tags and repositories in use within a minute; of what falls out, more is compared than need be. */
const MAX_COMPARED = 50_000;

/** Links and records on a disk in front of a bucket. All of them stay on the disk: they are small, and what it has depends on them. */
export function createTieredSmallObjects(deps: TieredSmallObjectsDeps): SmallObjects {
  return new TieredSmallObjects(deps);
}

class TieredSmallObjects implements SmallObjects {
  readonly #deps: TieredSmallObjectsDeps;
  readonly #compared: LRUCache<string, true>;
  readonly #asking = new SingleFlight<Uint8Array | undefined>();

  constructor(deps: TieredSmallObjectsDeps) {
    this.#deps = deps;
    this.#compared = new LRUCache({ ...atMost(MAX_COMPARED), ttl: COMPARED_MS, ttlResolution: 0, perf: deps.clock });
  }

  async get(key: string, o: CallOptions): Promise<Uint8Array | undefined> {
    const { disk } = this.#deps;
    const near = await disk.get(key, o);
    if (isLocal(key)) return near;
    if (near === undefined || o.latest === true) return await this.#fetch(key, near, o);
    if (mayChange(key) && !this.#compared.has(key)) {
      // Nobody waits for it: what changes meanwhile costs at most a question to the upstream.
      this.#compared.set(key, true);
      void this.#fetch(key, near, { signal: new AbortController().signal }).catch(() => undefined);
    }
    return near;
  }

  async put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void> {
    const { disk, queue } = this.#deps;
    if (isLocal(key)) return await disk.put(key, bytes, o);
    this.#compared.set(key, true);
    await queue.through(key, { ...o, errand: "keep" }, () => disk.put(key, bytes, o));
  }

  async stat(key: string, o: CallOptions): Promise<ObjectStat | undefined> {
    const { disk } = this.#deps;
    return (await disk.stat(key, o)) ?? (await this.#behind(key, o, (bucket) => bucket.stat(key, o)));
  }

  async delete(key: string, o: CallOptions): Promise<boolean> {
    const { disk, queue } = this.#deps;
    if (isLocal(key)) return await disk.delete(key, o);
    const wasBehind = (await this.#behind(key, o, (bucket) => bucket.stat(key, o))) !== undefined;
    const wasHere = await queue.through(key, { ...o, errand: "delete" }, () => disk.delete(key, o));
    return wasHere || wasBehind;
  }

  list(prefix: string, o: CallOptions): AsyncIterable<string> {
    // Before the bucket is asked: what is not among them any more, it has lost.
    return this.#list(prefix, this.#deps.queue.deletions(), o);
  }

  async *#list(prefix: string, deleted: ReadonlySet<string>, o: CallOptions): AsyncIterable<string> {
    const { disk, bucket, log } = this.#deps;
    const listed = new Set<string>();
    for await (const name of disk.list(prefix, o)) {
      listed.add(name);
      yield name;
    }
    try {
      for await (const name of bucket.list(prefix, o)) {
        if (!listed.has(name) && !(await this.#isDeleted(`${prefix}${name}`, deleted, o))) yield name;
      }
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      log.debug({ err: error, prefix }, "S3 cannot be listed: there is what the disk has");
    }
  }

  /** A folder is, when everything in it is. */
  async #isDeleted(key: string, deleted: ReadonlySet<string>, o: CallOptions): Promise<boolean> {
    if (!key.endsWith("/")) return deleted.has(key);
    if (![...deleted].some((other) => other.startsWith(key))) return false;
    for await (const _ of this.#list(key, deleted, o)) return false;
    return true;
  }

  /** What the bucket has, which then is on the disk, too; what waits to be sent there is newer. */
  async #fetch(key: string, near: Uint8Array | undefined, o: CallOptions): Promise<Uint8Array | undefined> {
    const { disk, queue, log } = this.#deps;
    if ((await queue.errand(key, o)) === "keep") return near;
    const far = await this.#behind(key, o, (bucket) => this.#getBehind(bucket, key, o));
    if (far === undefined || (near !== undefined && Buffer.compare(near, far) === 0)) return near;
    // Written here while it was read there, it is newer here.
    if ((await queue.errand(key, o)) !== undefined) return await disk.get(key, o);
    try {
      await disk.put(key, far, o);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      log.debug({ err: error, key }, "what S3 has cannot be kept on the disk");
    }
    return far;
  }

  /** One request for all who ask at once, unless they want to know what was written a moment ago. */
  async #getBehind(bucket: SmallObjects, key: string, o: CallOptions): Promise<Uint8Array | undefined> {
    if (o.latest === true) return await bucket.get(key, o);
    return (await this.#asking.run(key, o, (signal) => bucket.get(key, { signal }))).value;
  }

  /** Undefined, too, where the bucket cannot be asked. */
  async #behind<T>(
    key: string,
    o: CallOptions,
    ask: (bucket: SmallObjects) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const { bucket, queue, log } = this.#deps;
    if (isLocal(key) || (await queue.errand(key, o)) === "delete") return undefined;
    try {
      return await ask(bucket);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      log.debug({ err: error, key }, "S3 cannot be asked for a link or record: it counts as absent");
      return undefined;
    }
  }
}

/** Has the bucket do what waits for it. */
export async function sendObject(
  key: string,
  errand: Errand,
  { disk, bucket }: { readonly disk: SmallObjects; readonly bucket: SmallObjects },
  o: CallOptions,
): Promise<Sent> {
  const bytes = await disk.get(key, o);
  if (bytes !== undefined) await bucket.put(key, bytes, o);
  else if (errand === "delete") await bucket.delete(key, o);
  else return "absent";
  return "sent";
}

/** Of this Weir alone: what it has saved, when it used what, which credentials it keeps back, what it has yet to send. */
function isLocal(key: string): boolean {
  return key.startsWith(RECORDS_PREFIX) && parseKey(key) === undefined;
}

function mayChange(key: string): boolean {
  const kind = parseKey(key)?.kind;
  return kind === "tag" || kind === "tag-record" || kind === "repository-record" || kind === "referrers-record";
}
