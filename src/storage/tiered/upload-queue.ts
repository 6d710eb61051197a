/**
 * What lies on the disk and has to get into the bucket behind it. Each thing that waits has a note on the disk, written
 * before the thing itself: a crash, or an outage of days, loses nothing.
 *
 * Things are sent in the order of writing (design, section 5): a link never before the blob that was written before it, a tag
 * never before its links, a record never before its tag. That a repository is private is known before anything that it has.
 * Several are on their way at once.
 */
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { KeyedLock } from "../../base/keyed-lock.ts";
import type { Log } from "../../base/log.ts";
import type { Digest } from "../../oci/digest.ts";
import { StorageError } from "../blob-store.ts";
import { blobKey, parseKey, UPLOADS_PREFIX, uploadNoteKey } from "../layout.ts";
import type { SmallObjects } from "../small-objects.ts";

/** What a thing's note asks for: to have it in the bucket as it is on the disk, or not to have it any more. */
export type Errand = "keep" | "delete";

/** How it went: `absent` where the disk has nothing under the key. */
export type Sent = "sent" | "absent";

export interface UploadQueueDeps {
  /** The disk's own, past any cache. */
  readonly notes: SmallObjects;
  /** Does what the note asks for. Rejects with a StorageError where it cannot be done now. */
  send(key: string, errand: Errand, o: CallOptions): Promise<Sent>;
  /** Where the disk is full: true when something was evicted. */
  makeRoom(o: CallOptions): Promise<boolean>;
  /** Of a blob that the disk has; 0 for everything else. */
  bytesOf(key: string, o: CallOptions): Promise<number>;
  /** Bytes of blobs that may wait; asked each time. Undefined = no limit. */
  maxBytes(): number | undefined;
  /** Whether this is the process that sends; the others of the same Weir only write notes. */
  readonly sends: boolean;
  /** Other processes write notes, too: they are looked for now and then. */
  readonly hasOthers: boolean;
  readonly clock: Clock;
  /** As `Math.random`; spreads the waiting times. */
  readonly random: () => number;
  readonly log: Log;
}

export interface Waiting {
  /** How many things. */
  readonly entries: number;
  /** Of the blobs among them. */
  readonly bytes: number;
}

/** Notes of links and records of some ten thousand images, and 100 bytes of memory each. */
export const MAX_ENTRIES = 200_000;

/** On their way at once. */
const AT_ONCE = 8;

/** After a failure, doubled with each that follows, up to the longest. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

/** So often it is looked for what other processes have noted. */
const LOOK_MS = 2_000;

/** A note is written before what it is about: whoever wrote an older one has been stopped in between. */
const YOUNG_MS = 10 * 60_000;

interface Entry {
  readonly key: string;
  readonly errand: Errand;
  readonly seq: number;
  readonly atMs: number;
  bytes: number;
  /** What it is about has been written. */
  ready: boolean;
}

/** What of each kind must be there before the next one is sent. */
const RANKS = 4;

export class UploadQueue {
  readonly #deps: UploadQueueDeps;
  /** By rank and key, each in the order in which they have to go. */
  readonly #ranks: readonly Map<string, Entry>[] = Array.from({ length: RANKS }, () => new Map());
  readonly #locks = new KeyedLock<string>();
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #started = false;
  #seq = 0;
  #entries = 0;
  #bytes = 0;
  /** One at a time for each key: the bucket must end up with what was noted last. */
  readonly #sending = new Set<string>();
  #failures = 0;
  #pausing = false;
  #toldFull = false;

  constructor(deps: UploadQueueDeps) {
    this.#deps = deps;
  }

