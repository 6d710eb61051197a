/**
 * Adopts what a stock registry holds (`weir import`): data first, then links, then tags, as they are written when they are
 * pulled. What is held already is passed over, so that an import that was broken off goes on where it was.
 */
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { type Digest, digestAlgorithm, digestOf } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { inferMediaType, parseManifest } from "../oci/manifest.ts";
import { formatRepo, parseRepository, parseTag, type RepoRef } from "../oci/reference.ts";
import { type BlobStore, StorageError } from "./blob-store.ts";
import type { ForeignRegistry } from "./foreign-registry.ts";
import { readWhole } from "./read-whole.ts";
import type { Repositories } from "./repositories.ts";

export interface ImportFinding {
  readonly event: "finding";
  /** `<upstream>/<repository>`, with the tag or digest where it is one of them. */
  readonly what: string;
  /** Why it was left out, in words. */
  readonly detail: string;
}

export interface ImportProgress extends ImportCounts {
  readonly event: "progress";
}

export interface ImportSummary extends ImportCounts {
  readonly done: true;
  readonly dryRun: boolean;
  readonly findings: number;
  /** The blobs were read and hash to their digests; if not, each is verified when it is first served. */
  readonly verified: boolean;
  /** They are being verified now, by the process that serves them. */
  readonly verifying: boolean;
  readonly tookMs: number;
}

interface ImportCounts {
  readonly repositories: number;
  readonly tags: number;
  readonly manifests: number;
  /** Blobs and manifests taken over: as another name of the same file, as a copy, or lying where they should. */
  readonly linked: number;
  readonly copied: number;
  readonly inPlace: number;
  /** Blobs and manifests that were held before. */
  readonly held: number;
  /** Links to data that the registry does not have either. */
  readonly missing: number;
  /** Of everything taken over. */
  readonly bytes: number;
}

export type ImportEvent = ImportFinding | ImportProgress | ImportSummary;

export interface ImportDeps {
  readonly registry: ForeignRegistry;
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  /** The repository that one of the registry's becomes. @throws OciError for a name that none can have */
  target(name: string): RepoRef;
  /** A blob is held now. */
  added(digest: Digest, occupied: number): void;
  readonly clock: Clock;
}

/** Manifests are read to find out what they are; a larger file is none. */
const MAX_MANIFEST_BYTES = 64 << 20;

/** Often enough to be looked at, and to keep a connection from looking dead. */
const PROGRESS_MS = 1000;

export function importRegistry(
  deps: ImportDeps,
  o: CallOptions & { readonly dryRun: boolean; readonly verify: boolean },
): AsyncIterable<ImportEvent> {
  return new RegistryImport(deps, o).run();
}

type Counts = { -readonly [K in keyof ImportCounts]: number };

