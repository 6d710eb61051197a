import type { RoomLimits } from "./room-eviction.ts";
import { type BlobIndex, LINKED, MANIFEST, PINNED } from "./room-index.ts";

/** Held blobs, with what decides which of them goes first. */
export type Victims = readonly { readonly entry: number; readonly usedAtMs: number }[];

/** Steps of time into which the blobs are counted before they are sorted; the step with the last victim decides. */
const STEPS = 1024;

export interface Wanted {
  /** Bytes to be given back. */
  readonly bytes: number;
  /** Only blobs that this upstream, and no other, has. */
  readonly upstream?: string;
}

/** More is held than may be: of everything, or of what `wanted.upstream` has. */
export interface Excess {
  readonly reason: "room" | "upstream-cap";
  readonly wanted: Wanted;
}

/** Everything that is above its high mark, with what goes until the low one is reached. */
export function* excesses(
  { total, upstreams }: RoomLimits,
  used: number,
  perUpstream: () => ReadonlyMap<string, number>,
): Generator<Excess, void, undefined> {
  if (total !== undefined && used > total.high) yield { reason: "room", wanted: { bytes: used - total.low } };
  if (upstreams.size === 0) return;
  const bytesOf = perUpstream();
  for (const [upstream, { high, low }] of upstreams) {
    const bytes = bytesOf.get(upstream) ?? 0;
    if (bytes > high) yield { reason: "upstream-cap", wanted: { bytes: bytes - low, upstream } };
  }
}

/**
 * Those of which at least `bytes` are given back, in the order in which they should go: what was used least recently first,
 * and manifests only when there is nothing else left, since with them goes what tags mean. What is pinned stays. Fewer bytes
 * where there are not so many.
 */
export function chooseVictims(index: BlobIndex, { bytes, upstream }: Wanted): Victims {
  const mine = (entry: number): boolean => upstream === undefined || index.isOwnedBy(entry, upstream);
  const blobs = leastRecent(index, bytes, (entry) => !index.has(entry, MANIFEST) && mine(entry));
  const left = bytes - blobs.reduce((sum, { entry }) => sum + index.occupied(entry), 0);
  if (left <= 0) return blobs;
  return [...blobs, ...leastRecent(index, left, (entry) => index.has(entry, MANIFEST) && mine(entry))];
}

/** What nobody has asked for since `beforeMs`, apart from manifests. */
export function chooseAged(index: BlobIndex, beforeMs: number): Victims {
  return sorted(index, (entry) => !index.has(entry, MANIFEST) && index.usedAtMs(entry) < beforeMs);
}

/** The manifests among it: with them go the tags that mean them, and they go last. */
export function chooseAgedManifests(index: BlobIndex, beforeMs: number): Victims {
  return sorted(index, (entry) => index.has(entry, MANIFEST) && index.usedAtMs(entry) < beforeMs);
}

/** What no repository has, and nobody has used since `beforeMs`. For after a look at all links. */
export function chooseUnlinked(index: BlobIndex, beforeMs: number): Victims {
  return sorted(index, (entry) => !index.has(entry, LINKED) && index.usedAtMs(entry) < beforeMs);
}

/** Of these held entries the one that would go first, and what would go before it; undefined where pins keep all of them. */
export function queueBefore(
  index: BlobIndex,
  entries: readonly number[],
): { readonly first: number; readonly blobs: number; readonly bytes: number } | undefined {
  const goesBefore = (a: number, b: number): boolean => {
    const [aIsManifest, bIsManifest] = [index.has(a, MANIFEST), index.has(b, MANIFEST)];
    return aIsManifest === bIsManifest ? index.usedAtMs(a) < index.usedAtMs(b) : bIsManifest;
  };
  const [some, ...others] = entries.filter((entry) => !index.has(entry, PINNED));
  if (some === undefined) return undefined;
  const first = others.reduce((best, entry) => (goesBefore(entry, best) ? entry : best), some);
  let [blobs, bytes] = [0, 0];
  eachThatMay(
    index,
    (entry) => goesBefore(entry, first),
    (entry) => {
      blobs += 1;
      bytes += index.occupied(entry);
    },
  );
  return { first, blobs, bytes };
}

/** Those of the held blobs that may go at all. */
function eachThatMay(index: BlobIndex, wanted: (entry: number) => boolean, visit: (entry: number) => void): void {
  index.eachHeld((entry) => {
    if (!index.has(entry, PINNED) && wanted(entry)) visit(entry);
  });
}

function sorted(index: BlobIndex, wanted: (entry: number) => boolean): Victims {
  const found: { entry: number; usedAtMs: number }[] = [];
  eachThatMay(index, wanted, (entry) => found.push({ entry, usedAtMs: index.usedAtMs(entry) }));
  return found.sort((a, b) => a.usedAtMs - b.usedAtMs);
}

/** Counts first how much was used when, so that of a million blobs only the few that go are sorted. */
function leastRecent(index: BlobIndex, bytes: number, wanted: (entry: number) => boolean): Victims {
  if (bytes <= 0) return [];
  let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  eachThatMay(index, wanted, (entry) => {
    first = Math.min(first, index.usedAtMs(entry));
    last = Math.max(last, index.usedAtMs(entry));
  });
  const stepMs = Math.max(1, (last - first + 1) / STEPS);
  const stepOf = (entry: number): number => Math.floor((index.usedAtMs(entry) - first) / stepMs);
  const bytesByStep = new Float64Array(STEPS + 1);
  eachThatMay(index, wanted, (entry) => {
    bytesByStep[stepOf(entry)] = (bytesByStep[stepOf(entry)] ?? 0) + index.occupied(entry);
  });
  let until = 0;
  for (let sum = bytesByStep[0] ?? 0; sum < bytes && until < STEPS; sum += bytesByStep[until] ?? 0) until += 1;
  const victims: { entry: number; usedAtMs: number }[] = [];
  let sum = 0;
  for (const victim of sorted(index, (entry) => wanted(entry) && stepOf(entry) <= until)) {
    if (sum >= bytes) break;
    victims.push(victim);
    sum += index.occupied(victim.entry);
  }
  return victims;
}