  get waiting(): Waiting {
    return { entries: this.#entries, bytes: this.#bytes };
  }

  /** Takes over what an earlier process, or another one, has noted. */
  async load(o: CallOptions): Promise<void> {
    const { notes, bytesOf } = this.#deps;
    const found: Omit<Entry, "seq">[] = [];
    for await (const name of notes.list(UPLOADS_PREFIX, o)) {
      const note = parseNote(await notes.get(`${UPLOADS_PREFIX}${name}`, o));
      if (note === undefined || this.#find(note.key) !== undefined) continue;
      found.push({ ...note, bytes: await bytesOf(note.key, o), ready: true });
    }
    found.sort((a, b) => a.atMs - b.atMs || rankOf(a.key) - rankOf(b.key));
    for (const entry of found) {
      // Noted by this process meanwhile, it is newer.
      if (this.#find(entry.key) === undefined) this.#add({ ...entry, seq: this.#next() });
    }
    this.#pump();
  }

  /** Sends from now on. */
  start(): void {
    const { log, hasOthers } = this.#deps;
    this.#started = true;
    if (this.#entries > 0) log.info({ entries: this.#entries }, "some of what is held has not been sent to S3 yet");
    this.#pump();
    if (hasOthers) this.#own(this.#lookAround());
  }

  /** Does `write`, which changes what the disk has under `key`, and has the bucket follow. */
  async through<T>(
    key: string,
    o: CallOptions & { readonly errand: Errand; readonly bytes?: number },
    write: () => Promise<T>,
  ): Promise<T> {
    const entry = await this.#note(key, o);
    try {
      return await write();
    } finally {
      // Where it failed, what the disk has instead is sent, if anything.
      if (entry !== undefined) entry.ready = true;
      this.#pump();
    }
  }

  /** What is still to be done for the key; undefined where the bucket is as it should be. */
  async errand(key: string, o: CallOptions): Promise<Errand | undefined> {
    const { notes, sends, hasOthers } = this.#deps;
    const known = this.#find(key)?.errand;
    if (known !== undefined || (sends && !hasOthers)) return known;
    return parseNote(await notes.get(uploadNoteKey(key), o))?.errand;
  }

  /** The keys that the bucket is still to lose, as they are now, as far as this process knows. */
  deletions(): ReadonlySet<string> {
    const keys = new Set<string>();
    for (const rank of this.#ranks) for (const { key, errand } of rank.values()) if (errand === "delete") keys.add(key);
    return keys;
  }

  /** Whether the blob is on the disk only. */
  async has(digest: Digest, o: CallOptions): Promise<boolean> {
    return (await this.errand(blobKey(digest), o)) === "keep";
  }

  /** The blobs that are known to be on the disk only. */
  *digests(): Iterable<Digest> {
    for (const { key, errand } of this.#ranks[0]?.values() ?? []) {
      const parsed = errand === "keep" ? parseKey(key) : undefined;
      if (parsed?.kind === "blob") yield parsed.digest;
    }
  }

  /** What waits has its notes. Repeatable. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("the store is closed"));
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** Undefined where too much waits already: then the disk alone has it. */
  async #note(
    key: string,
    o: CallOptions & { readonly errand: Errand; readonly bytes?: number },
  ): Promise<Entry | undefined> {
    const { clock } = this.#deps;
    const { errand, bytes = 0 } = o;
    return await this.#locks.run(key, async () => {
      const before = this.#find(key);
      if (before === undefined && errand === "keep" && this.#isFull(bytes)) return undefined;
      const entry: Entry = { key, errand, bytes, seq: this.#next(), atMs: clock.now(), ready: false };
      if (before?.errand !== errand) await this.#write(entry, o);
      if (before !== undefined) this.#remove(before);
      if (this.#deps.sends) this.#add(entry);
      return entry;
    });
  }

  async #write(entry: Entry, o: CallOptions): Promise<void> {
    const { notes, makeRoom } = this.#deps;
    const write = (): Promise<void> => notes.put(uploadNoteKey(entry.key), formatNote(entry), o);
    try {
      await write();
    } catch (error) {
      if (!(error instanceof StorageError) || error.fault !== "no-space" || !(await makeRoom(o))) throw error;
      await write();
    }
  }

  #isFull(more: number): boolean {
    const { maxBytes, log } = this.#deps;
    const tooLarge = more > 0 && this.#bytes + more > (maxBytes() ?? Number.POSITIVE_INFINITY);
    const isFull = tooLarge || this.#entries >= MAX_ENTRIES;
    if (isFull && !this.#toldFull) {
      this.#toldFull = true;
      log.error({ ...this.waiting }, "too much waits to be sent to S3: what comes now is kept on the disk only");
    }
    return isFull;
  }

  #find(key: string): Entry | undefined {
    return this.#ranks[rankOf(key)]?.get(key);
  }

  #add(entry: Entry): void {
    this.#ranks[rankOf(entry.key)]?.set(entry.key, entry);
    this.#entries += 1;
    this.#bytes += entry.bytes;
  }

  #remove(entry: Entry): void {
    const rank = this.#ranks[rankOf(entry.key)];
    if (rank?.get(entry.key) !== entry) return;
    rank.delete(entry.key);
    this.#entries -= 1;
    this.#bytes -= entry.bytes;
  }

