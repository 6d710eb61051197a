import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { type Digest, digestAlgorithm, digestOf } from "../oci/digest.ts";
import { inferMediaType, parseManifest } from "../oci/manifest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { BlobStore } from "./blob-store.ts";
import type { StoreEntry } from "./inspector.ts";
import {
  formatLink,
  type LayoutKey,
  layersMarkKey,
  manifestRecordKey,
  parseKey,
  parseLinkFile,
  repoOfPlace,
  revisionLinkKey,
  tagLinkKey,
  tagRecordKey,
} from "./layout.ts";
import { readWhole } from "./read-whole.ts";
import {
  parseBlobRecord,
  parseManifestRecord,
  parseReferrersRecord,
  parseRepoRecord,
  parseTagRecord,
} from "./records.ts";
import type { ManifestRecord, Repositories } from "./repositories.ts";
import type { SmallObjects } from "./small-objects.ts";
import type { VerifyFinding } from "./verify.ts";

/** What is younger may be half of what somebody is writing just now: a link whose record has yet to follow. */
const GRACE_MS = 60_000;

/** More than any limit for manifests lets in; a larger file under a manifest's link is some blob. */
const MAX_MANIFEST_BYTES = 64 << 20;

export interface LinkCheckDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  readonly stored: SmallObjects;
  readonly objects: SmallObjects;
  readonly clock: Clock;
}

type Found = Omit<VerifyFinding, "event">;

/** Links and records, one at a time. What is wrong is put right where the rest tells how. */
export class LinkChecks {
  readonly #deps: LinkCheckDeps;
  #notHeld = 0;
  /** The last repository below no upstream: each is told once, not with all its files. */
  #strange = "";
  #marked = "";

  constructor(deps: LinkCheckDeps) {
    this.#deps = deps;
  }

  /** Links so far whose blob is not held. */
  get notHeld(): number {
    return this.#notHeld;
  }

