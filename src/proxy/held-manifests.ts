import { LRUCache } from "lru-cache";
import type { CallOptions } from "../base/call.ts";
import type { Log } from "../base/log.ts";
import { type Digest, digestAlgorithm, digestOf } from "../oci/digest.ts";
import { inferMediaType, parseManifest } from "../oci/manifest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { type BlobStore, StorageError } from "../storage/blob-store.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { ManifestBody } from "../upstream/upstream.ts";
import type { Visibility } from "./answers.ts";
import type { Provenance } from "./provenance.ts";
import type { ReadyAnswers } from "./ready.ts";
import { recorded } from "./recorded.ts";
import type { Room } from "./room.ts";

/** A manifest with the bytes that hash to its digest. */
export interface HeldManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** What is larger is some blob that is asked for as a manifest; it is not read into memory to find that out. */
const MAX_MANIFEST_BYTES = 64 << 20;

/** Bytes of the manifests kept in memory: some ten thousand of the usual size. */
const MAX_MEMORY_BYTES = 64 << 20;

export interface HeldManifestsDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  readonly provenance: Provenance;
  readonly room: Pick<Room, "touch">;
  readonly ready: Pick<ReadyAnswers, "forget">;
  readonly log: Log;
}

/** The manifests in storage. Bytes go in and out as they are. */
export class HeldManifests {
  readonly #deps: HeldManifestsDeps;
  /** Verified once, they cannot become wrong; whether a repository may serve them is asked elsewhere each time. */
  readonly #memory = new LRUCache<Digest, HeldManifest>({
    maxSize: MAX_MEMORY_BYTES,
    sizeCalculation: ({ bytes, mediaType }) => bytes.length + mediaType.length + 200,
  });

  constructor(deps: HeldManifestsDeps) {
    this.#deps = deps;
  }

  /**
   * The manifest, whose bytes are hashed when they are read from storage. What is missing, damaged (and then deleted) or
   * cannot be read is undefined, so that it is fetched again.
   */
  async read(digest: Digest, o: CallOptions): Promise<HeldManifest | undefined> {
    const inMemory = this.#memory.get(digest);
    if (inMemory !== undefined) {
      this.#deps.room.touch(digest);
      return inMemory;
    }
    try {
      const bytes = await this.#bytes(digest, o);
      if (bytes === undefined) {
        return undefined;
      }
      const manifest = { digest, bytes, mediaType: await this.#mediaType(digest, bytes, o) };
      this.#memory.set(digest, manifest);
      return manifest;
    } catch (error) {
      if (!(error instanceof StorageError)) {
        throw error;
      }
      this.#deps.log.warn({ err: error, digest }, "a held manifest could not be read");
      return undefined;
    }
  }

  /**
   * Keeps what an upstream delivered and links it to the repository. `stored` is false where storage failed: the
   * manifest can be answered with all the same.
   */
  async keep(
    repo: RepoRef,
    visibility: Visibility,
    body: ManifestBody,
    o: CallOptions,
  ): Promise<{ readonly manifest: HeldManifest; readonly stored: boolean }> {
    const { digest, bytes, mediaType } = body;
    const { blobs, repositories, provenance, log } = this.#deps;
    const stored = await recorded(log, `${formatRepo(repo)}@${digest}`, async () => {
      await blobs.put(digest, bytes, o);
      await repositories.linkRevision(repo, digest, o);
      await repositories.putManifestRecord(digest, { mediaType, size: bytes.length }, o);
      await provenance.received(digest, { visibility, upstream: repo.upstream }, o);
    });
    return { manifest: { digest, bytes, mediaType }, stored };
  }

  /** It was deleted: from now on storage is asked again. */
  forget(digest: Digest): void {
    this.#memory.delete(digest);
  }

  async #bytes(digest: Digest, o: CallOptions): Promise<Uint8Array | undefined> {
    const { blobs, ready, log } = this.#deps;
    const blob = await blobs.open(digest, o);
    if (blob === undefined) {
      return undefined;
    }
    const bytes = Buffer.alloc(Math.min(blob.size, MAX_MANIFEST_BYTES));
    try {
      if (blob.size > MAX_MANIFEST_BYTES) {
        return undefined;
      }
      let position = 0;
      for await (const chunk of blob.read(0, blob.size, o)) {
        bytes.set(chunk, position);
        position += chunk.length;
      }
    } finally {
      await blob.close();
    }
    if (digestOf(bytes, digestAlgorithm(digest)) === digest) {
      return bytes;
    }
    log.error({ digest }, "a held manifest does not hash to its digest: deleting it, so that it is fetched again");
    await blobs.delete(digest, o);
    ready.forget(digest);
    return undefined;
  }

  /** Adopted content has no record: then the document says what it is. */
  async #mediaType(digest: Digest, bytes: Uint8Array, o: CallOptions): Promise<string> {
    const record = await this.#deps.repositories.getManifestRecord(digest, o);
    return record?.mediaType ?? inferMediaType(parseManifest(bytes), undefined);
  }
}
