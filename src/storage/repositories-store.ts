import type { CallOptions } from "../base/call.ts";
import type { Log } from "../base/log.ts";
import { type Digest, isDigest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import {
  blobRecordKey,
  formatLink,
  LAYERS_FOLDER,
  layerLinkKey,
  layersMarkKey,
  layersPrefix,
  MANIFESTS_FOLDER,
  manifestRecordKey,
  parseLinkFile,
  REPOSITORIES_PREFIX,
  referrersPrefix,
  referrersRecordKey,
  repoRecordKey,
  revisionLinkKey,
  revisionsPrefix,
  tagIndexLinkKey,
  tagIndexPrefix,
  tagLinkKey,
  tagRecordKey,
  tagsPrefix,
  upstreamFolder,
  upstreamOfFolder,
} from "./layout.ts";
import {
  formatRecord,
  parseBlobRecord,
  parseManifestRecord,
  parseReferrersRecord,
  parseRepoRecord,
  parseTagRecord,
} from "./records.ts";
import type {
  BlobRecord,
  LinkName,
  ManifestRecord,
  ReferrersRecord,
  RepoRecord,
  Repositories,
  TagEntry,
} from "./repositories.ts";
import type { SmallObjects } from "./small-objects.ts";

/** Tags whose links are read at the same time when a repository's tags are listed. */
const TAGS_AT_ONCE = 16;

/** Who wants to know what repositories come to have. */
export interface LinkObserver {
  /** A link is about to be written; its content is held already. */
  linking(repo: RepoRef, link: LinkName): void;
  /** A link, a tag's meaning or what is known of the repository as a whole was written (`came`), or is gone (`left`). */
  changed?(repo: RepoRef, how: "came" | "left"): void;
}

export function createRepositories(objects: SmallObjects, log: Log, observer?: LinkObserver): Repositories {
  return new RepositoriesStore(objects, log, observer);
}

class RepositoriesStore implements Repositories {
  readonly #objects: SmallObjects;
  readonly #log: Log;
  readonly #observer: LinkObserver | undefined;

  constructor(objects: SmallObjects, log: Log, observer: LinkObserver | undefined) {
    this.#objects = objects;
    this.#log = log;
    this.#observer = observer;
  }

  hasLayer(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean> {
    return this.#hasLink(layerLinkKey(repo, digest), digest, o);
  }

  async linkLayer(repo: RepoRef, digest: Digest, o: CallOptions): Promise<void> {
    this.#observer?.linking(repo, { kind: "layer", digest });
    if (await this.#keep(layerLinkKey(repo, digest), formatLink(digest), o)) this.#came(repo);
  }

  unlinkLayer(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean> {
    return this.#left(repo, this.#objects.delete(layerLinkKey(repo, digest), o));
  }

  async *layers(repo: RepoRef, o: CallOptions): AsyncIterable<Digest> {
    for await (const digest of this.#linksBelow(layersPrefix(repo), o)) {
      if (await this.hasLayer(repo, digest, o)) yield digest;
    }
  }

  hasRevision(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean> {
    return this.#hasLink(revisionLinkKey(repo, digest), digest, o);
  }

  async linkRevision(repo: RepoRef, digest: Digest, o: CallOptions): Promise<void> {
    this.#observer?.linking(repo, { kind: "revision", digest });
    await this.#keep(layersMarkKey(repo), new Uint8Array(), o);
    if (await this.#keep(revisionLinkKey(repo, digest), formatLink(digest), o)) this.#came(repo);
  }

  unlinkRevision(repo: RepoRef, digest: Digest, o: CallOptions): Promise<boolean> {
    return this.#left(repo, this.#objects.delete(revisionLinkKey(repo, digest), o));
  }

  async *revisions(repo: RepoRef, o: CallOptions): AsyncIterable<Digest> {
    for await (const digest of this.#linksBelow(revisionsPrefix(repo), o)) {
      if (await this.hasRevision(repo, digest, o)) yield digest;
    }
  }

  async getTag(repo: RepoRef, tag: string, o: CallOptions): Promise<TagEntry | undefined> {
    const digest = await this.#link(tagLinkKey(repo, tag), o);
    if (digest === undefined) return undefined;
    const record = await this.#record(tagRecordKey(repo, tag), parseTagRecord, o);
    return record?.digest === digest ? record : { digest, checkedAtMs: 0 };
  }

  async putTag(repo: RepoRef, tag: string, entry: TagEntry, o: CallOptions): Promise<void> {
    const link = formatLink(entry.digest);
    await this.#keep(tagIndexLinkKey(repo, tag, entry.digest), link, o);
    if (await this.#keep(tagLinkKey(repo, tag), link, o)) this.#came(repo);
    await this.#keep(tagRecordKey(repo, tag), formatRecord(entry), o);
  }

  async deleteTag(repo: RepoRef, tag: string, o: CallOptions): Promise<boolean> {
    // From here on the tag is gone; what is left over by a crash means nothing without it.
    const deleted = await this.#objects.delete(tagLinkKey(repo, tag), o);
    for await (const digest of this.#linksBelow(tagIndexPrefix(repo, tag), o)) {
      await this.#objects.delete(tagIndexLinkKey(repo, tag, digest), o);
    }
    await this.#objects.delete(tagRecordKey(repo, tag), o);
    return await this.#left(repo, Promise.resolve(deleted));
  }

  async tags(repo: RepoRef, o: CallOptions): Promise<readonly string[]> {
    const names: string[] = [];
    for await (const name of this.tagNames(repo, o)) names.push(name);
    names.sort();
    const tags: string[] = [];
    for (let from = 0; from < names.length; from += TAGS_AT_ONCE) {
      const some = names.slice(from, from + TAGS_AT_ONCE);
      const links = await Promise.all(some.map((tag) => this.#link(tagLinkKey(repo, tag), o)));
      tags.push(...some.filter((_, index) => links[index] !== undefined));
    }
    return tags;
  }

  async *tagNames(repo: RepoRef, o: CallOptions): AsyncIterable<string> {
    for await (const name of this.#objects.list(tagsPrefix(repo), o)) if (name.endsWith("/")) yield name.slice(0, -1);
  }

  async *all(o: CallOptions): AsyncIterable<RepoRef> {
    for await (const repo of this.#withFolder([MANIFESTS_FOLDER], o)) {
      for await (const _ of this.revisions(repo, o)) {
        yield repo;
        break;
      }
    }
  }

  linked(o: CallOptions): AsyncIterable<RepoRef> {
    return this.#withFolder([MANIFESTS_FOLDER, LAYERS_FOLDER], o);
  }

  async isLinked(repo: RepoRef, o: CallOptions): Promise<boolean> {
    // Not by its folders: the mark beside the layers stays when they go.
    for await (const _ of this.linkNames(repo, o)) return true;
    for await (const _ of this.tagNames(repo, o)) return true;
    return false;
  }

  /** The repositories that have one of these folders. */
  async *#withFolder(folders: readonly string[], o: CallOptions): AsyncIterable<RepoRef> {
    const upstreams = (await this.#folders(REPOSITORIES_PREFIX, o)).map(upstreamOfFolder);
    const inOrder = upstreams
      .filter((upstream) => upstream !== undefined)
      .map((upstream) => `${upstream}/`)
      .sort();
    for (const place of inOrder) {
      const upstream = place.slice(0, -1);
      const below = `${REPOSITORIES_PREFIX}${upstreamFolder(upstream)}/`;
      for await (const repository of this.#repositoriesBelow(below, "", folders, o)) yield { upstream, repository };
    }
  }

  async *linkNames(repo: RepoRef, o: CallOptions): AsyncIterable<LinkName> {
    for await (const digest of this.#linksBelow(revisionsPrefix(repo), o)) yield { kind: "revision", digest };
    for await (const digest of this.#linksBelow(layersPrefix(repo), o)) yield { kind: "layer", digest };
  }

  getReferrers(repo: RepoRef, subject: Digest, o: CallOptions): Promise<ReferrersRecord | undefined> {
    return this.#record(referrersRecordKey(repo, subject), parseReferrersRecord, o);
  }

  async putReferrers(repo: RepoRef, subject: Digest, record: ReferrersRecord, o: CallOptions): Promise<void> {
    await this.#keep(referrersRecordKey(repo, subject), formatRecord(record), o);
  }

  deleteReferrers(repo: RepoRef, subject: Digest, o: CallOptions): Promise<boolean> {
    return this.#objects.delete(referrersRecordKey(repo, subject), o);
  }

  async *referrersSubjects(repo: RepoRef, o: CallOptions): AsyncIterable<Digest> {
    const prefix = referrersPrefix(repo);
    for (const algorithm of await this.#folders(prefix, o)) {
      for (const shard of await this.#folders(`${prefix}${algorithm}/`, o)) {
        for await (const name of this.#objects.list(`${prefix}${algorithm}/${shard}/`, o)) {
          const digest = `${algorithm}:${name.replace(/\.json$/, "")}`;
          if (isDigest(digest)) yield digest;
        }
      }
    }
  }

  getManifestRecord(digest: Digest, o: CallOptions): Promise<ManifestRecord | undefined> {
    return this.#record(manifestRecordKey(digest), parseManifestRecord, o);
  }

  async putManifestRecord(digest: Digest, record: ManifestRecord, o: CallOptions): Promise<void> {
    await this.#keep(manifestRecordKey(digest), formatRecord(record), o);
  }

  deleteManifestRecord(digest: Digest, o: CallOptions): Promise<boolean> {
    return this.#objects.delete(manifestRecordKey(digest), o);
  }

  getBlobRecord(digest: Digest, o: CallOptions): Promise<BlobRecord | undefined> {
    return this.#record(blobRecordKey(digest), parseBlobRecord, o);
  }

  async putBlobRecord(digest: Digest, record: BlobRecord, o: CallOptions): Promise<void> {
    await this.#keep(blobRecordKey(digest), formatRecord(record), o);
  }

  deleteBlobRecord(digest: Digest, o: CallOptions): Promise<boolean> {
    return this.#objects.delete(blobRecordKey(digest), o);
  }

  getRepoRecord(repo: RepoRef, o: CallOptions): Promise<RepoRecord | undefined> {
    return this.#record(repoRecordKey(repo), parseRepoRecord, o);
  }

  async putRepoRecord(repo: RepoRef, record: RepoRecord, o: CallOptions): Promise<void> {
    if (await this.#keep(repoRecordKey(repo), formatRecord(record), o)) this.#came(repo);
  }

  deleteRepoRecord(repo: RepoRef, o: CallOptions): Promise<boolean> {
    return this.#objects.delete(repoRecordKey(repo), o);
  }

  #came(repo: RepoRef): void {
    this.#observer?.changed?.(repo, "came");
  }

  async #left(repo: RepoRef, deleting: Promise<boolean>): Promise<boolean> {
    const deleted = await deleting;
    if (deleted) this.#observer?.changed?.(repo, "left");
    return deleted;
  }

  /**
   * Writes what is not there already: reading is far cheaper than a durable write, and most pulls repeat themselves. True
   * when there was something to write.
   */
  async #keep(key: string, bytes: Uint8Array, o: CallOptions): Promise<boolean> {
    const held = await this.#objects.get(key, o);
    if (held !== undefined && Buffer.compare(held, bytes) === 0) return false;
    await this.#objects.put(key, bytes, o);
    return true;
  }

  async #link(key: string, o: CallOptions): Promise<Digest | undefined> {
    const bytes = await this.#objects.get(key, o);
    return bytes === undefined ? undefined : parseLinkFile(bytes);
  }

  async #hasLink(key: string, digest: Digest, o: CallOptions): Promise<boolean> {
    return (await this.#link(key, o)) === digest;
  }

  async #record<T>(key: string, parse: (bytes: Uint8Array) => T | undefined, o: CallOptions): Promise<T | undefined> {
    const bytes = await this.#objects.get(key, o);
    if (bytes === undefined) return undefined;
    const record = parse(bytes);
    if (record === undefined) this.#log.debug({ key }, "a malformed record counts as absent");
    return record;
  }

  /** The digests of which `prefix` has a folder `<alg>/<hex>/`. */
  async *#linksBelow(prefix: string, o: CallOptions): AsyncIterable<Digest> {
    for (const algorithm of await this.#folders(prefix, o)) {
      for await (const name of this.#objects.list(`${prefix}${algorithm}/`, o)) {
        const digest = `${algorithm}:${name.slice(0, -1)}`;
        if (name.endsWith("/") && isDigest(digest)) yield digest;
      }
    }
  }

  /** The folders directly under `prefix`, without their `/`. */
  async #folders(prefix: string, o: CallOptions): Promise<string[]> {
    const folders: string[] = [];
    for await (const name of this.#objects.list(prefix, o)) if (name.endsWith("/")) folders.push(name.slice(0, -1));
    return folders;
  }

  /**
   * The repositories under `prefix` in the order of their names, in which `a`, `a-b` and `a/b` stand so: what is below a
   * folder is put in its place by the folder's name with its `/`, the repository that the folder is by its name without.
   */
  async *#repositoriesBelow(
    prefix: string,
    parent: string,
    wanted: readonly string[],
    o: CallOptions,
  ): AsyncIterable<string> {
    const places: string[] = [];
    for (const folder of await this.#folders(prefix, o)) if (!folder.startsWith("_")) places.push(folder, `${folder}/`);
    places.sort();
    for (const place of places) {
      if (place.endsWith("/")) {
        yield* this.#repositoriesBelow(`${prefix}${place}`, `${parent}${place}`, wanted, o);
      } else if ((await this.#folders(`${prefix}${place}/`, o)).some((folder) => wanted.includes(folder))) {
        yield `${parent}${place}`;
      }
    }
  }
}
