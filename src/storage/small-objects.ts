import type { CallOptions } from "../base/call.ts";

/** Bytes of one object. Links have under 200 and records a few hundred: what is larger is not one of ours. */
export const MAX_OBJECT_BYTES = 1 << 20;

/**
 * Small named objects (links, records) in the same root or bucket as the blobs. Keys are relative, `/`-separated and made
 * by `layout.ts` only. A put is atomic and durable; a reader sees the old or the new content, never a mix.
 */
export interface SmallObjects {
  get(key: string, o: CallOptions): Promise<Uint8Array | undefined>;
  put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void>;
  /** Undefined where there is nothing. */
  stat(key: string, o: CallOptions): Promise<ObjectStat | undefined>;
  /** True when there was something to delete. */
  delete(key: string, o: CallOptions): Promise<boolean>;
  /** The names directly under `prefix` (which ends in `/`), in unspecified order; folders end in `/`. */
  list(prefix: string, o: CallOptions): AsyncIterable<string>;
}

export interface ObjectStat {
  /** Bytes that the store uses for it. */
  readonly occupied: number;
  /** When it was last written; milliseconds since the epoch. */
  readonly changedAtMs: number;
}
