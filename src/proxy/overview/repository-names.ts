import { formatRepo, type RepoRef } from "../../oci/reference.ts";
import type { Visibility } from "../answers.ts";
import type { RepositoriesQuery } from "./overview.ts";

/** What is in a repository, counted; undefined for what was not yet. */
export interface RepositoryFigures {
  readonly visibility: Visibility | "unknown";
  readonly tags: number;
  readonly sizeBytes: number | undefined;
  readonly lastUsedMs: number | undefined;
  readonly atLeast: boolean;
}

/** One repository in memory. */
export interface NamedRepository extends RepoRef {
  /** What it was last found to have; undefined until it was looked at. */
  figures: RepositoryFigures | undefined;
  /** When all of that was counted; 0 where it was not, or something has changed since. Milliseconds since the epoch. */
  countedAtMs: number;
  /** Counting under way. */
  naming: Promise<void> | undefined;
  sizing: Promise<void> | undefined;
  /** Grows with all that it comes to have, and loses. */
  changes: number;
  /** How far that was when counting began last. */
  countedChanges: number;
  /** The walk that has seen it last. */
  seenBy: number;
}

export interface NamesLimits {
  readonly repositories: number;
  readonly bytes: number;
}

/** What one takes beside its name's characters, figures included; measured with a hundred thousand of them. */
const ENTRY_BYTES = 400;

/** Names of repositories in order, in memory that is bounded by their number and by bytes. No I/O. */
export class RepositoryNames {
  readonly #limits: NamesLimits;
  /** By upstream. */
  readonly #places = new Map<string, Place>();
  /** Names of upstreams in order. */
  #order: readonly string[] = [];
  #size = 0;
  #bytes = 0;

  constructor(limits: NamesLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#size;
  }

  /** As counted against the limit. */
  get bytes(): number {
    return this.#bytes;
  }

  get(repo: RepoRef): NamedRepository | undefined {
    return this.#places.get(repo.upstream)?.byName.get(repo.repository);
  }

  /** The one of this name, which is made if there is none; undefined where no more fit. */
  add({ upstream, repository }: RepoRef): NamedRepository | undefined {
    const known = this.get({ upstream, repository });
    if (known !== undefined) return known;
    const bytes = bytesOf(repository);
    if (this.#size === this.#limits.repositories || this.#bytes + bytes > this.#limits.bytes) return undefined;
    const place = this.#places.get(upstream) ?? this.#newPlace(upstream);
    const named: NamedRepository = {
      upstream,
      repository,
      figures: undefined,
      countedAtMs: 0,
      naming: undefined,
      sizing: undefined,
      changes: 0,
      countedChanges: 0,
      seenBy: 0,
    };
    place.byName.set(repository, named);
    place.inOrder.splice(positionOf(place.inOrder, repository), 0, named);
    this.#size += 1;
    this.#bytes += bytes;
    return named;
  }

  delete({ upstream, repository }: RepoRef): void {
    const place = this.#places.get(upstream);
    if (place === undefined || !place.byName.delete(repository)) return;
    place.inOrder.splice(positionOf(place.inOrder, repository), 1);
    this.#size -= 1;
    this.#bytes -= bytesOf(repository);
    if (place.inOrder.length > 0) return;
    this.#places.delete(upstream);
    this.#order = this.#order.filter((name) => name !== upstream);
  }

  /** How many there are of an upstream. */
  count(upstream: string): number {
    return this.#places.get(upstream)?.inOrder.length ?? 0;
  }

  upstreams(): readonly string[] {
    return this.#order;
  }

  *all(): Generator<NamedRepository, void, undefined> {
    for (const { inOrder } of this.#places.values()) yield* inOrder;
  }

  /** One page, in lexical order of `<upstream>/<repository>`, and how many there are on all pages. */
  find(query: RepositoriesQuery): { readonly total: number; readonly page: readonly NamedRepository[] } {
    const { offset, limit, upstream } = query;
    const search = query.search.toLowerCase();
    const page: NamedRepository[] = [];
    let total = 0;
    for (const name of upstream === undefined ? this.#order : [upstream]) {
      const inOrder = this.#places.get(name)?.inOrder ?? [];
      if (search === "") {
        // Nothing to compare: only what is on the page is looked at.
        const from = Math.max(0, offset - total);
        page.push(...inOrder.slice(from, from + limit - page.length));
        total += inOrder.length;
        continue;
      }
      for (const named of inOrder) {
        if (!named.repository.includes(search) && !formatRepo(named).includes(search)) continue;
        if (total >= offset && page.length < limit) page.push(named);
        total += 1;
      }
    }
    return { total, page };
  }

  #newPlace(upstream: string): Place {
    const place: Place = { byName: new Map(), inOrder: [] };
    this.#places.set(upstream, place);
    // As if each stood in front of its repositories' names.
    this.#order = [...this.#places.keys()].sort((a, b) => (`${a}/` < `${b}/` ? -1 : 1));
    return place;
  }
}

interface Place {
  readonly byName: Map<string, NamedRepository>;
  readonly inOrder: NamedRepository[];
}

/** Where a name stands among the others, or would. */
function positionOf(inOrder: readonly NamedRepository[], repository: string): number {
  let [from, to] = [0, inOrder.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((inOrder[middle]?.repository ?? "") < repository) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Names are ASCII. */
function bytesOf(repository: string): number {
  return ENTRY_BYTES + repository.length;
}
