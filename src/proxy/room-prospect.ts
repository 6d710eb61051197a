import type { Digest } from "../oci/digest.ts";
import type { Prospect } from "./room.ts";
import type { RoomLimits } from "./room-eviction.ts";
import { type BlobIndex, HELD, MANIFEST } from "./room-index.ts";
import { queueBefore } from "./room-victims.ts";

/** When the blobs would go, as far as the index can tell; undefined where it has none of them. */
export function prospectOf(
  index: BlobIndex,
  digests: readonly Digest[],
  { limits, usedBytes }: { readonly limits: RoomLimits; readonly usedBytes: number },
): Prospect | undefined {
  const held = digests.flatMap((digest) => {
    const entry = index.find(digest);
    return entry === undefined || !index.has(entry, HELD) ? [] : [entry];
  });
  const queue = queueBefore(index, held);
  const entry = queue?.first ?? held[0];
  if (entry === undefined) return undefined;
  const { total, maxAgeMs } = limits;
  const usedAtMs = index.usedAtMs(entry);
  const ages = maxAgeMs !== undefined && queue !== undefined && !index.has(entry, MANIFEST);
  return {
    first: index.digest(entry),
    usedAtMs,
    pinned: queue === undefined,
    blobsBefore: queue?.blobs ?? 0,
    bytesBefore: queue?.bytes ?? 0,
    usedBytes,
    evictsAboveBytes: total?.high,
    agedAtMs: ages ? usedAtMs + maxAgeMs : undefined,
  };
}
