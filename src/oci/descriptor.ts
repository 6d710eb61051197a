import { type Digest, isDigest } from "./digest.ts";

/** A typed, sized pointer to content (image-spec, descriptor.md). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** False for what is malformed, and for digests that Weir cannot verify. */
export function isDescriptor(value: unknown): value is Descriptor {
  if (typeof value !== "object" || value === null) {
    return false;
  }
  const { mediaType, digest, size } = value as Readonly<Record<string, unknown>>;
  return (
    typeof mediaType === "string" &&
    typeof digest === "string" &&
    isDigest(digest) &&
    typeof size === "number" &&
    Number.isSafeInteger(size) &&
    size >= 0
  );
}
