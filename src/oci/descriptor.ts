import type { Digest } from "./digest.ts";

/** A typed, sized pointer to content (image-spec, descriptor.md). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}
