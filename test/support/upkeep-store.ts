/** A store on a real folder with one image in it, for the tests of what looks after it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { type Digest, parseDigest } from "../../src/oci/digest.ts";
import type { RepoRef } from "../../src/oci/reference.ts";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import { createCachedObjects } from "../../src/storage/cached-objects.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createFsInspector } from "../../src/storage/fs/fs-inspector.ts";
import { createFsSmallObjects, readFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import type { StoreInspector } from "../../src/storage/inspector.ts";
import type { Repositories } from "../../src/storage/repositories.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import type { SmallObjects } from "../../src/storage/small-objects.ts";
import type { Image } from "./images.ts";
import { tempFolder } from "./processes.ts";

export interface UpkeepStore {
  readonly root: string;
  readonly blobs: BlobStore;
  /** What lies there. */
  readonly stored: SmallObjects;
  /** As serving uses them, with a cache in front. */
  readonly objects: SmallObjects;
  readonly repositories: Repositories;
  readonly inspector: StoreInspector;
  /** Keeps an image as pulling it does. */
  keep(repo: RepoRef, tags: readonly string[], image: Image): Promise<void>;
  path(key: string): string;
  read(key: string): Promise<string>;
}

export const call = { signal: new AbortController().signal };

export async function createUpkeepStore(stack: AsyncDisposableStack, folder?: string): Promise<UpkeepStore> {
  const root = folder ?? (await tempFolder(stack));
  const blobs = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
  const objects = createCachedObjects(await createFsSmallObjects({ root }));
  const repositories = createRepositories(objects, silentLog);
  const path = (key: string): string => join(root, key);
  return {
    root,
    blobs,
    stored: readFsSmallObjects({ root }),
    objects,
    repositories,
    inspector: createFsInspector({ root }),
    async keep(repo, tags, image) {
      for (const { digest, bytes } of image.blobs) {
        await blobs.put(parseDigest(digest), bytes, call);
        await repositories.linkLayer(repo, parseDigest(digest), call);
      }
      for (const { digest: text, bytes, mediaType } of image.manifests) {
        const digest = parseDigest(text);
        await blobs.put(digest, bytes, call);
        await repositories.linkRevision(repo, digest, call);
        await repositories.putManifestRecord(digest, { mediaType, size: bytes.length }, call);
      }
      const digest = parseDigest(image.root.digest);
      for (const tag of tags) await repositories.putTag(repo, tag, { digest, checkedAtMs: 1 }, call);
    },
    path,
    read: (key) => readFile(path(key), "utf8"),
  };
}

/** The digests of an image's manifests and blobs. */
export function digestsOf(image: Image): readonly Digest[] {
  return [...image.manifests, ...image.blobs].map(({ digest }) => parseDigest(digest));
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
