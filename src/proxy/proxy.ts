import type { FetchBudgets } from "../access/budget.ts";
import type { ContentRules } from "../access/content-rules.ts";
import type { AccessDeniedError } from "../access/denied-error.ts";
import type { AccessRules } from "../access/rules.ts";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { AccessConfig, DownloadConfig, FreshnessConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import type { Reference, RepoRef } from "../oci/reference.ts";
import type { Referrer } from "../oci/referrers.ts";
import type { StateStore } from "../state/state-store.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { Upstream } from "../upstream/upstream.ts";
import { AccessGate, type Admission, type Admitted } from "./access-gate.ts";
import type { ProxyCall, PullThrough, Visibility } from "./answers.ts";
import { anythingHeld } from "./anything-held.ts";
import { Background } from "./background.ts";
import { Blobs } from "./blobs.ts";
import { Catalog } from "./catalog.ts";
import { ContentGate } from "./content-gate.ts";
import type { Fills } from "./fills.ts";
import type { StaleReason } from "./freshness.ts";
import { type HeldManifest, HeldManifests } from "./held-manifests.ts";
import { Listings } from "./listings.ts";
import { Manifests } from "./manifests.ts";
import { ManifestsByDigest } from "./manifests-by-digest.ts";
import { ManifestsByTag } from "./manifests-by-tag.ts";
import { Proofs } from "./proofs.ts";
import type { Provenance } from "./provenance.ts";
import { readableRepositories } from "./readable-repositories.ts";
import { type Change, ReadyAnswers } from "./ready.ts";
import { Referrers } from "./referrers.ts";
import { Memory, type Remembered } from "./remembered.ts";
import type { Room } from "./room.ts";
import { Stale } from "./stale.ts";
import { Standings, UNKNOWN } from "./standings.ts";
import { listedTags, Tags } from "./tags.ts";
import type { Turns } from "./turns.ts";
import type { Verified } from "./verified-blobs.ts";
import { WithheldError } from "./withheld.ts";

/** What the pull-through reports; telemetry/ implements it. */
export interface ProxyObserver {
  /** An answer that may be out of date went to a client. */
  staleServed(upstream: string, reason: StaleReason): void;
}

export interface ProxyDeps {
  readonly upstreams: { get(name: string): Upstream | undefined };
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  readonly fills: Fills;
  /** Told of the manifests that are answered from memory. */
  readonly room: Pick<Room, "touch">;
  /** The same object whose `committed` the fills call. */
  readonly provenance: Provenance;
  /** The upstream's own freshness section; asked for each request, so that a reload counts at once. */
  freshnessOf(upstream: string): FreshnessConfig;
  /** For how long the tag is fresh, by that section's rules; milliseconds. */
  ttlMs(repo: RepoRef, tag: string): number;
  /** Asked for each request, too. */
  access(): AccessConfig;
  /** `access.rules`; asked for each request. */
  accessRules(): AccessRules;
  /** What of the upstream may be served; asked for each request. */
  rulesOf(upstream: string): ContentRules;
  readonly budgets: FetchBudgets;
  readonly download: Pick<DownloadConfig, "rangeWaitMs">;
  /** Which process asks an upstream what several want to know. */
  readonly turns: Turns;
  /** Tells other processes that serve from the same files what this one has seen to be whole. */
  readonly tellVerified?: ((digest: Digest, verified: Verified) => void) | undefined;
  /** Answers remembered only to save asking again. */
  readonly state: StateStore<Remembered>;
  /** What is in force of the configuration; another object after each reload. */
  inForce(): object;
  /** For how long a tag's answer from memory counts before it is looked for anew; milliseconds. Short where others write, too. */
  readonly maxAgeMs: number;
  /** For how long a digest's does. Short where others write, and do not tell of it ({@link RunningProxy.changed}). */
  readonly maxContentAgeMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: ProxyObserver;
}

/** The pull-through with its background work (questions that outlive the client who asked). */
export interface RunningProxy extends PullThrough {
  /**
   * Asks the upstream now what the tag means, however fresh it is; once for everybody who wants to know meanwhile. Rejects
   * with the upstream's fault; a tag that it has no more is recorded as gone.
   */
  refreshTag(repo: RepoRef, tag: string, o: CallOptions): Promise<Digest>;
  /** A held manifest, its bytes verified. */
  heldManifest(digest: Digest, o: CallOptions): Promise<HeldManifest | undefined>;
  /** What upstreams have said in passing. */
  readonly memory: Pick<Memory, "forgetTag" | "forgetDigest" | "forgetRepository">;
  /** What it knows without asking anybody, for who explains it. */
  readonly knowledge: ProxyKnowledge;
  /** Another process that serves from the same files has seen a held blob to be whole. */
  heardVerified(digest: Digest, verified: Verified): void;
  /** A blob or manifest was deleted: what is remembered of its content goes, too. */
  forget(digest: Digest): void;
  /**
   * A link or a record of a repository was written or deleted, or may have been: what rested on it does so no more.
   *
   * @param change undefined where it may have been anything
   */
  changed(change: Change | undefined): void;
  /** Ends what is still being asked upstream and waits for it. Repeatable. */
  stop(): Promise<void>;
}

export interface ProxyKnowledge {
  readonly standings: Pick<Standings, "known">;
  readonly access: Pick<AccessGate, "outlook">;
  readonly memory: Pick<Memory, "head" | "absence">;
  askedSince(repo: RepoRef, tag: string): number | undefined;
}

/** Puts the pull-through together. Nothing runs until it is asked something. */
export function createProxy(deps: ProxyDeps): RunningProxy {
  const background = new Background();
  const memory = new Memory(deps.state, (repo, tag) => ready.changed({ repo, tag }));
  const stale = new Stale((upstream, reason) => deps.observer.staleServed(upstream, reason));
  // Only the catalogue says what is held, and nothing else: it must not say too little.
  const repositories = readableRepositories(deps.repositories, deps.log);
  const shared = { ...deps, repositories, background, memory, stale };
  const standings = new Standings(shared);
  const proofs = new Proofs(shared);
  const access = new AccessGate(deps);
  const ready = new ReadyAnswers({ ...deps, standings, access });
  const manifests = new HeldManifests({ ...shared, ready });
  const listings = new Listings(repositories, manifests);
  const byDigest = new ManifestsByDigest({ ...shared, manifests, listings, standings, proofs });
  const byTag = new ManifestsByTag({ ...shared, manifests, byDigest, standings });
  const answers = new Manifests({ standings, byDigest, byTag });
  const blobs = new Blobs({ ...shared, listings, standings, proofs, ready });
  const tags = new Tags({ ...shared, standings });
  const referrers = new Referrers({ ...shared, standings });
  const gate = new ContentGate((upstream) => deps.rulesOf(upstream), listings);
  const catalog = new Catalog({ ...deps, standings, gate, access });
  const upstreamOf = (name: string): Upstream => {
    const upstream = deps.upstreams.get(name);
    if (upstream === undefined) {
      throw new OciError("NAME_UNKNOWN", `no upstream is configured for ${name}`);
    }
    return upstream;
  };
  /** Throws why a platform is not served, to those who may know what is held. */
  const keepBack = async (
    upstream: Upstream,
    call: ProxyCall & Admitted & { readonly repo: RepoRef },
    denial: AccessDeniedError | undefined,
  ): Promise<void> => {
    if (denial !== undefined) {
      await orDenied(standings.admit(call.repo, upstream, () => anythingHeld(repositories, call.repo, call), call));
      throw denial;
    }
  };
  const keepReady: ReadyAnswers["keep"] = (look, call, answer, basis) => {
    // Which platforms a digest is for may be told by anything that the repository holds.
    if (deps.rulesOf(call.repo.upstream).platform === undefined) {
      ready.keep(look, call, answer, basis);
    }
  };
  return {
    async manifest(call) {
      const { repo, reference } = call;
      const look = ready.look();
      const admission = await access.admit(call.caller.identity, repo, reference);
      gate.manifest(repo, reference);
      const upstream = upstreamOf(repo.upstream);
      const admitted = { ...call, access: admission };
      if (reference.kind === "digest") {
        await keepBack(upstream, admitted, await gate.manifestPlatform(repo, reference.digest, call));
      }
      const { answer, basis } = await orDenied(answers.answer(upstream, admitted));
      // A tag, or an index on behalf of an older client, may have led to what is denied by its digest.
      gate.content(repo, answer.digest);
      if (reference.kind === "tag") {
        await keepBack(upstream, admitted, await gate.manifestPlatform(repo, answer.digest, call));
      }
      const shown = asShown(answer, admission);
      keepReady(look, { ...call, asked: { kind: "manifest", reference } }, shown, basis);
      return shown;
    },
    async blob(call) {
      const { repo, digest } = call;
      const look = ready.look();
      const admission = await access.admit(call.caller.identity, repo, undefined);
      gate.content(repo, digest);
      const upstream = upstreamOf(repo.upstream);
      const admitted = { ...call, access: admission };
      await keepBack(upstream, admitted, await gate.blobPlatform(repo, digest, call));
      const { answer, basis } = await orDenied(blobs.answer(upstream, admitted));
      const shown = asShown(answer, admission);
      keepReady(look, { repo, asked: { kind: "blob", digest }, accept: undefined }, shown, basis);
      return shown;
    },
    async tags(call) {
      const { repo, caller } = call;
      const admission = await access.admit(caller.identity, repo, undefined);
      gate.repository(repo);
      const upstream = upstreamOf(repo.upstream);
      const listed = (names: readonly string[]): readonly string[] =>
        gate
          .filter(repo, names, (tag) => ({ kind: "tag", tag }))
          .filter((tag) => access.lists(caller.identity, repo, { kind: "tag", tag }));
      return await listedTags(listed, (page) =>
        orDenied(tags.answer(upstream, { ...call, ...page, access: admission })),
      );
    },
    async referrers(call) {
      const reference: Reference = { kind: "digest", digest: call.digest };
      const admission = await access.admit(call.caller.identity, call.repo, reference);
      gate.manifest(call.repo, reference);
      const upstream = upstreamOf(call.repo.upstream);
      const answer = await orDenied(referrers.answer(upstream, { ...call, access: admission }));
      const byDigest = ({ digest }: Referrer): Reference => ({ kind: "digest", digest });
      return { ...answer, referrers: gate.filter(call.repo, answer.referrers, byDigest) };
    },
    catalog: async (call) => await catalog.answer(call),
    ready: (call) => ready.find(call),
    async refreshTag(repo, tag, o) {
      const frozen = access.frozen(repo.upstream);
      if (frozen !== undefined) {
        throw frozen.error();
      }
      const upstream = upstreamOf(repo.upstream);
      const standing = (await standings.recorded(repo, upstream, o)) ?? UNKNOWN;
      return await byTag.refresh({ repo, upstream, standing }, tag, o);
    },
    heldManifest: async (digest, o) => await manifests.read(digest, o),
    memory,
    knowledge: { standings, access, memory, askedSince: (repo, tag) => byTag.askedSince(repo, tag) },
    heardVerified: (digest, verified) => blobs.heardVerified(digest, verified),
    forget(digest) {
      manifests.forget(digest);
      listings.forget(digest);
      blobs.forget(digest);
      ready.forget(digest);
    },
    changed: (change) => ready.changed(change),
    stop: async () => await background.stop(),
  };
}

/** What is public at its registry is not public here where not everybody may have it. */
function asShown<T extends { readonly visibility: Visibility }>(answer: T, { forEverybody }: Admission): T {
  return forEverybody || answer.visibility === "private" ? answer : { ...answer, visibility: "private" };
}

/** What the caller is told where nothing is held and the upstream is not asked on its behalf. */
async function orDenied<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw error instanceof WithheldError ? error.denial : error;
  }
}
