import type { ByteStream } from "../base/byte-stream.ts";
import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import { type BlobStore, type OpenBlob, type PendingBlob, StorageError } from "./blob-store.ts";
import type { SmallObjects } from "./small-objects.ts";

/** The label of `weir_storage_*{op=...}`. `blob-ingest` is the taking over of a finished download, however it got there. */
export type StorageOperation =
  | `blob-${"stat" | "open" | "read" | "put" | "ingest" | "delete" | "list"}`
  | `object-${"get" | "put" | "stat" | "delete" | "list"}`;

/** What the storage reports; telemetry/ implements it. */
export interface StorageObserver {
  /** The disk or bucket has answered, or failed to; what goes at the pace of whoever takes it (bodies, lists) is not reported. */
  storageOperation(op: StorageOperation, durationMs: number): void;
  storageFailed(op: StorageOperation): void;
}

export interface MeasureDeps {
  readonly observer: StorageObserver;
  /** Milliseconds that only ever grow, with fractions; as `performance.now`. */
  monotonicMs(): number;
}

/** `store`, with what is asked of it reported. */
export function measuredBlobs(store: BlobStore, deps: MeasureDeps): BlobStore {
  const measure = new Measure(deps);
  const begin = store.begin?.bind(store);
  return {
    name: store.name,
    begin: begin && ((digest, path) => measuredPending(begin(digest, path), digest, measure)),
    stat: (digest, o) => measure.call("blob-stat", digest, o, () => store.stat(digest, o)),
    async open(digest, o) {
      const blob = await measure.call("blob-open", digest, o, () => store.open(digest, o));
      return blob && measuredBlob(blob, digest, measure);
    },
    put: (digest, bytes, o) => measure.call("blob-put", digest, o, () => store.put(digest, bytes, o)),
    ingest: (digest, path, o) => measure.call("blob-ingest", digest, o, () => store.ingest(digest, path, o)),
    delete: (digest, o) => measure.call("blob-delete", digest, o, () => store.delete(digest, o)),
    list: (o) => measure.stream("blob-list", "", o, store.list(o)),
    overhead: (o) => store.overhead(o),
    leftOvers: (o) => measure.stream("blob-list", "", o, store.leftOvers(o)),
    close: () => store.close(),
  };
}

/** `objects`, with what is asked of them reported. */
export function measuredObjects(objects: SmallObjects, deps: MeasureDeps): SmallObjects {
  const measure = new Measure(deps);
  return {
    get: (key, o) => measure.call("object-get", key, o, () => objects.get(key, o)),
    put: (key, bytes, o) => measure.call("object-put", key, o, () => objects.put(key, bytes, o)),
    stat: (key, o) => measure.call("object-stat", key, o, () => objects.stat(key, o)),
    delete: (key, o) => measure.call("object-delete", key, o, () => objects.delete(key, o)),
    list: (prefix, o) => measure.stream("object-list", prefix, o, objects.list(prefix, o)),
  };
}

function measuredPending(pending: PendingBlob, digest: Digest, measure: Measure): PendingBlob {
  return {
    advance: (bytes) => pending.advance(bytes),
    complete: (o) => measure.call("blob-ingest", digest, o, () => pending.complete(o)),
    abort: () => pending.abort(),
  };
}

function measuredBlob(blob: OpenBlob, digest: Digest, measure: Measure): OpenBlob {
  return {
    size: blob.size,
    version: blob.version,
    read: (start, end, o): ByteStream => measure.stream("blob-read", digest, o, blob.read(start, end, o)),
    presign: blob.presign?.bind(blob),
    local: blob.local,
    close: () => blob.close(),
  };
}

class Measure {
  readonly #deps: MeasureDeps;

  constructor(deps: MeasureDeps) {
    this.#deps = deps;
  }

  /** @param about the digest or key */
  async call<T>(op: StorageOperation, about: string, o: CallOptions, work: () => Promise<T>): Promise<T> {
    const { observer, monotonicMs } = this.#deps;
    const startedMs = monotonicMs();
    const step = o.trail?.detail?.begin("storage", { op, about });
    let fault: string | undefined;
    try {
      return await work();
    } catch (error) {
      fault = faultOf(error);
      this.#failed(op, o);
      throw error;
    } finally {
      observer.storageOperation(op, monotonicMs() - startedMs);
      step?.end({ fault });
    }
  }

  async *stream<T>(
    op: StorageOperation,
    about: string,
    o: CallOptions,
    source: AsyncIterable<T>,
  ): AsyncGenerator<T, void, undefined> {
    const step = o.trail?.detail?.begin("storage", { op, about });
    let fault: string | undefined;
    try {
      yield* source;
    } catch (error) {
      fault = faultOf(error);
      this.#failed(op, o);
      throw error;
    } finally {
      step?.end({ fault });
    }
  }

  /** Somebody who does not want to know any more is no failure of the storage. */
  #failed(op: StorageOperation, o: CallOptions): void {
    if (!o.signal.aborted) this.#deps.observer.storageFailed(op);
  }
}

/** What a step of a trail says went wrong. */
function faultOf(error: unknown): string {
  return error instanceof StorageError ? error.fault : "failed";
}
