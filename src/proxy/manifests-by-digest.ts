import { type CallOptions, onBehalfOf } from "../base/call.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { noteJoined } from "../base/trail.ts";
import { waitFor } from "../base/wait-for.ts";
import type { FreshnessConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { type BlobStore, StorageError } from "../storage/blob-store.ts";
import type { Repositories } from "../storage/repositories.ts";
import { type Upstream, UpstreamError } from "../upstream/upstream.ts";
import type { Admitted } from "./access-gate.ts";
import type { CacheInfo } from "./answers.ts";
import type { Background } from "./background.ts";
import type { HeldManifest, HeldManifests } from "./held-manifests.ts";
import type { Listings } from "./listings.ts";
import { decideProof } from "./proof.ts";
import { proofFacts } from "./proof-facts.ts";
import type { Proofs } from "./proofs.ts";
import { recorded } from "./recorded.ts";
import type { Memory } from "./remembered.ts";
import type { Standing, Standings } from "./standings.ts";
import type { Turns } from "./turns.ts";

/** A repository that the caller may read. */
export interface Target {
  readonly repo: RepoRef;
  readonly upstream: Upstream;
  readonly standing: Standing;
}

/** A manifest and how it came. */
export interface FoundManifest {
  readonly manifest: HeldManifest;
  readonly cache: CacheInfo;
}

export interface ManifestsByDigestDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  readonly manifests: HeldManifests;
  readonly listings: Listings;
  readonly standings: Standings;
  readonly proofs: Proofs;
  readonly memory: Memory;
  readonly background: Background;
  readonly turns: Turns;
  freshnessOf(upstream: string): FreshnessConfig;
  readonly log: Log;
}

/** Manifests asked for by digest: what is held and proved costs nothing, everything else is one question. */
export class ManifestsByDigest {
  readonly #deps: ManifestsByDigestDeps;
  readonly #obtaining = new SingleFlight<FoundManifest>();

  constructor(deps: ManifestsByDigestDeps) {
    this.#deps = deps;
  }

