import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { AccessConfig, DownloadConfig, FreshnessConfig } from "../config/types.ts";
import { OciError } from "../oci/errors.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { StateStore } from "../state/state-store.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { Upstream } from "../upstream/upstream.ts";
import type { PullThrough } from "./answers.ts";
import { Background } from "./background.ts";
import { Blobs } from "./blobs.ts";
import { Catalog } from "./catalog.ts";
import type { Fills } from "./fills.ts";
import type { StaleReason } from "./freshness.ts";
import { HeldManifests } from "./held-manifests.ts";
import { Listings } from "./listings.ts";
import { Manifests } from "./manifests.ts";
import { ManifestsByDigest } from "./manifests-by-digest.ts";
import { ManifestsByTag } from "./manifests-by-tag.ts";
import { Proofs } from "./proofs.ts";
import type { Provenance } from "./provenance.ts";
import { Referrers } from "./referrers.ts";
import { Memory, type Remembered } from "./remembered.ts";
import { Stale } from "./stale.ts";
import { Standings } from "./standings.ts";
import { Tags } from "./tags.ts";

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
  /** The same object whose `committed` the fills call. */
  readonly provenance: Provenance;
  /** The upstream's own freshness section; asked for each request, so that a reload counts at once. */
  freshnessOf(upstream: string): FreshnessConfig;
  /** For how long the tag is fresh, by that section's rules; milliseconds. */
  ttlMs(repo: RepoRef, tag: string): number;
  /** Asked for each request, too. */
  access(): AccessConfig;
  readonly download: Pick<DownloadConfig, "rangeWaitMs">;
  /** Answers remembered only to save asking again. */
  readonly state: StateStore<Remembered>;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: ProxyObserver;
}

/** The pull-through with its background work (questions that outlive the client who asked). */
export interface RunningProxy extends PullThrough {
  /** Ends what is still being asked upstream and waits for it. Repeatable. */
  stop(): Promise<void>;
}

/** Puts the pull-through together. Nothing runs until it is asked something. */
export function createProxy(deps: ProxyDeps): RunningProxy {
  const background = new Background();
  const memory = new Memory(deps.state);
  const stale = new Stale((upstream, reason) => deps.observer.staleServed(upstream, reason));
  const shared = { ...deps, background, memory, stale };
  const standings = new Standings(shared);
  const proofs = new Proofs(shared);
  const manifests = new HeldManifests(deps);
  const listings = new Listings(deps.repositories, manifests);
  const byDigest = new ManifestsByDigest({ ...shared, manifests, listings, standings, proofs });
  const byTag = new ManifestsByTag({ ...shared, manifests, byDigest, standings });
  const answers = new Manifests({ standings, byDigest, byTag });
  const blobs = new Blobs({ ...shared, listings, standings, proofs });
  const tags = new Tags({ ...shared, standings, blobs });
  const referrers = new Referrers({ ...shared, standings });
  const catalog = new Catalog({ ...deps, standings });
  const upstreamOf = (name: string): Upstream => {
    const upstream = deps.upstreams.get(name);
    if (upstream === undefined) {
      throw new OciError("NAME_UNKNOWN", `no upstream is configured for ${name}`);
    }
    return upstream;
  };
  return {
    manifest: async (call) => await answers.answer(upstreamOf(call.repo.upstream), call),
    blob: async (call) => await blobs.answer(upstreamOf(call.repo.upstream), call),
    tags: async (call) => await tags.answer(upstreamOf(call.repo.upstream), call),
    referrers: async (call) => await referrers.answer(upstreamOf(call.repo.upstream), call),
    catalog: async (call) => await catalog.answer(call),
    stop: async () => await background.stop(),
  };
}
