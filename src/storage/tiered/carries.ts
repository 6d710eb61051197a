import { randomUUID } from "node:crypto";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { ByteStream } from "../../base/byte-stream.ts";
import type { CallOptions } from "../../base/call.ts";
import { saysDiskFull } from "../../base/disk-full.ts";
import type { Log } from "../../base/log.ts";
import { waitFor } from "../../base/wait-for.ts";
import { createHasher, type Digest, digestAlgorithm } from "../../oci/digest.ts";
import { type BlobStore, type OpenBlob, StorageError } from "../blob-store.ts";
import { TEMPORARY_FOLDER } from "../layout.ts";

/** What the disk's room does for a blob that comes from the bucket; the room of proxy/ is one. */
export interface DiskRoom {
  reserve(bytes: number, o: CallOptions): Promise<{ readonly keep: boolean; release(): void }>;
  emergency(bytes: number, o: CallOptions): Promise<boolean>;
  /** A blob is wanted that only the bucket has, or is to have. */
  used(digest: Digest): void;
  /** Bytes that the disk may hold; undefined where there is no limit. */
  limitBytes(): number | undefined;
}

export interface CarriesDeps {
  /** The disk's blobs. */
  readonly disk: BlobStore;
  /** The disk's root. */
  readonly root: string;
  readonly room: DiskRoom;
  /** The bucket is still to lose it. */
  isDeleted(digest: Digest, o: CallOptions): Promise<boolean>;
  /** The bucket has something else under the blob's name. */
  damaged(digest: Digest, o: CallOptions): Promise<void>;
  readonly log: Log;
}

/** On their way at once; further blobs are read from the bucket and not kept. */
const AT_ONCE = 64;

/** A reader that wants to begin further ahead than this reads from the bucket. */
const AHEAD_BYTES = 8 << 20;

/** Bytes read from the file at a time, for each reader. */
const READ_BYTES = 256 << 10;

/**
 * Blobs on their way from the bucket to the disk: one request for each, whoever reads it meanwhile. The last bytes are held
 * back until the digest is verified. Where the disk cannot take it, readers go on from the bucket.
 */
export class Carries {
  readonly #deps: CarriesDeps;
  readonly #running = new Map<Digest, Carry>();
  readonly #stop = new AbortController();

  constructor(deps: CarriesDeps) {
    this.#deps = deps;
  }

  /** Bytes `start` to `end` (exclusive) of the blob, which comes to lie on the disk. */
  async *read(digest: Digest, far: OpenBlob, start: number, end: number, o: CallOptions): ByteStream {
    o.signal.throwIfAborted();
    let position = start;
    const running = this.#running.get(digest);
    // One that is over since the blob was opened has brought it here.
    const near = running === undefined ? await this.#deps.disk.open(digest, o) : undefined;
    if (near !== undefined) {
      try {
        yield* near.read(start, end, o);
        return;
      } finally {
        await near.close();
      }
    }
    if (await this.#deps.isDeleted(digest, o)) {
      throw new StorageError("corrupt", `blob ${digest} was deleted`);
    }
    const carry = running ?? this.#running.get(digest) ?? this.#begin(digest, far);
    if (carry !== undefined && start <= carry.position + AHEAD_BYTES) {
      for await (const chunk of carry.follow(start, end, o)) {
        position += chunk.length;
        yield chunk;
      }
    }
    if (position < end) yield* far.read(position, end, o);
  }

  /** When it resolves, nothing of the blob is on its way any more. */
  async drop(digest: Digest): Promise<void> {
    const carry = this.#running.get(digest);
    carry?.stop(new StorageError("corrupt", `blob ${digest} was deleted`));
    await carry?.over;
  }

