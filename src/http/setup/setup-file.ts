/** One file of a client's configuration. */
export interface SetupFile {
  /** Where the client looks for it: absolute, below the user's home (`~/…`), or relative to where its tool is run. */
  readonly path: string;
  readonly content: string;
  /** Permission bits. */
  readonly mode: number;
  /** What it does, a sentence. */
  readonly note: string;
  /** Other settings of the client may stand in a file of this name, so that nobody may replace it unasked. */
  readonly shared: boolean;
}

/** What makes a client use the cache. */
export interface ClientSetup {
  readonly files: readonly SetupFile[];
  /** What is left to do, and what to know, a sentence or command each. */
  readonly next: readonly string[];
}

/** Everybody may read them; none holds a secret. */
const READABLE = 0o644;

/** A file that is the cache's own: it may be replaced. */
export function ownFile(path: string, note: string, content: string): SetupFile {
  return { path, content, mode: READABLE, note, shared: false };
}

/** A file in which other settings may stand. */
export function sharedFile(path: string, note: string, content: string): SetupFile {
  return { path, content, mode: READABLE, note, shared: true };
}
