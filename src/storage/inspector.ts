import type { CallOptions } from "../base/call.ts";

/**
 * The store as it lies there, for those who look after it: everything that has a name, whether or not it means anything.
 * Serving never uses it.
 */
export interface StoreInspector {
  /** Every file (or object) whose key begins with `prefix`, which ends in `/`; on a filesystem the folders, too. */
  entries(prefix: string, o: CallOptions): AsyncIterable<StoreEntry>;
  /**
   * Takes a damaged file out of everybody's way, and keeps it for a look. Those who are reading it go on. False when it is
   * gone.
   */
  quarantine(key: string, atMs: number, o: CallOptions): Promise<boolean>;
  /** What {@link quarantine} has put aside. */
  quarantined(o: CallOptions): AsyncIterable<QuarantinedFile>;
  /** Gives a file or folder to the root's owner, with the rights that Weir needs. False where this process may not. */
  repairAccess(key: string, o: CallOptions): Promise<boolean>;
}

export interface StoreEntry {
  /** Relative to the root or bucket; a folder's ends in `/`. */
  readonly key: string;
  /** `other`: a symbolic link, a socket, ... */
  readonly kind: "file" | "folder" | "other";
  /** Bytes. */
  readonly size: number;
  /** When it was last written or renamed; milliseconds since the epoch. */
  readonly changedAtMs: number;
  /** Why Weir may come to fail with it, in a few words: whose it is, or its mode. */
  readonly accessProblem: string | undefined;
}

export interface QuarantinedFile {
  readonly key: string;
  /** What its key was. */
  readonly was: string;
  /** Since when it lies there; milliseconds since the epoch. */
  readonly sinceMs: number;
  /** Bytes that the store uses for it. */
  readonly occupied: number;
  /** False when it was gone. */
  remove(o: CallOptions): Promise<boolean>;
}
