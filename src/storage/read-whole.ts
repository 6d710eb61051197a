import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import type { BlobStore } from "./blob-store.ts";

/** A held blob's bytes, unverified; undefined where it is not held, or larger than `maxBytes`. */
export async function readWhole(
  blobs: BlobStore,
  digest: Digest,
  maxBytes: number,
  o: CallOptions,
): Promise<Uint8Array | undefined> {
  const blob = await blobs.open(digest, o);
  if (blob === undefined) return undefined;
  try {
    if (blob.size > maxBytes) return undefined;
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
