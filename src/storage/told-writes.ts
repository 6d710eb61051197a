/** A line to another process; the channels of cluster/ are such lines. */
export interface WritesLine {
  tell(what: string, data: unknown): void;
  onTold(what: string, listener: (data: unknown) => void): void;
}

const WRITTEN = "objects.written";

/**
 * Tells another process that serves from the same storage what this one has written or deleted there.
 *
 * @param key of a small object; left out where nobody can say what was written: whoever would have told is gone
 */
export function tellWritten(line: WritesLine, key?: string): void {
  line.tell(WRITTEN, key ?? null);
}

export function hearWritten(line: WritesLine, heard: (key?: string) => void): void {
  line.onTold(WRITTEN, (data) => {
    // What cannot be made out may be anything.
    if (typeof data === "string") heard(data);
    else heard();
  });
}

/** Lets a worker's word reach the others by way of the parent, which hears it first. */
export function passOnWritten<L extends WritesLine>(
  from: L,
  all: () => Iterable<L>,
  heard: (key?: string) => void,
): void {
  hearWritten(from, (key) => {
    heard(key);
    for (const line of all()) if (line !== from) tellWritten(line, key);
  });
}
