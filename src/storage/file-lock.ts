import { DatabaseSync } from "node:sqlite";

/** SQLite's result code for a database that somebody else has locked. */
const SQLITE_BUSY = 5;

/** Who else may have the lock meanwhile: nobody, or others who share it. */
export type LockKind = "exclusive" | "shared";

/**
 * Takes the kernel's lock on a file, which is made if it is missing, by way of SQLite: the one thing in Node that can. A
 * file with a process number would outlive a crash, and in a container every Weir is process 1; this lock ends with its
 * process and is seen by all of the machine's containers.
 *
 * Gives the function that unlocks it, or undefined when somebody else has the lock. Throws when it cannot be found out.
 */
export function lockFile(path: string, kind: LockKind = "exclusive"): (() => void) | undefined {
  let database: DatabaseSync | undefined;
  try {
    const opened = new DatabaseSync(path);
    database = opened;
    // Nothing is ever written: without a journal in memory, an empty one would lie beside the lock.
    opened.exec("PRAGMA journal_mode = MEMORY");
    // A reader's lock is had by reading, and kept for as long as its transaction is open.
    opened.exec(kind === "exclusive" ? "BEGIN EXCLUSIVE" : "BEGIN; SELECT count(*) FROM sqlite_master");
    return () => opened.close();
  } catch (error) {
    database?.close();
    if (error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY) return undefined;
    throw error;
  }
}
