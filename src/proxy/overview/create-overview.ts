import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Ttl } from "../../config/freshness-match.ts";
import type { FreshnessConfig } from "../../config/types.ts";
import { parseRepository, type RepoRef } from "../../oci/reference.ts";
import type { BlobStore } from "../../storage/blob-store.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { Upstream } from "../../upstream/upstream.ts";
import { quietManifests } from "../explain/quiet-manifests.ts";
import { type NamedPin, pinning } from "../operator-pins.ts";
import type { Memory } from "../remembered.ts";
import type { Room } from "../room.ts";
import type { Marks } from "../room-eviction.ts";
import type { Standings } from "../standings.ts";
import type { UpstreamNames } from "../upkeep/selection.ts";
import { type Activity, mergedFills, mergedRecent, mergedUpstreams } from "./activity.ts";
import { MAX_PAGE, type Overview, type PageQuery, type StorageOverview } from "./overview.ts";
import type { RepositoryIndex } from "./repository-index.ts";
import { pinnedBy, TagRows } from "./tag-rows.ts";

export interface OverviewDeps {
  /** Of whoever answers clients. */
  readonly activity: Activity;
  readonly index: Pick<RepositoryIndex, "page" | "line" | "count" | "upstreams">;
  readonly upstreams: { get(name: string): Upstream | undefined };
  /** What is below the room: looking must not make anything look used. */
  readonly store: Pick<BlobStore, "open">;
  readonly repositories: Repositories;
  readonly standings: Pick<Standings, "known">;
  readonly memory: Pick<Memory, "head" | "absence">;
  readonly room: Pick<Room, "usage">;
  marks(): Marks | undefined;
  readonly driver: StorageOverview["driver"];
  waitingUploads(): number | undefined;
  pins(o: CallOptions): Promise<readonly NamedPin[]>;
  freshnessOf(upstream: string): FreshnessConfig;
  ttlOf(repo: RepoRef, tag: string): Ttl;
  names(): Pick<UpstreamNames, "upstream">;
  readonly clock: Clock;
}

/** Of an upstream that is not configured any more. */
const NO_BUDGET: Pick<Upstream, "budgetLow"> = { budgetLow: () => false };
const NO_CREDENTIAL: Pick<Upstream, "hasCredential"> = { hasCredential: () => false };

export function createOverview(deps: OverviewDeps): Overview {
  const { activity, index, room, repositories } = deps;
  const rows = new TagRows({ ...deps, manifests: quietManifests(deps.store, repositories) });
  return {
    async upstreams(o) {
      const { perUpstream } = room.usage();
      return mergedUpstreams(await activity.upstreams(o)).map((upstream) => ({
        ...upstream,
        held: { bytes: perUpstream.get(upstream.name) ?? 0, repositories: index.count(upstream.name) },
      }));
    },
    async storage() {
      const { bytes, blobs, limitBytes, counting } = room.usage();
      const marks = deps.marks();
      return {
        driver: deps.driver,
        bytes,
        blobs,
        limitBytes,
        highBytes: marks?.high,
        lowBytes: marks?.low,
        counted: !counting,
        waitingUploads: deps.waitingUploads(),
      };
    },
    repositories: (query, o) => index.page(query, o),
    async repository(upstream, repository, query, o) {
      const repo = nameOf(deps, upstream, repository);
      if (repo === undefined) return undefined;
      const known = deps.upstreams.get(repo.upstream);
      const [line, tags, { standing }, pins] = await Promise.all([
        index.line(repo, o),
        tagsOf(repositories, repo, query, o),
        deps.standings.known(repo, known ?? NO_CREDENTIAL, o),
        deps.pins(o),
      ]);
      if (line === undefined) return undefined;
      const own = pins.filter((pin) => pin.repository(repo));
      return {
        ...line,
        total: tags.total,
        rows: await rows.of({ repo, upstream: known ?? NO_BUDGET, standing, pins: own }, tags.page, o),
        pinnedBy: pinnedBy(pinning(own, repo, { tag: undefined, digest: undefined })),
      };
    },
    fills: async (o) => mergedFills(await activity.fills(o)),
    recent: async (limit, o) => mergedRecent(await activity.recent(limit, o), limit),
  };
}

/** The repository that is meant; undefined for what cannot be one. An upstream that is configured no more may still be held. */
function nameOf({ names, index }: OverviewDeps, upstream: string, repository: string): RepoRef | undefined {
  const name = names().upstream(upstream) ?? index.upstreams().find((held) => held === upstream);
  try {
    return name === undefined ? undefined : { upstream: name, repository: parseRepository(repository) };
  } catch {
    return undefined;
  }
}

/** Only the names are read, and only those on the page are looked at. */
async function tagsOf(
  repositories: Pick<Repositories, "tagNames">,
  repo: RepoRef,
  { search, offset, limit }: PageQuery,
  o: CallOptions,
): Promise<{ readonly total: number; readonly page: readonly string[] }> {
  const wanted = search.toLowerCase();
  const found: string[] = [];
  for await (const tag of repositories.tagNames(repo, o)) {
    if (tag.toLowerCase().includes(wanted)) found.push(tag);
  }
  const page = found.sort().slice(offset, offset + Math.min(limit, MAX_PAGE));
  return { total: found.length, page };
}
