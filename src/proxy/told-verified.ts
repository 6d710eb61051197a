import { type Digest, isDigest } from "../oci/digest.ts";
import type { Verified } from "./verified-blobs.ts";

const VERIFIED = "blobs.verified";

/** A line to another process; the channels of cluster/ are such lines. */
export interface VerifiedLine {
  tell(what: string, data: unknown): void;
  onTold(what: string, listener: (data: unknown) => void): void;
}

/** A worker's word to the others that it has seen a blob to be whole. Where it is lost, they read the blob for themselves. */
export function tellVerified(line: VerifiedLine, digest: Digest, { version, size }: Verified): void {
  line.tell(VERIFIED, [digest, version, size]);
}

export function hearVerified(line: VerifiedLine, heard: (digest: Digest, verified: Verified) => void): void {
  line.onTold(VERIFIED, (data) => {
    const [digest, version, size] = data as [string, string, number];
    if (isDigest(digest)) heard(digest, { version, size });
  });
}

/** Lets a worker's word reach the others by way of the parent, which keeps nothing of it. */
export function passOnVerified<L extends VerifiedLine>(from: L, all: () => Iterable<L>): void {
  from.onTold(VERIFIED, (data) => {
    for (const line of all()) if (line !== from) line.tell(VERIFIED, data);
  });
}
