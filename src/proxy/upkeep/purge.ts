import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Digest } from "../../oci/digest.ts";
import { OciError } from "../../oci/errors.ts";
import { parseManifest } from "../../oci/manifest.ts";
import { formatRepo, type RepoRef } from "../../oci/reference.ts";
import type { BlobStore } from "../../storage/blob-store.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { HeldManifest } from "../held-manifests.ts";
import type { Memory } from "../remembered.ts";
import { heldTags } from "./refresh.ts";
import type { Selection } from "./selection.ts";

export interface PurgedItem {
  readonly event: "purged";
  readonly kind: "tag" | "manifest" | "repository";
  /** `<upstream>/<repository>`, with `:<tag>` or `@<digest>`. */
  readonly what: string;
}

export interface PurgeProgress {
  readonly event: "progress";
  /** Repositories that were asked whether they have what is about to be deleted. */
  readonly repositories: number;
}

export interface PurgeSummary {
  readonly done: true;
  readonly dryRun: boolean;
  readonly repositories: number;
  readonly tags: number;
  readonly manifests: number;
  /** Links to blobs. */
  readonly layers: number;
  /** Blobs and manifests deleted, since no repository has them any more. */
  readonly blobs: number;
  /** What the storage used for them. */
  readonly bytes: number;
  /** Blobs and manifests that stay, since another repository has them. */
  readonly shared: number;
  readonly tookMs: number;
}

export type PurgeEvent = PurgedItem | PurgeProgress | PurgeSummary;

export interface PurgeDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  /** What upstreams have said in passing. */
  readonly memory: Pick<Memory, "forgetTag" | "forgetDigest" | "forgetRepository">;
  readManifest(digest: Digest, o: CallOptions): Promise<HeldManifest | undefined>;
  /** A blob is not held any more. */
  removed(digest: Digest): void;
  readonly clock: Clock;
}

/** Up to so many digests are looked up in each repository; beyond, each repository's links are gone through. */
const LOOKED_UP = 64;

/** Often enough to be looked at, and to keep a connection from looking dead. */
const PROGRESS_MS = 1000;

/** Removes what is held of a tag, a digest, a repository or all that a pattern means; with `dryRun` only says what. */
export function purge(
  deps: PurgeDeps,
  selection: Selection,
  o: CallOptions & { readonly dryRun: boolean },
): AsyncIterable<PurgeEvent> {
  return new Purge(deps, o).run(selection);
}

type Counts = { -readonly [K in "repositories" | "tags" | "manifests" | "layers" | "blobs" | "bytes"]: number };

class Purge {
  readonly #deps: PurgeDeps;
  readonly #o: CallOptions & { readonly dryRun: boolean };
  readonly #counts: Counts = { repositories: 0, tags: 0, manifests: 0, layers: 0, blobs: 0, bytes: 0 };
  /** Digests that lost a link, with the repositories that lost it: in a dry run they still have it. */
  readonly #unlinked = new Map<Digest, Set<string>>();

  constructor(deps: PurgeDeps, o: CallOptions & { readonly dryRun: boolean }) {
    this.#deps = deps;
    this.#o = o;
  }

