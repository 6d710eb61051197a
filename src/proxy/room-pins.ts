import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { parseManifest } from "../oci/manifest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { RoomRecords } from "../storage/room-records.ts";
import { type BlobIndex, MANIFEST, PINNED } from "./room-index.ts";

/** One of `storage.pins`, or of an operator's. */
export interface Pin {
  /** Whether it means something in the repository. */
  repository(repo: RepoRef): boolean;
  /** Whether it means the tag, in such a repository; undefined: everything that the repository has. */
  readonly tag: ((tag: string) => boolean) | undefined;
  /** Instead: this manifest with all that it needs, or this blob. */
  readonly digest?: Digest;
}

/** An index of indexes is as deep as anything real goes. */
const MAX_DEPTH = 4;

/** What a held manifest names; empty for what is not held, or is no manifest. */
export async function namedBy(records: RoomRecords, manifest: Digest, o: CallOptions): Promise<NamedByManifest> {
  const bytes = await records.manifest(manifest, o);
  if (bytes === undefined) return { children: [], blobs: [] };
  try {
    const { children, blobs } = parseManifest(bytes);
    return { children: children.map(({ digest }) => digest), blobs: blobs.map(({ digest }) => digest) };
  } catch (error) {
    if (error instanceof OciError) return { children: [], blobs: [] };
    throw error;
  }
}

export interface NamedByManifest {
  readonly children: readonly Digest[];
  readonly blobs: readonly Digest[];
}

/** Marks everything that the pins want in the index, and nothing else. */
export async function markPinned(
  index: BlobIndex,
  pins: readonly Pin[],
  { records, repositories }: { readonly records: RoomRecords; readonly repositories: Repositories },
  o: CallOptions,
): Promise<void> {
  // Noted first and marked in one go: what was pinned stays so while it is being found out.
  const pinned = new Set<number>();
  const mark = (digest: Digest): void => {
    const entry = index.find(digest);
    if (entry !== undefined) pinned.add(entry);
  };
  const markAll = async (manifest: Digest, depth: number): Promise<void> => {
    mark(manifest);
    const { children, blobs } = await namedBy(records, manifest, o);
    blobs.forEach(mark);
    if (depth < MAX_DEPTH) for (const child of children) await markAll(child, depth + 1);
  };
  for (const { digest } of pins) {
    const entry = digest === undefined ? undefined : index.find(digest);
    if (digest === undefined || entry === undefined) continue;
    // A layer is not read to find out that it names nothing.
    if (index.has(entry, MANIFEST)) await markAll(digest, 1);
    else mark(digest);
  }
  const named = pins.filter(({ digest }) => digest === undefined);
  for await (const repo of named.length === 0 ? [] : repositories.linked(o)) {
    const meant = named.filter((pin) => pin.repository(repo));
    if (meant.some((pin) => pin.tag === undefined)) {
      for await (const { digest } of repositories.linkNames(repo, o)) mark(digest);
    } else if (meant.length > 0) {
      for (const tag of await repositories.tags(repo, o)) {
        if (!meant.some((pin) => pin.tag?.(tag))) continue;
        const entry = await repositories.getTag(repo, tag, o);
        if (entry !== undefined) await markAll(entry.digest, 1);
      }
    }
  }
  index.clear(PINNED);
  for (const entry of pinned) index.set(entry, PINNED, true);
}
