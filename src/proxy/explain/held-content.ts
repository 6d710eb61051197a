import type { CallOptions } from "../../base/call.ts";
import type { Descriptor } from "../../oci/descriptor.ts";
import type { Digest } from "../../oci/digest.ts";
import { OciError } from "../../oci/errors.ts";
import { type ParsedManifest, type Platform, parseManifest } from "../../oci/manifest.ts";
import type { BlobStore } from "../../storage/blob-store.ts";
import type { HeldManifest, HeldManifests } from "../held-manifests.ts";
import type { ExplainedBlob, ExplainedContent, ExplainedPlatform } from "./explanation.ts";

/** Entries of an index, and blobs of them all together, that are looked at: more than real images have. */
const MAX_PLATFORMS = 64;
const MAX_BLOBS = 512;

export interface HeldContentDeps {
  /** What is below the room. */
  readonly store: Pick<BlobStore, "stat">;
  readonly manifests: Pick<HeldManifests, "read">;
  fillOf(digest: Digest): ExplainedBlob["fill"];
}

/** Which parts of an image are held. */
export async function partsOf(
  deps: HeldContentDeps,
  manifest: HeldManifest,
  o: CallOptions,
): Promise<Pick<ExplainedContent, "platforms" | "blobs" | "more">> {
  const { children, blobs } = parsed(manifest);
  let left = MAX_BLOBS;
  const look = async (descriptors: readonly Descriptor[]): Promise<readonly ExplainedBlob[]> => {
    const found: ExplainedBlob[] = [];
    for (const { digest, size } of descriptors.slice(0, left)) {
      found.push(await blobOf(deps, digest, size, o));
    }
    left -= found.length;
    return found;
  };
  const platforms: ExplainedPlatform[] = [];
  for (const { digest, platform } of children.slice(0, MAX_PLATFORMS)) {
    const child = await deps.manifests.read(digest, o);
    platforms.push({
      platform: named(platform),
      digest,
      held: child !== undefined,
      blobs: child === undefined ? [] : await look(parsed(child).blobs),
    });
  }
  const own = await look(blobs);
  return { platforms, blobs: own, more: children.length > MAX_PLATFORMS || left === 0 };
}

export async function blobOf(
  { store, fillOf }: HeldContentDeps,
  digest: Digest,
  size: number | undefined,
  o: CallOptions,
): Promise<ExplainedBlob> {
  const stat = await store.stat(digest, o);
  return { digest, size: stat?.size ?? size, held: stat !== undefined, fill: fillOf(digest) };
}

const NO_PARTS: Pick<ParsedManifest, "children" | "blobs"> = { children: [], blobs: [] };

/** What it lists; nothing where it is no manifest that can be read. */
export function parsed({ bytes }: HeldManifest): Pick<ParsedManifest, "children" | "blobs"> {
  try {
    return parseManifest(bytes);
  } catch (error) {
    if (error instanceof OciError) {
      return NO_PARTS;
    }
    throw error;
  }
}

/** `linux/arm/v7`. What stands there is the manifest's word: it is cut to what names of systems take. */
export function named(platform: Platform | undefined): string | undefined {
  if (platform === undefined) return undefined;
  const { os, architecture, variant } = platform;
  return [os, architecture, variant]
    .filter((part) => part !== undefined)
    .map((part) => part.slice(0, 32))
    .join("/");
}