  /** For a client, who may have been let in to what is held only. Rejects as {@link find} does. */
  async findFor(target: Target, digest: Digest, call: CallOptions & Admitted): Promise<FoundManifest> {
    const { withheld } = call.access;
    return withheld === undefined
      ? await this.find(target, digest, call)
      : ((await this.#held(target, digest, call)) ?? (await Promise.reject(withheld.error())));
  }

  /** Rejects with the upstream's fault where the repository does not have it, or nobody can tell. */
  async find(target: Target, digest: Digest, call: CallOptions): Promise<FoundManifest> {
    return (await this.#alreadyLinked(target, digest, call)) ?? (await this.obtain(target, digest, call));
  }

  /** As {@link find} for what is not linked to the repository yet: from the store where that is proof enough, else one GET. */
  async obtain(target: Target, digest: Digest, call: CallOptions): Promise<FoundManifest> {
    const { memory, background, turns } = this.#deps;
    const absence = await memory.absence("manifest", target.repo, digest, call);
    if (absence !== undefined) {
      throw absence;
    }
    const key = `${formatRepo(target.repo)} ${digest}`;
    const work = background.own((signal) =>
      this.#obtaining.run(key, { signal, ...onBehalfOf(call) }, (shared) =>
        turns.run(`manifest ${key}`, { ...call, signal: shared }, (o) => this.#obtain(target, digest, o)),
      ),
    );
    const { value, shared, begunIn } = await waitFor(work, call.signal);
    if (shared) {
      noteJoined(call.trail, `${formatRepo(target.repo)}@${digest}`, begunIn);
    }
    const collapsed = shared && value.cache.outcome === "miss";
    return collapsed ? { ...value, cache: { ...value.cache, outcome: "collapsed" } } : value;
  }

  /**
   * The held manifest, if the repository may serve it now that its upstream has named the digest; then it is linked. Undefined
   * where only a GET will do.
   */
  async confirmed(target: Target, digest: Digest, o: CallOptions): Promise<HeldManifest | undefined> {
    const decision = await this.#decide(target, digest, { confirmed: true }, o);
    return decision === "serve" ? await this.#link(target.repo, digest, o) : undefined;
  }

  async #alreadyLinked(target: Target, digest: Digest, o: CallOptions): Promise<FoundManifest | undefined> {
    const linked = await this.#deps.repositories.hasRevision(target.repo, digest, o);
    const held = linked ? await this.#deps.manifests.read(digest, o) : undefined;
    return held && { manifest: held, cache: await this.#permitted(target, digest, o) };
  }

  /** What needs no asking: linked, or held with all the proof that there has to be. */
  async #held(target: Target, digest: Digest, o: CallOptions): Promise<FoundManifest | undefined> {
    const linked = await this.#alreadyLinked(target, digest, o);
    if (linked !== undefined || (await this.#decide(target, digest, { confirmed: false }, o)) !== "serve") {
      return linked;
    }
    const manifest = await this.#link(target.repo, digest, o);
    return manifest && { manifest, cache: await this.#permitted(target, digest, o) };
  }

  async #obtain(target: Target, digest: Digest, o: CallOptions): Promise<FoundManifest> {
    const { memory, freshnessOf } = this.#deps;
    try {
      const found = (await this.#fromStore(target, digest, o)) ?? (await this.#fetch(target, digest, o));
      await this.#recordTags(target.repo, found, o);
      return found;
    } catch (error) {
      await memory.rememberAbsence(
        "manifest",
        target.repo,
        digest,
        error,
        freshnessOf(target.repo.upstream).negativeMs,
      );
      throw error;
    }
  }

  /** Clients ask what a tag is, and fetch that by its digest: the tag can be recorded only now that its manifest is held. */
  async #recordTags(repo: RepoRef, { manifest, cache }: FoundManifest, o: CallOptions): Promise<void> {
    const { memory, repositories, log } = this.#deps;
    if (cache.stored === false) {
      return;
    }
    const { digest } = manifest;
    for (const { tag, etag, checkedAtMs } of await memory.named(repo, digest, o)) {
      await recorded(log, `${formatRepo(repo)}:${tag}`, async () => {
        const entry = await repositories.getTag(repo, tag, o);
        if (entry === undefined || entry.checkedAtMs < checkedAtMs) {
          await repositories.putTag(repo, tag, { digest, checkedAtMs, ...(etag === undefined ? {} : { etag }) }, o);
        }
      });
    }
  }

  async #fromStore(target: Target, digest: Digest, o: CallOptions): Promise<FoundManifest | undefined> {
    const decision = await this.#decide(target, digest, { confirmed: false }, o);
    if (decision === "possess") {
      return undefined;
    }
    let cache: CacheInfo = { outcome: "revalidated" };
    if (decision === "serve") {
      cache = await this.#permitted(target, digest, o);
    } else {
      await this.#confirm(target, digest, o);
    }
    const manifest = await this.#link(target.repo, digest, o);
    return manifest === undefined ? undefined : { manifest, cache };
  }

  async #permitted(target: Target, digest: Digest, o: CallOptions): Promise<CacheInfo> {
    const confirm = (asking: CallOptions): Promise<void> => this.#confirm(target, digest, asking);
    return await this.#deps.proofs.current(target, { asked: "manifest", digest }, confirm, o);
  }

  async #decide(
    { repo, standing }: Target,
    digest: Digest,
    { confirmed }: { readonly confirmed: boolean },
    o: CallOptions,
  ): Promise<"serve" | "confirm" | "possess"> {
    const held = await this.#isHeld(digest, o);
    const facts = await proofFacts(this.#deps, { repo, standing }, { digest, as: "revision", held, confirmed }, o);
    const decision = decideProof(facts);
    o.trail?.detail?.note("decision", { about: `${formatRepo(repo)}@${digest}`, does: decision.do });
    return decision.do === "deny" ? "possess" : decision.do;
  }

  async #isHeld(digest: Digest, o: CallOptions): Promise<boolean> {
    try {
      return (await this.#deps.blobs.stat(digest, o)) !== undefined;
    } catch (error) {
      if (!(error instanceof StorageError)) {
        throw error;
      }
      return false;
    }
  }

  async #link(repo: RepoRef, digest: Digest, o: CallOptions): Promise<HeldManifest | undefined> {
    const { manifests, repositories, log } = this.#deps;
    const manifest = await manifests.read(digest, o);
    if (manifest !== undefined) {
      await recorded(log, `${formatRepo(repo)}@${digest}`, () => repositories.linkRevision(repo, digest, o));
    }
    return manifest;
  }

  async #confirm({ repo, upstream, standing }: Target, digest: Digest, o: CallOptions): Promise<void> {
    const { standings } = this.#deps;
    await standings.watch(repo, standing, o, () =>
      upstream.headManifest(repo.repository, { kind: "digest", digest }, o),
    );
  }

  async #fetch({ repo, upstream, standing }: Target, digest: Digest, o: CallOptions): Promise<FoundManifest> {
    const { manifests, standings } = this.#deps;
    const body = await standings.watch(repo, standing, o, () =>
      upstream.getManifest(repo.repository, { kind: "digest", digest }, o),
    );
    if (body === "not-modified") {
      throw new UpstreamError(repo.upstream, "bad-answer", `${repo.upstream} answered 304 to an unconditional request`);
    }
    const { manifest, stored } = await manifests.keep(repo, standing.visibility, body, o);
    return { manifest, cache: { outcome: "miss", stored } };
  }
}
