import type { Readable } from "node:stream";
import type { ByteStream } from "../base/byte-stream.ts";
import type { CallOptions } from "../base/call.ts";
import { createHasher, type Digest, digestAlgorithm } from "../oci/digest.ts";
import { type OpenBlob, StorageError } from "../storage/blob-store.ts";
import { UpstreamError } from "../upstream/upstream.ts";

/** The bytes of a blob from `start` on, up to where they were wanted, from elsewhere than the store. */
export type Elsewhere = (start: number, error: StorageError) => ByteStream;

/** A part of a held blob, and the rest of it from elsewhere where the store loses it. Closes the blob at the end. */
export async function* heldPart(
  blob: OpenBlob,
  start: number,
  end: number,
  elsewhere: Elsewhere,
  o: CallOptions,
): ByteStream {
  let position = start;
  try {
    for await (const chunk of blob.read(start, end, o)) {
      position += chunk.length;
      yield chunk;
    }
    return;
  } catch (error) {
    if (!(error instanceof StorageError)) {
      throw error;
    }
    yield* elsewhere(position, error);
  } finally {
    await blob.close();
  }
}

/** What is made of the reading of a whole blob. */
export interface Verification {
  /** Whether another reading has shown meanwhile that the blob is whole. */
  isDone(): boolean;
  settle(agrees: boolean): Promise<void>;
  /** The client has left before the end. */
  giveUp(): void;
}

/**
 * A whole held blob, hashed on the way: what its last bytes would complete is not let out before the digest agrees, here or in
 * another reading. Where the store loses it, the rest comes from elsewhere, and nothing is settled. Closes the blob at the end.
 * Throws a StorageError `corrupt` where the digest does not agree.
 */
export async function* verifiedWhole(
  blob: OpenBlob,
  digest: Digest,
  verification: Verification,
  elsewhere: Elsewhere,
  o: CallOptions,
): ByteStream {
  let lost = false;
  const goOn: Elsewhere = (start, error) => {
    lost = true;
    return elsewhere(start, error);
  };
  const hasher = createHasher(digestAlgorithm(digest));
  let done = false;
  let position = 0;
  try {
    for await (const chunk of heldPart(blob, 0, blob.size, goOn, o)) {
      done ||= !lost && verification.isDone();
      if (!done) {
        hasher.update(chunk);
      }
      position += chunk.length;
      if (position === blob.size && !done) {
        const agrees = hasher.digest() === digest;
        if (!lost) {
          await verification.settle(agrees);
        }
        if (!agrees) {
          throw new StorageError("corrupt", `the held blob ${digest} does not hash to its digest`);
        }
      }
      yield chunk;
    }
  } finally {
    if (position < blob.size && !done && !lost) {
      verification.giveUp();
    }
  }
}

/** Whether the blob's content is what its digest names. Leaves it open. */
export async function hashesTo(blob: OpenBlob, digest: Digest, o: CallOptions): Promise<boolean> {
  const hasher = createHasher(digestAlgorithm(digest));
  for await (const chunk of blob.read(0, blob.size, o)) {
    hasher.update(chunk);
  }
  return hasher.digest() === digest;
}

/** `length` bytes of an upstream's body, no more and no fewer. Destroys the body at the end. */
export async function* exactly(body: Readable, length: number, upstream: string): ByteStream {
  let left = length;
  try {
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      const part = chunk.subarray(0, left);
      left -= part.length;
      yield part;
      if (left === 0) {
        return;
      }
    }
  } finally {
    body.destroy();
  }
  if (left > 0) {
    throw new UpstreamError(upstream, "bad-answer", `${upstream} ended a range ${left} bytes early`);
  }
}

/** The bytes of a small blob that have been read already. */
export async function* inMemory(bytes: Uint8Array): ByteStream {
  if (bytes.length > 0) {
    yield bytes;
  }
}