  #next(): number {
    this.#seq += 1;
    return this.#seq;
  }

  #pump(): void {
    while (this.#started && !this.#pausing && !this.#stop.signal.aborted && this.#sending.size < AT_ONCE) {
      const entry = this.#choose();
      if (entry === undefined) return;
      this.#sending.add(entry.key);
      this.#own(this.#send(entry));
    }
  }

  /** The first that may go. What must be there before it has been noted before it, and is not noted any more. */
  #choose(): Entry | undefined {
    let barrier = Number.POSITIVE_INFINITY;
    for (const rank of this.#ranks) {
      let first = Number.POSITIVE_INFINITY;
      for (const entry of rank.values()) {
        first = Math.min(first, entry.seq);
        if (entry.seq > barrier) break;
        if (entry.ready && !this.#sending.has(entry.key)) return entry;
      }
      barrier = Math.min(barrier, first);
    }
    return undefined;
  }

  async #send(entry: Entry): Promise<void> {
    const { send, hasOthers, clock, log } = this.#deps;
    const o = { signal: this.#stop.signal };
    try {
      const sent = await send(entry.key, entry.errand, o);
      // Whoever noted it may be about to write it.
      const early = sent === "absent" && hasOthers && clock.now() - entry.atMs < YOUNG_MS;
      if (early) this.#remove(entry);
      else await this.#done(entry, o);
      this.#recovered();
    } catch (error) {
      if (o.signal.aborted) return;
      if (error instanceof StorageError && error.fault !== "corrupt") this.#pause(error);
      else {
        log.error({ err: error, key: entry.key }, "something that is held cannot be sent to S3, and stays on the disk");
        await this.#done(entry, o).catch((err: unknown) => log.warn({ err }, "a note could not be removed"));
      }
    } finally {
      this.#sending.delete(entry.key);
      this.#pump();
    }
  }

  /** Unless it has been noted anew meanwhile. */
  async #done(entry: Entry, o: CallOptions): Promise<void> {
    await this.#locks.run(entry.key, async () => {
      if (this.#find(entry.key) !== entry) return;
      await this.#deps.notes.delete(uploadNoteKey(entry.key), o);
      this.#remove(entry);
    });
  }

  #recovered(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.#toldFull = false;
    this.#deps.log.info({ ...this.waiting }, "S3 takes what is held again");
  }

  #pause(error: StorageError): void {
    if (this.#pausing) return;
    const { clock, random, log } = this.#deps;
    const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#failures);
    this.#failures += 1;
    log.warn({ err: error, ...this.waiting }, "S3 takes nothing now: what is held waits on the disk");
    this.#pausing = true;
    const over = clock.sleep(most / 2 + (random() * most) / 2, this.#stop.signal).then(
      () => {
        this.#pausing = false;
        this.#pump();
      },
      () => {},
    );
    this.#own(over);
  }

  async #lookAround(): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await clock.sleep(LOOK_MS, signal);
        await this.load({ signal });
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, "what has to be sent to S3 could not be looked for");
      }
    }
  }

  #own(work: Promise<void>): void {
    this.#running.add(work);
    void work.finally(() => this.#running.delete(work));
  }
}

/** Content, and whether it may be read; what names it, what names that, and what is known of it. */
function rankOf(key: string): number {
  switch (parseKey(key)?.kind) {
    case "blob":
    case "repository-record":
      return 0;
    case "layer":
    case "mark":
    case "revision":
      return 1;
    case "tag":
    case "tag-index":
      return 2;
    default:
      return 3;
  }
}

function formatNote({ key, errand, atMs }: Entry): Uint8Array {
  return Buffer.from(JSON.stringify({ key, errand, atMs }));
}

/** Undefined for what is no note. */
function parseNote(
  bytes: Uint8Array | undefined,
): { readonly key: string; readonly errand: Errand; readonly atMs: number } | undefined {
  try {
    const { key, errand, atMs } = JSON.parse(Buffer.from(bytes ?? []).toString("utf8")) as Record<string, unknown>;
    if (typeof key !== "string" || typeof atMs !== "number") return undefined;
    return errand === "keep" || errand === "delete" ? { key, errand, atMs } : undefined;
  } catch {
    return undefined;
  }
}
