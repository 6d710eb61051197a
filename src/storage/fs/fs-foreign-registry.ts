import { randomUUID } from "node:crypto";
import { link, open, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { CallOptions } from "../../base/call.ts";
import { createHasher, type Digest, digestAlgorithm, isDigest } from "../../oci/digest.ts";
import { StorageError } from "../blob-store.ts";
import type { ForeignRegistry } from "../foreign-registry.ts";
import {
  blobKey,
  LAYERS_FOLDER,
  MANIFESTS_FOLDER,
  parseLinkFile,
  placePrefix,
  REPOSITORIES_PREFIX,
  repoOfPlace,
  TEMPORARY_FOLDER,
} from "../layout.ts";
import type { SmallObjects } from "../small-objects.ts";
import { copyToTemporary, pathInRoot } from "./durable.ts";
import { asStorageError, errnoOf, isMissing } from "./errno.ts";
import { readFsSmallObjects } from "./fs-small-objects.ts";

/** Bytes read at a time when a file is hashed. */
const READ_CHUNK = 1 << 20;

/**
 * What a stock registry keeps in `folder`, to be adopted into `root`. Rejects with a {@link StorageError} whose message tells
 * the operator what to do when it is no such folder.
 */
export async function openForeignRegistry(o: {
  readonly folder: string;
  readonly root: string;
}): Promise<ForeignRegistry> {
  try {
    await stat(join(o.folder, REPOSITORIES_PREFIX));
  } catch (error) {
    if (!isMissing(error) && errnoOf(error) !== "ENOTDIR") throw asStorageError(error, `looking into ${o.folder}`);
    throw new StorageError(
      "unavailable",
      `${o.folder} holds no ${REPOSITORIES_PREFIX}: name the folder that is the registry's storage.filesystem.rootdirectory`,
    );
  }
  const folder = await realpath(o.folder);
  return new FsForeignRegistry(folder, o.root, folder === (await realpath(o.root)));
}

class FsForeignRegistry implements ForeignRegistry {
  readonly inPlace: boolean;
  readonly #folder: string;
  readonly #root: string;
  readonly #objects: SmallObjects;

  constructor(folder: string, root: string, inPlace: boolean) {
    this.#folder = folder;
    this.#root = root;
    this.inPlace = inPlace;
    this.#objects = readFsSmallObjects({ root: folder });
  }

  repositories(o: CallOptions): AsyncIterable<string> {
    return this.#below("", o);
  }

  layers(name: string, o: CallOptions): AsyncIterable<Digest> {
    return this.#links(`${placePrefix(name)}${LAYERS_FOLDER}/`, o);
  }

  revisions(name: string, o: CallOptions): AsyncIterable<Digest> {
    return this.#links(`${placePrefix(name)}${MANIFESTS_FOLDER}/revisions/`, o);
  }

  async *tags(name: string, o: CallOptions): AsyncIterable<{ readonly tag: string; readonly digest: Digest }> {
    const prefix = `${placePrefix(name)}${MANIFESTS_FOLDER}/tags/`;
    for (const tag of await this.#folders(prefix, o)) {
      const digest = await this.#link(`${prefix}${tag}/current/link`, o);
      if (digest !== undefined) yield { tag, digest };
    }
  }

  async sizeOf(digest: Digest, o: CallOptions): Promise<number | undefined> {
    o.signal.throwIfAborted();
    try {
      const stats = await stat(this.#path(digest));
      return stats.isFile() && stats.size > 0 ? stats.size : undefined;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw asStorageError(error, `looking for blob ${digest} in ${this.#folder}`);
    }
  }

  async isSound(digest: Digest, o: CallOptions): Promise<boolean> {
    try {
      const file = await open(this.#path(digest), "r");
      try {
        const hasher = createHasher(digestAlgorithm(digest));
        const buffer = Buffer.allocUnsafe(READ_CHUNK);
        for (;;) {
          o.signal.throwIfAborted();
          const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
          if (bytesRead === 0) return hasher.digest() === digest;
          hasher.update(buffer.subarray(0, bytesRead));
        }
      } finally {
        await file.close();
      }
    } catch (error) {
      throw asStorageError(error, `reading blob ${digest} in ${this.#folder}`);
    }
  }

  async take(digest: Digest, o: CallOptions): Promise<{ readonly path: string; readonly how: "linked" | "copied" }> {
    const source = this.#path(digest);
    const path = join(this.#root, TEMPORARY_FOLDER, `import-${randomUUID()}`);
    try {
      await link(source, path);
      return { path, how: "linked" };
    } catch (error) {
      const code = errnoOf(error);
      // Another device, a filesystem without links, somebody else's file, too many links: the bytes will do.
      if (code !== "EXDEV" && code !== "EPERM" && code !== "EMLINK" && code !== "ENOTSUP") {
        throw asStorageError(error, `linking blob ${digest} from ${this.#folder}`);
      }
    }
    try {
      const file = await open(source, "r");
      try {
        return { path: await copyToTemporary(this.#root, file, o.signal), how: "copied" };
      } finally {
        await file.close();
      }
    } catch (error) {
      throw asStorageError(error, `copying blob ${digest} from ${this.#folder}`);
    }
  }

  #path(digest: Digest): string {
    return pathInRoot(this.#folder, blobKey(digest));
  }

  async *#below(parent: string, o: CallOptions): AsyncIterable<string> {
    for (const folder of await this.#folders(`${REPOSITORIES_PREFIX}${parent}`, o)) {
      const name = `${parent}${folder}`;
      if (folder.startsWith("_")) continue;
      // In its own folder Weir has put those below their upstreams already.
      if (this.inPlace && repoOfPlace(`${name}/any`) !== undefined && parent === "") continue;
      const inside = await this.#folders(placePrefix(name), o);
      if (inside.includes(LAYERS_FOLDER) || inside.includes(MANIFESTS_FOLDER)) yield name;
      yield* this.#below(`${name}/`, o);
    }
  }

  async *#links(prefix: string, o: CallOptions): AsyncIterable<Digest> {
    for (const algorithm of await this.#folders(prefix, o)) {
      for (const hex of await this.#folders(`${prefix}${algorithm}/`, o)) {
        const digest = `${algorithm}:${hex}`;
        if (isDigest(digest) && (await this.#link(`${prefix}${algorithm}/${hex}/link`, o)) === digest) yield digest;
      }
    }
  }

  async #link(key: string, o: CallOptions): Promise<Digest | undefined> {
    const bytes = await this.#objects.get(key, o);
    return bytes && parseLinkFile(bytes);
  }

  async #folders(prefix: string, o: CallOptions): Promise<string[]> {
    const folders: string[] = [];
    for await (const name of this.#objects.list(prefix, o)) if (name.endsWith("/")) folders.push(name.slice(0, -1));
    return folders;
  }
}