  async close(): Promise<void> {
    this.#stop.abort(new StorageError("unavailable", "the store is closed"));
    await Promise.all([...this.#running.values()].map((carry) => carry.over));
  }

  #begin(digest: Digest, far: OpenBlob): Carry | undefined {
    if (this.#running.size >= AT_ONCE || this.#stop.signal.aborted) return undefined;
    const carry = new Carry(digest, far, this.#deps, this.#stop.signal);
    this.#running.set(digest, carry);
    void carry.over.then(() => this.#running.delete(digest));
    return carry;
  }
}

class Carry {
  /** Resolves when it is over, whichever way. */
  readonly over: Promise<void>;
  readonly #digest: Digest;
  readonly #far: OpenBlob;
  readonly #deps: CarriesDeps;
  readonly #signal: AbortSignal;
  readonly #dropped = new AbortController();
  #file: FileHandle | undefined;
  /** Those who read the file, this one included while it writes. */
  #holders = 1;
  #readable = 0;
  #ended = false;
  #error: StorageError | undefined;
  #changed = Promise.withResolvers<void>();

  constructor(digest: Digest, far: OpenBlob, deps: CarriesDeps, signal: AbortSignal) {
    this.#digest = digest;
    this.#far = far;
    this.#deps = deps;
    this.#signal = AbortSignal.any([signal, this.#dropped.signal]);
    this.over = this.#run();
  }

  /** Bytes that can be read. */
  get position(): number {
    return this.#readable;
  }

  stop(reason: StorageError): void {
    this.#dropped.abort(reason);
  }

  /** As far as it comes: a reader goes on from the bucket where it ends early. Throws where the bucket's bytes are wrong. */
  async *follow(start: number, end: number, o: CallOptions): ByteStream {
    this.#holders += 1;
    try {
      const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, Math.max(1, end - start)));
      for (let position = start; position < end; ) {
        while (position >= this.#readable && !this.#ended) await waitFor(this.#changed.promise, o.signal);
        o.signal.throwIfAborted();
        if (this.#error !== undefined) throw this.#error;
        const wanted = Math.min(buffer.length, end - position, this.#readable - position);
        if (wanted <= 0 || this.#file === undefined) return;
        const { bytesRead } = await this.#file.read(buffer, 0, wanted, position);
        if (bytesRead === 0) return;
        position += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await this.#leave();
    }
  }

  async #run(): Promise<void> {
    const { root, room, log } = this.#deps;
    const digest = this.#digest;
    const path = join(root, TEMPORARY_FOLDER, `carry-${randomUUID()}`);
    const o = { signal: this.#signal };
    let release = (): void => {};
    try {
      const reservation = await room.reserve(this.#far.size, o);
      release = () => reservation.release();
      if (reservation.keep) await this.#carry(path, release, o);
    } catch (error) {
      if (error instanceof StorageError && error.fault === "corrupt") this.#error = error;
      if (!o.signal.aborted) log.warn({ err: error, digest }, "a blob could not be brought from S3 to the disk");
    } finally {
      release();
      this.#ended = true;
      this.#ring();
      await unlink(path).catch(() => undefined);
      await this.#leave();
    }
  }

  async #carry(path: string, release: () => void, o: CallOptions): Promise<void> {
    const { disk, damaged } = this.#deps;
    const { size } = this.#far;
    const file = await this.#retried(() => open(path, "wx+"), o);
    this.#file = file;
    const hasher = createHasher(digestAlgorithm(this.#digest));
    let written = 0;
    for await (const chunk of this.#far.read(0, size, o)) {
      await this.#retried(() => file.write(chunk, 0, chunk.length, written), o);
      hasher.update(chunk);
      written += chunk.length;
      if (written < size) this.#show(written);
    }
    if (hasher.digest() !== this.#digest) {
      await damaged(this.#digest, o);
      throw new StorageError("corrupt", `the bucket's blob ${this.#digest} does not hash to its digest`);
    }
    this.#show(size);
    await disk.ingest(this.#digest, path, o);
    // In one go with its being counted as held: counted twice, it would cost others their room.
    release();
  }

  /** Once more where the disk was full and something could be evicted. */
  async #retried<T>(work: () => Promise<T>, o: CallOptions): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!saysDiskFull(error) || !(await this.#deps.room.emergency(this.#far.size, o))) throw error;
      return await work();
    }
  }

  #show(bytes: number): void {
    this.#readable = bytes;
    this.#ring();
  }

  #ring(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async #leave(): Promise<void> {
    this.#holders -= 1;
    if (this.#holders > 0) return;
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}
