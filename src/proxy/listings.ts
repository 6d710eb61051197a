import { LRUCache } from "lru-cache";
import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { type ParsedManifest, type Platform, parseManifest } from "../oci/manifest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { HeldManifest, HeldManifests } from "./held-manifests.ts";

/** Descriptors remembered over all manifests: about 50 MB, the content of some 20,000 images. */
const MAX_DESCRIPTORS = 300_000;

/** Manifests of one repository that are looked through for a digest. Beyond it, its upstream is asked instead. */
const MAX_REVISIONS = 10_000;

/** What one manifest lists. */
interface Listing {
  /** Blobs and child manifests, in bytes. */
  readonly sizes: ReadonlyMap<Digest, number>;
  /** The platforms of child manifests, as far as they have any. */
  readonly platforms: ReadonlyMap<Digest, readonly (Platform | undefined)[]>;
}

const NOTHING: Listing = { sizes: new Map(), platforms: new Map() };

/** What the held manifests of repositories list. */
export class Listings {
  readonly #repositories: Repositories;
  readonly #manifests: Pick<HeldManifests, "read">;
  /** By the manifest's digest, so that nothing in it can become wrong. */
  readonly #known = new LRUCache<Digest, Listing>({
    maxSize: MAX_DESCRIPTORS,
    sizeCalculation: ({ sizes, platforms }) => Math.max(1, sizes.size + platforms.size),
  });

  constructor(repositories: Repositories, manifests: Pick<HeldManifests, "read">) {
    this.#repositories = repositories;
    this.#manifests = manifests;
  }

  /** The size, in bytes, that a held manifest of this repository gives the digest; undefined where none lists it. */
  async sizeOf(repo: RepoRef, digest: Digest, o: CallOptions): Promise<number | undefined> {
    for await (const [, { sizes }] of this.#all(repo, o)) {
      const size = sizes.get(digest);
      if (size !== undefined) {
        return size;
      }
    }
    return undefined;
  }

  /** What the held indexes of this repository say of a manifest's platform, for each time that one lists it. */
  async platformsOf(repo: RepoRef, digest: Digest, o: CallOptions): Promise<readonly (Platform | undefined)[]> {
    const found: (Platform | undefined)[] = [];
    for await (const [, { platforms }] of this.#all(repo, o)) {
      found.push(...(platforms.get(digest) ?? []));
    }
    return found;
  }

  /** The held manifests of this repository that list the digest. */
  async listedBy(repo: RepoRef, digest: Digest, o: CallOptions): Promise<readonly Digest[]> {
    const found: Digest[] = [];
    for await (const [revision, { sizes }] of this.#all(repo, o)) {
      if (sizes.has(digest)) {
        found.push(revision);
      }
    }
    return found;
  }

  /** The manifest was deleted. */
  forget(digest: Digest): void {
    this.#known.delete(digest);
  }

  async *#all(repo: RepoRef, o: CallOptions): AsyncGenerator<readonly [Digest, Listing], void, undefined> {
    let left = MAX_REVISIONS;
    for await (const revision of this.#repositories.revisions(repo, o)) {
      yield [revision, await this.#listing(revision, o)];
      left -= 1;
      if (left === 0) {
        return;
      }
    }
  }

  async #listing(revision: Digest, o: CallOptions): Promise<Listing> {
    const known = this.#known.get(revision);
    if (known !== undefined) {
      return known;
    }
    const manifest = await this.#manifests.read(revision, o);
    if (manifest === undefined) {
      return NOTHING;
    }
    const listing = listed(manifest);
    this.#known.set(revision, listing);
    return listing;
  }
}

function listed(manifest: HeldManifest): Listing {
  try {
    const { blobs, children } = parseManifest(manifest.bytes);
    return {
      sizes: new Map([...blobs, ...children].map(({ digest, size }) => [digest, size])),
      platforms: platformsOf(children),
    };
  } catch (error) {
    if (error instanceof OciError) {
      return NOTHING;
    }
    throw error;
  }
}

function platformsOf(children: ParsedManifest["children"]): Listing["platforms"] {
  const platforms = new Map<Digest, readonly (Platform | undefined)[]>();
  for (const { digest, platform } of children) {
    platforms.set(digest, [...(platforms.get(digest) ?? []), platform]);
  }
  return platforms;
}