  async *run(selection: Selection): AsyncIterable<PurgeEvent> {
    const { clock, repositories } = this.#deps;
    const startedMs = clock.now();
    if (selection.kind === "digest") {
      yield* this.#digest(selection.repo, selection.digest);
    } else if (selection.kind === "repository") {
      yield* this.#repository(selection.repo);
    } else if (selection.kind === "pattern" && selection.matchesTag === undefined) {
      for await (const repo of repositories.linked(this.#o)) if (selection.matches(repo)) yield* this.#repository(repo);
    } else {
      // Also what is only remembered of it: that there is no such tag.
      if (selection.kind === "tag") await this.#forgetTag(selection.repo, selection.tag);
      for await (const { repo, tag } of heldTags(repositories, selection, this.#o)) yield* this.#tag(repo, tag);
    }
    const shared = yield* this.#deleteUnlinked();
    yield { done: true, dryRun: this.#o.dryRun, ...this.#counts, shared, tookMs: clock.now() - startedMs };
  }

  async *#tag(repo: RepoRef, tag: string): AsyncIterable<PurgeEvent> {
    this.#counts.tags += 1;
    if (!this.#o.dryRun) {
      await this.#deps.repositories.deleteTag(repo, tag, this.#o);
      await this.#forgetTag(repo, tag);
    }
    yield { event: "purged", kind: "tag", what: `${formatRepo(repo)}:${tag}` };
  }

  async #forgetTag(repo: RepoRef, tag: string): Promise<void> {
    if (!this.#o.dryRun) await this.#deps.memory.forgetTag(repo, tag);
  }

  async *#repository(repo: RepoRef): AsyncIterable<PurgeEvent> {
    const { repositories, memory } = this.#deps;
    let found = false;
    for (const tag of await repositories.tags(repo, this.#o)) {
      found = true;
      yield* this.#tag(repo, tag);
    }
    for (const digest of await collected(repositories.revisions(repo, this.#o))) {
      found = true;
      yield* this.#manifest(repo, digest);
    }
    for (const digest of await collected(repositories.layers(repo, this.#o))) {
      found = true;
      await this.#layer(repo, digest);
    }
    if (!this.#o.dryRun) {
      for (const digest of await collected(repositories.referrersSubjects(repo, this.#o))) {
        await repositories.deleteReferrers(repo, digest, this.#o);
      }
      await repositories.deleteRepoRecord(repo, this.#o);
      await memory.forgetRepository(repo);
    }
    if (found) {
      this.#counts.repositories += 1;
      yield { event: "purged", kind: "repository", what: formatRepo(repo) };
    }
  }

  /** A manifest with its tags and with what only it has led to; or a single blob. */
  async *#digest(repo: RepoRef, digest: Digest): AsyncIterable<PurgeEvent> {
    const { repositories, memory } = this.#deps;
    for (const tag of await repositories.tags(repo, this.#o)) {
      if ((await repositories.getTag(repo, tag, this.#o))?.digest === digest) yield* this.#tag(repo, tag);
    }
    const remaining = new Set(await collected(repositories.revisions(repo, this.#o)));
    if (remaining.has(digest)) {
      const tagged = await this.#tagged(repo);
      const going = await this.#onlyFrom(digest, remaining, tagged);
      for (const manifest of going.manifests) yield* this.#manifest(repo, manifest);
      for (const blob of going.blobs) await this.#layer(repo, blob);
    }
    await this.#layer(repo, digest);
    if (!this.#o.dryRun) await memory.forgetDigest(repo, digest);
  }

  async #tagged(repo: RepoRef): Promise<ReadonlySet<Digest>> {
    const { repositories } = this.#deps;
    const tagged = new Set<Digest>();
    for (const tag of await repositories.tags(repo, this.#o)) {
      const entry = await repositories.getTag(repo, tag, this.#o);
      if (entry !== undefined) tagged.add(entry.digest);
    }
    return tagged;
  }

  /** The manifest, its children that nothing else of the repository names, and the blobs that only those list. */
  async #onlyFrom(
    root: Digest,
    remaining: Set<Digest>,
    tagged: ReadonlySet<Digest>,
  ): Promise<{ readonly manifests: readonly Digest[]; readonly blobs: readonly Digest[] }> {
    const manifests: Digest[] = [root];
    const candidates = new Set<Digest>();
    remaining.delete(root);
    for (const manifest of manifests) {
      const { blobs, children } = await this.#lists(manifest);
      for (const blob of blobs) candidates.add(blob);
      for (const child of children) {
        if (remaining.has(child) && !tagged.has(child) && !(await this.#isListed(child, remaining))) {
          remaining.delete(child);
          manifests.push(child);
        }
      }
    }
    for (const other of remaining) for (const blob of (await this.#lists(other)).blobs) candidates.delete(blob);
    return { manifests, blobs: [...candidates] };
  }

  async #isListed(child: Digest, among: ReadonlySet<Digest>): Promise<boolean> {
    for (const other of among) if ((await this.#lists(other)).children.includes(child)) return true;
    return false;
  }

  async #lists(manifest: Digest): Promise<{ readonly blobs: readonly Digest[]; readonly children: readonly Digest[] }> {
    const held = await this.#deps.readManifest(manifest, this.#o);
    if (held === undefined) return { blobs: [], children: [] };
    try {
      const { blobs, children } = parseManifest(held.bytes);
      return { blobs: blobs.map(({ digest }) => digest), children: children.map(({ digest }) => digest) };
    } catch (error) {
      if (error instanceof OciError) return { blobs: [], children: [] };
      throw error;
    }
  }

  async *#manifest(repo: RepoRef, digest: Digest): AsyncIterable<PurgeEvent> {
    const { repositories, memory } = this.#deps;
    this.#counts.manifests += 1;
    this.#note(repo, digest);
    if (!this.#o.dryRun) {
      await repositories.unlinkRevision(repo, digest, this.#o);
      await repositories.deleteReferrers(repo, digest, this.#o);
      await memory.forgetDigest(repo, digest);
    }
    yield { event: "purged", kind: "manifest", what: `${formatRepo(repo)}@${digest}` };
  }

  async #layer(repo: RepoRef, digest: Digest): Promise<void> {
    const { repositories, memory } = this.#deps;
    if (!(await repositories.hasLayer(repo, digest, this.#o))) return;
    this.#counts.layers += 1;
    this.#note(repo, digest);
    if (this.#o.dryRun) return;
    await repositories.unlinkLayer(repo, digest, this.#o);
    await memory.forgetDigest(repo, digest);
  }

  #note(repo: RepoRef, digest: Digest): void {
    const places = this.#unlinked.get(digest);
    if (places === undefined) this.#unlinked.set(digest, new Set([formatRepo(repo)]));
    else places.add(formatRepo(repo));
  }

  /** Gives how many stay for others. */
  async *#deleteUnlinked(): AsyncGenerator<PurgeEvent, number> {
    const { blobs, repositories, removed } = this.#deps;
    const candidates = new Set(this.#unlinked.keys());
    if (candidates.size > 0) yield* this.#keepLinked(candidates);
    const shared = this.#unlinked.size - candidates.size;
    for (const digest of candidates) {
      const held = await blobs.stat(digest, this.#o);
      if (held !== undefined) {
        this.#counts.blobs += 1;
        this.#counts.bytes += held.occupied;
      }
      if (this.#o.dryRun) continue;
      await blobs.delete(digest, this.#o);
      removed(digest);
      await repositories.deleteManifestRecord(digest, this.#o);
      await repositories.deleteBlobRecord(digest, this.#o);
    }
    return shared;
  }

  /** Takes away what any repository still has. A pull that links one of them just now fetches it once more. */
  async *#keepLinked(candidates: Set<Digest>): AsyncIterable<PurgeEvent> {
    const { repositories, clock } = this.#deps;
    let asked = 0;
    let toldMs = clock.now();
    for await (const repo of repositories.linked(this.#o)) {
      const place = formatRepo(repo);
      const keep = (digest: Digest): void => {
        if (this.#unlinked.get(digest)?.has(place) !== true) candidates.delete(digest);
      };
      if (candidates.size <= LOOKED_UP) {
        for (const digest of candidates) {
          const has =
            (await repositories.hasLayer(repo, digest, this.#o)) ||
            (await repositories.hasRevision(repo, digest, this.#o));
          if (has) keep(digest);
        }
      } else {
        for await (const digest of repositories.layers(repo, this.#o)) keep(digest);
        for await (const digest of repositories.revisions(repo, this.#o)) keep(digest);
      }
      if (candidates.size === 0) return;
      asked += 1;
      const nowMs = clock.now();
      if (nowMs - toldMs >= PROGRESS_MS) {
        toldMs = nowMs;
        yield { event: "progress", repositories: asked };
      }
    }
  }
}

/** All of it first: what is listed is about to change. */
async function collected<T>(items: AsyncIterable<T>): Promise<readonly T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
