import { type Descriptor, isDescriptor } from "./descriptor.ts";
import type { Digest } from "./digest.ts";
import { OCI_INDEX } from "./media-types.ts";

/**
 * One entry of a referrers list (distribution-spec, "Listing Referrers"). All its members stay with it as they came:
 * `artifactType`, annotations, and what Weir does not know.
 */
export interface Referrer extends Descriptor {
  readonly [member: string]: unknown;
}

/** A descriptor's own members nest three deep (`platform`, and the list in it); JSON far deeper cannot be written back. */
const MAX_NESTING = 8;

/**
 * The entries of a referrers list, given the JSON of its index; undefined when that is no index. What is no descriptor, or
 * has a digest that Weir cannot verify, is left out.
 */
export function readReferrers(document: unknown): readonly Referrer[] | undefined {
  if (typeof document !== "object" || document === null || !("manifests" in document)) {
    return undefined;
  }
  const { manifests } = document;
  if (manifests === null) {
    // An empty list, as Go writes one that was never filled.
    return [];
  }
  return Array.isArray(manifests) ? manifests.filter(isReferrer) : undefined;
}

export function isReferrer(value: unknown): value is Referrer {
  return isDescriptor(value) && nestsAtMost(MAX_NESTING, value);
}

/** The pages of one list as a whole; an entry that stands on two of them (the list grew meanwhile) counts once. */
export function mergeReferrers(pages: readonly (readonly Referrer[])[]): readonly Referrer[] {
  const merged = new Map<Digest, Referrer>();
  for (const referrer of pages.flat()) {
    if (!merged.has(referrer.digest)) {
      merged.set(referrer.digest, referrer);
    }
  }
  return [...merged.values()];
}

/** What the `artifactType` filter lets through. */
export function referrersOfType(referrers: readonly Referrer[], artifactType: string): readonly Referrer[] {
  return referrers.filter((referrer) => referrer.artifactType === artifactType);
}

/** The index that a client is sent. */
export function formatReferrers(referrers: readonly Referrer[]): Uint8Array {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: referrers }));
}

function nestsAtMost(levels: number, value: unknown): boolean {
  if (typeof value !== "object" || value === null) {
    return true;
  }
  return levels > 0 && Object.values(value).every((member) => nestsAtMost(levels - 1, member));
}