  async check(entry: StoreEntry, o: CallOptions): Promise<readonly Found[]> {
    const { key } = entry;
    const parsed = entry.kind === "file" ? parseKey(key) : undefined;
    if (parsed === undefined) {
      return [{ problem: "foreign", key, detail: "nothing of Weir is called so", action: "left" }];
    }
    if (!("place" in parsed)) return await this.#global(parsed, key, o);
    const repo = repoOfPlace(parsed.place);
    if (repo === undefined) return this.#belowNoUpstream(parsed.place, key);
    const young = this.#deps.clock.now() - entry.changedAtMs < GRACE_MS;
    switch (parsed.kind) {
      case "layer":
        return await this.#linkTo(parsed.digest, key, o);
      case "revision":
        return [
          ...(await this.#linkTo(parsed.digest, key, o)),
          ...(await this.#mark(repo, parsed.place, o)),
          ...(young ? [] : await this.#manifestRecord(parsed.digest, o)),
        ];
      case "tag":
        return await this.#tag(repo, parsed.tag, key, young, o);
      case "tag-index":
        return (await this.#isThere(tagLinkKey(repo, parsed.tag), o)) || young
          ? await this.#linkContent(parsed.digest, key, o)
          : await this.#drop(key, "incomplete", "the history of a tag that is gone", o);
      case "tag-record":
        return await this.#tagRecord(repo, parsed.tag, key, young, o);
      case "repository-record":
        return await this.#record(key, parseRepoRecord, o);
      case "referrers-record":
        return await this.#record(key, parseReferrersRecord, o);
      case "mark":
        return [];
    }
  }

  async #global(
    parsed: Exclude<LayoutKey, { readonly place: string }>,
    key: string,
    o: CallOptions,
  ): Promise<readonly Found[]> {
    switch (parsed.kind) {
      case "manifest-record":
        return await this.#record(key, parseManifestRecord, o);
      case "blob-record":
        return await this.#record(key, parseBlobRecord, o);
      case "blob":
        return [];
    }
  }

  #belowNoUpstream(place: string, key: string): readonly Found[] {
    const [top = ""] = place.split("/");
    if (this.#strange === top) return [];
    this.#strange = top;
    const detail = `the repositories below ${top} belong to no upstream; weir import adopts what a stock registry holds`;
    return [{ problem: "foreign", key: `${key.slice(0, key.indexOf(`/${top}/`) + 1)}${top}/`, detail, action: "left" }];
  }

  async #linkTo(digest: Digest, key: string, o: CallOptions): Promise<readonly Found[]> {
    const found = await this.#linkContent(digest, key, o);
    if ((await this.#deps.blobs.stat(digest, o)) === undefined) this.#notHeld += 1;
    return found;
  }

  /** A link's own path says what it should hold. */
  async #linkContent(digest: Digest, key: string, o: CallOptions): Promise<readonly Found[]> {
    const bytes = await this.#deps.stored.get(key, o);
    if (bytes === undefined || parseLinkFile(bytes) === digest) return [];
    await this.#deps.objects.put(key, formatLink(digest), o);
    return [{ problem: "wrong-link", key, detail: `it holds ${described(bytes)}`, action: "repaired" }];
  }

  /** Without it the stock registry's catalog does not list the repository. */
  async #mark(repo: RepoRef, place: string, o: CallOptions): Promise<readonly Found[]> {
    if (this.#marked === place) return [];
    this.#marked = place;
    const key = layersMarkKey(repo);
    if (await this.#isThere(key, o)) return [];
    await this.#deps.objects.put(key, new Uint8Array(), o);
    return [{ problem: "incomplete", key, detail: "the repository's mark was missing", action: "repaired" }];
  }

  async #manifestRecord(digest: Digest, o: CallOptions): Promise<readonly Found[]> {
    const { blobs, stored, objects, repositories } = this.#deps;
    const held = await blobs.stat(digest, o);
    if (held === undefined || held.size > MAX_MANIFEST_BYTES) return [];
    const key = manifestRecordKey(digest);
    const bytes = await stored.get(key, o);
    const record = bytes && parseManifestRecord(bytes);
    if (record?.size === held.size) return [];
    const rebuilt = await this.#rebuilt(digest, o);
    if (rebuilt === undefined) return [];
    // Past the cache's idea of it, which may be the right one.
    await objects.delete(key, o);
    await repositories.putManifestRecord(digest, rebuilt, o);
    return bytes === undefined
      ? [{ problem: "incomplete", key, detail: "the manifest's record was missing", action: "repaired" }]
      : [{ problem: "bad-record", key, detail: "the record is not that of the manifest", action: "repaired" }];
  }

  /** Undefined where the content is not that manifest; its file has been reported. */
  async #rebuilt(digest: Digest, o: CallOptions): Promise<ManifestRecord | undefined> {
    const bytes = await readWhole(this.#deps.blobs, digest, MAX_MANIFEST_BYTES, o);
    if (bytes === undefined || digestOf(bytes, digestAlgorithm(digest)) !== digest) return undefined;
    try {
      return { mediaType: inferMediaType(parseManifest(bytes), undefined), size: bytes.length };
    } catch {
      return undefined;
    }
  }

  async #tag(repo: RepoRef, tag: string, key: string, young: boolean, o: CallOptions): Promise<readonly Found[]> {
    const { stored, objects, repositories } = this.#deps;
    const bytes = await stored.get(key, o);
    if (bytes === undefined) return [];
    const record = await stored.get(tagRecordKey(repo, tag), o);
    const recorded = record && parseTagRecord(record)?.digest;
    const linked = parseLinkFile(bytes);
    if (linked === undefined) {
      const detail = `it holds ${described(bytes)}`;
      if (recorded === undefined || !(await this.#isThere(revisionLinkKey(repo, recorded), o))) {
        await repositories.deleteTag(repo, tag, o);
        return [{ problem: "wrong-link", key, detail, action: "removed" }];
      }
      await objects.put(key, formatLink(recorded), o);
      // What the link was is a guess now: the upstream has the word.
      await repositories.putTag(repo, tag, { digest: recorded, checkedAtMs: 0 }, o);
      return [{ problem: "wrong-link", key, detail, action: "repaired" }];
    }
    if (young) return [];
    if (!(await this.#isThere(revisionLinkKey(repo, linked), o))) {
      // Moved or removed since it was read: then there was nothing wrong with it.
      const now = await stored.get(key, o);
      if (now === undefined || parseLinkFile(now) !== linked) return [];
      await repositories.deleteTag(repo, tag, o);
      const detail = `it names ${linked}, which its repository does not have`;
      return [{ problem: "dangling-tag", key, detail, action: "removed" }];
    }
    return recorded === undefined || recorded === linked
      ? []
      : await this.#drop(tagRecordKey(repo, tag), "incomplete", `it speaks of ${recorded}, the tag of ${linked}`, o);
  }

  async #tagRecord(repo: RepoRef, tag: string, key: string, young: boolean, o: CallOptions): Promise<readonly Found[]> {
    const bad = await this.#record(key, parseTagRecord, o);
    if (bad.length > 0 || young || (await this.#isThere(tagLinkKey(repo, tag), o))) return bad;
    return await this.#drop(key, "incomplete", "the record of a tag that is gone", o);
  }

  async #record(key: string, parse: (bytes: Uint8Array) => unknown, o: CallOptions): Promise<readonly Found[]> {
    const bytes = await this.#deps.stored.get(key, o);
    if (bytes === undefined || parse(bytes) !== undefined) return [];
    return await this.#drop(key, "bad-record", "there is no record in it", o);
  }

  async #drop(key: string, problem: Found["problem"], detail: string, o: CallOptions): Promise<readonly Found[]> {
    return (await this.#deps.objects.delete(key, o)) ? [{ problem, key, detail, action: "removed" }] : [];
  }

  async #isThere(key: string, o: CallOptions): Promise<boolean> {
    return (await this.#deps.stored.get(key, o)) !== undefined;
  }
}

function described(bytes: Uint8Array): string {
  const digest = parseLinkFile(bytes);
  if (digest !== undefined) return digest;
  return bytes.length === 0 ? "nothing" : `${bytes.length} bytes that are no digest`;
}