class RegistryImport {
  readonly #deps: ImportDeps;
  readonly #o: CallOptions & { readonly dryRun: boolean; readonly verify: boolean };
  readonly #startedMs: number;
  #progressMs: number;
  #findings = 0;
  /** So that a dry run counts a blob that repositories share once, as the real one does. */
  readonly #seen = new Set<Digest>();
  readonly #counts: Counts = {
    repositories: 0,
    tags: 0,
    manifests: 0,
    linked: 0,
    copied: 0,
    inPlace: 0,
    held: 0,
    missing: 0,
    bytes: 0,
  };

  constructor(deps: ImportDeps, o: CallOptions & { readonly dryRun: boolean; readonly verify: boolean }) {
    this.#deps = deps;
    this.#o = o;
    this.#startedMs = deps.clock.now();
    this.#progressMs = this.#startedMs;
  }

  async *run(): AsyncIterable<ImportEvent> {
    const { registry, target, clock } = this.#deps;
    for await (const name of registry.repositories(this.#o)) {
      let repo: RepoRef;
      try {
        repo = target(name);
        parseRepository(repo.repository);
      } catch (error) {
        if (!(error instanceof OciError)) throw error;
        yield this.#finding(name, error.message);
        continue;
      }
      this.#counts.repositories += 1;
      yield* this.#layers(name, repo);
      yield* this.#manifests(name, repo);
      yield* this.#tags(name, repo);
    }
    const { dryRun, verify } = this.#o;
    const tookMs = clock.now() - this.#startedMs;
    yield {
      done: true,
      ...this.#counts,
      dryRun,
      findings: this.#findings,
      verified: verify && !dryRun,
      verifying: false,
      tookMs,
    };
  }

  async *#layers(name: string, repo: RepoRef): AsyncIterable<ImportEvent> {
    const { registry, repositories } = this.#deps;
    for await (const digest of registry.layers(name, this.#o)) {
      const refused = await this.#take(digest);
      if (refused === undefined) {
        if (!this.#o.dryRun) await repositories.linkLayer(repo, digest, this.#o);
      } else if (refused !== "missing") yield this.#finding(`${formatRepo(repo)}@${digest}`, refused);
      yield* this.#progress();
    }
  }

  async *#manifests(name: string, repo: RepoRef): AsyncIterable<ImportEvent> {
    const { registry } = this.#deps;
    for await (const digest of registry.revisions(name, this.#o)) {
      const refused =
        (await this.#take(digest)) ?? (this.#o.dryRun ? undefined : await this.#adoptManifest(repo, digest));
      if (refused === undefined) this.#counts.manifests += 1;
      else if (refused !== "missing") yield this.#finding(`${formatRepo(repo)}@${digest}`, refused);
      yield* this.#progress();
    }
  }

  async *#tags(name: string, repo: RepoRef): AsyncIterable<ImportEvent> {
    const { registry, repositories } = this.#deps;
    for await (const { tag, digest } of registry.tags(name, this.#o)) {
      try {
        parseTag(tag);
      } catch (error) {
        yield this.#finding(`${formatRepo(repo)}:${tag}`, (error as Error).message);
        continue;
      }
      if (this.#o.dryRun) this.#counts.tags += 1;
      else if (await repositories.hasRevision(repo, digest, this.#o)) {
        this.#counts.tags += 1;
        // What Weir knows of a tag is newer than what the registry has of it.
        if ((await repositories.getTag(repo, tag, this.#o)) === undefined) {
          await repositories.putTag(repo, tag, { digest, checkedAtMs: 0 }, this.#o);
        }
      }
      yield* this.#progress();
    }
  }

  /** Makes the blob a held one. Otherwise why not: `missing`, or a sentence. */
  async #take(digest: Digest): Promise<"missing" | string | undefined> {
    const { registry, blobs, added } = this.#deps;
    const size = await registry.sizeOf(digest, this.#o);
    const held = await blobs.stat(digest, this.#o);
    if (size === undefined) {
      if (held !== undefined) return undefined;
      this.#counts.missing += 1;
      return "missing";
    }
    if (this.#seen.has(digest)) return undefined;
    if (!registry.inPlace && held?.size === size) {
      this.#counts.held += 1;
      this.#seen.add(digest);
      return undefined;
    }
    if (this.#o.verify && !this.#o.dryRun && !(await registry.isSound(digest, this.#o))) {
      return `its data are damaged: the ${size} bytes do not hash to it`;
    }
    this.#seen.add(digest);
    this.#counts.bytes += size;
    if (registry.inPlace) {
      this.#counts.inPlace += 1;
      return undefined;
    }
    if (this.#o.dryRun) {
      this.#counts.linked += 1;
      return undefined;
    }
    const { path, how } = await registry.take(digest, this.#o);
    await blobs.ingest(digest, path, this.#o);
    this.#counts[how] += 1;
    const now = await blobs.stat(digest, this.#o);
    if (now !== undefined) added(digest, now.occupied);
    return undefined;
  }

  /** Manifests are small and decide what everything else means: they are always verified. */
  async #adoptManifest(repo: RepoRef, digest: Digest): Promise<string | undefined> {
    const { blobs, repositories } = this.#deps;
    try {
      const bytes = await readWhole(blobs, digest, MAX_MANIFEST_BYTES, this.#o);
      if (bytes === undefined || digestOf(bytes, digestAlgorithm(digest)) !== digest) {
        return "its data are damaged: they do not hash to it";
      }
      const mediaType = inferMediaType(parseManifest(bytes), undefined);
      await repositories.linkRevision(repo, digest, this.#o);
      if ((await repositories.getManifestRecord(digest, this.#o)) === undefined) {
        await repositories.putManifestRecord(digest, { mediaType, size: bytes.length }, this.#o);
      }
      return undefined;
    } catch (error) {
      if (error instanceof OciError) return error.message;
      if (error instanceof StorageError && error.fault === "corrupt") return error.message;
      throw error;
    }
  }

  #finding(what: string, detail: string): ImportFinding {
    this.#findings += 1;
    return { event: "finding", what, detail };
  }

  *#progress(): Iterable<ImportProgress> {
    const nowMs = this.#deps.clock.now();
    if (nowMs - this.#progressMs < PROGRESS_MS) return;
    this.#progressMs = nowMs;
    yield { event: "progress", ...this.#counts };
  }
}
