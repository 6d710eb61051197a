import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";

/** The folder of a stock registry that is not Weir's. Nothing in it is ever changed. */
export interface ForeignRegistry {
  /** It is the store's own folder: its blobs lie where they should. */
  readonly inPlace: boolean;
  /** Repositories by the names that the registry gives them, in unspecified order. */
  repositories(o: CallOptions): AsyncIterable<string>;
  layers(name: string, o: CallOptions): AsyncIterable<Digest>;
  revisions(name: string, o: CallOptions): AsyncIterable<Digest>;
  tags(name: string, o: CallOptions): AsyncIterable<{ readonly tag: string; readonly digest: Digest }>;
  /** Bytes; undefined where the data are missing or empty. */
  sizeOf(digest: Digest, o: CallOptions): Promise<number | undefined>;
  /** Whether the data hash to the digest; reads all of them. */
  isSound(digest: Digest, o: CallOptions): Promise<boolean>;
  /** A file of the store's own with the blob's data: another name for the same data where that can be, else a copy. */
  take(digest: Digest, o: CallOptions): Promise<{ readonly path: string; readonly how: "linked" | "copied" }>;
}
