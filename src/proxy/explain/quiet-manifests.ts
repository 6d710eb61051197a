import type { CallOptions } from "../../base/call.ts";
import { type Digest, digestAlgorithm, digestOf } from "../../oci/digest.ts";
import { inferMediaType, parseManifest } from "../../oci/manifest.ts";
import { type BlobStore, StorageError } from "../../storage/blob-store.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { HeldManifest, HeldManifests } from "../held-manifests.ts";

/** What is larger is no manifest that anybody has to have explained. */
const MAX_BYTES = 16 << 20;

/**
 * Held manifests as they are: looking at them makes nothing look used, and damaged ones stay where they are.
 *
 * @param store what is below the room
 */
export function quietManifests(
  store: Pick<BlobStore, "open">,
  repositories: Pick<Repositories, "getManifestRecord">,
): Pick<HeldManifests, "read"> {
  return {
    async read(digest, o): Promise<HeldManifest | undefined> {
      const bytes = await quietBytes(store, digest, o);
      if (bytes === undefined) {
        return undefined;
      }
      try {
        const record = await repositories.getManifestRecord(digest, o);
        return { digest, bytes, mediaType: record?.mediaType ?? inferMediaType(parseManifest(bytes), undefined) };
      } catch (error) {
        if (error instanceof StorageError) {
          return undefined;
        }
        throw error;
      }
    },
  };
}

/** A small held blob as it is, in the same way; undefined where it is not held, or damaged. */
export async function quietBytes(
  store: Pick<BlobStore, "open">,
  digest: Digest,
  o: CallOptions,
): Promise<Uint8Array | undefined> {
  try {
    const bytes = await readBytes(store, digest, o);
    return bytes !== undefined && digestOf(bytes, digestAlgorithm(digest)) === digest ? bytes : undefined;
  } catch (error) {
    if (error instanceof StorageError) {
      return undefined;
    }
    throw error;
  }
}

async function readBytes(
  store: Pick<BlobStore, "open">,
  digest: Digest,
  o: CallOptions,
): Promise<Uint8Array | undefined> {
  const blob = await store.open(digest, o);
  if (blob === undefined) {
    return undefined;
  }
  try {
    if (blob.size > MAX_BYTES) {
      return undefined;
    }
    const bytes = Buffer.alloc(blob.size);
    let position = 0;
    for await (const chunk of blob.read(0, blob.size, o)) {
      bytes.set(chunk, position);
      position += chunk.length;
    }
    return bytes;
  } finally {
    await blob.close();
  }
}
