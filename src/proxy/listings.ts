import { LRUCache } from "lru-cache";
import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { parseManifest } from "../oci/manifest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { HeldManifest, HeldManifests } from "./held-manifests.ts";

/** Descriptors remembered over all manifests: about 50 MB, the content of some 20,000 images. */
const MAX_DESCRIPTORS = 300_000;

/** Manifests of one repository that are looked through for a digest. Beyond it, its upstream is asked instead. */
const MAX_REVISIONS = 10_000;

/** What one manifest lists: blobs and child manifests, by digest, with their sizes in bytes. */
type Listing = ReadonlyMap<Digest, number>;

/** What the held manifests of repositories list. */
export class Listings {
  readonly #repositories: Repositories;
  readonly #manifests: Pick<HeldManifests, "read">;
  /** By the manifest's digest, so that nothing in it can become wrong. */
  readonly #known = new LRUCache<Digest, Listing>({
    maxSize: MAX_DESCRIPTORS,
    sizeCalculation: (listing) => Math.max(1, listing.size),
  });

  constructor(repositories: Repositories, manifests: Pick<HeldManifests, "read">) {
    this.#repositories = repositories;
    this.#manifests = manifests;
  }

  /** The size, in bytes, that a held manifest of this repository gives the digest; undefined where none lists it. */
  async sizeOf(repo: RepoRef, digest: Digest, o: CallOptions): Promise<number | undefined> {
    let left = MAX_REVISIONS;
    for await (const revision of this.#repositories.revisions(repo, o)) {
      const size = (await this.#listing(revision, o)).get(digest);
      left -= 1;
      if (size !== undefined || left === 0) {
        return size;
      }
    }
    return undefined;
  }

  /** The manifest was deleted. */
  forget(digest: Digest): void {
    this.#known.delete(digest);
  }

  async #listing(revision: Digest, o: CallOptions): Promise<Listing> {
    const known = this.#known.get(revision);
    if (known !== undefined) {
      return known;
    }
    const manifest = await this.#manifests.read(revision, o);
    if (manifest === undefined) {
      return new Map();
    }
    const listing = listed(manifest);
    this.#known.set(revision, listing);
    return listing;
  }
}

function listed(manifest: HeldManifest): Listing {
  try {
    const { blobs, children } = parseManifest(manifest.bytes);
    return new Map([...blobs, ...children].map(({ digest, size }) => [digest, size]));
  } catch (error) {
    if (error instanceof OciError) {
      return new Map();
    }
    throw error;
  }
}
