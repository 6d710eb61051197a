import type { CallOptions } from "../base/call.ts";

/**
 * Small named objects (links, records) in the same root or bucket as the blobs. Keys are relative, `/`-separated and made
 * by `layout.ts` only. A put is atomic and durable; a reader sees the old or the new content, never a mix.
 */
export interface SmallObjects {
  get(key: string, o: CallOptions): Promise<Uint8Array | undefined>;
  put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void>;
  /** True when there was something to delete. */
  delete(key: string, o: CallOptions): Promise<boolean>;
  /** The names directly under `prefix` (which ends in `/`), in unspecified order; folders end in `/`. */
  list(prefix: string, o: CallOptions): AsyncIterable<string>;
}
