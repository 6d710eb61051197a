import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { SingleFlight } from "../../base/single-flight.ts";
import type { Digest } from "../../oci/digest.ts";
import { StorageError } from "../../storage/blob-store.ts";
import type { BucketRecords, MarkBatch } from "../../storage/bucket-records.ts";

/** What is known of the marks is read again when it is used after so long. One request, of which hits never wait. */
const READ_MS = 60_000;

/** What was read longer ago tells nothing. */
export const STALE_MS = 5 * 60_000;

/** After a failure nobody asks for so long. */
const RETRY_MS = 5_000;

/** For clocks that are put right meanwhile, for lists that show what was written a while later, and for answers on their way. */
const MARGIN_MS = 15 * 60_000;

/** More batches than there ever are. */
const MAX_BATCHES = 64;

/**
 * How long a marked blob stays in the bucket, by the server's clock.
 *
 * That nobody is sent to a blob which then goes: an address is signed by a process that knows the marks as they were at most
 * {@link STALE_MS} ago, and knows none of this blob. So the blob was marked less than that before, or later, and goes no sooner
 * than {@link MARGIN_MS} after the address has expired.
 *
 * That a use counts: uses are written down within a minute, and those of a blob that is marked within a second or two, since whoever
 * uses something while the marks were read a minute ago reads them. A use of the last second costs a miss, and a client who reads then
 * goes on from the upstream.
 */
export function graceMs(presignedMs: number): number {
  return presignedMs + STALE_MS + MARGIN_MS;
}

/** What is marked in the bucket, as far as this process has read it. */
export class Marks {
  readonly #deps: { readonly records: BucketRecords; readonly clock: Clock; readonly log: Log };
  readonly #reading = new SingleFlight<void>();
  #batches: ReadonlyMap<string, KnownBatch> = new Map();
  #readAtMs: number | undefined;
  #whenRead = (): void => {};
  #retryAtMs = 0;

  constructor(deps: { readonly records: BucketRecords; readonly clock: Clock; readonly log: Log }) {
    this.#deps = deps;
  }

  /** Whenever they have been read anew. */
  whenRead(listener: () => void): void {
    this.#whenRead = listener;
  }

  /** By id; one that makes no sense has no marks. */
  get batches(): ReadonlyMap<string, MarkBatch> {
    return this.#batches;
  }

  /** As far as is known; asks for it in the background where that was long ago. */
  isMarked(digest: Digest): boolean {
    if (this.#ageMs > READ_MS) void this.#readLater();
    for (const { digests } of this.#batches.values()) if (digests.has(digest)) return true;
    return false;
  }

  /** Whether a client may be sent to the blob: it is known that it stays for as long as that may take. */
  async mayRedirect(digest: Digest, o: CallOptions): Promise<boolean> {
    if (this.#ageMs > STALE_MS) {
      try {
        await this.read(o);
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        this.#deps.log.debug({ err: error }, "it cannot be told which blobs go from the bucket: nobody is sent there");
        return false;
      }
    }
    return !this.isMarked(digest) && this.#ageMs <= STALE_MS;
  }

  /** Reads them now. Rejects with a StorageError where it cannot. */
  async read(o: CallOptions): Promise<void> {
    await this.#reading.run("", o, (signal) => this.#read({ signal }));
  }

  /** Infinite where the clock was put back. */
  get #ageMs(): number {
    const ageMs = this.#deps.clock.now() - (this.#readAtMs ?? Number.NEGATIVE_INFINITY);
    return ageMs < 0 ? Number.POSITIVE_INFINITY : ageMs;
  }

  async #readLater(): Promise<void> {
    const { clock, log } = this.#deps;
    if (this.#reading.size > 0 || Math.abs(clock.now() - this.#retryAtMs) < RETRY_MS) return;
    this.#retryAtMs = clock.now();
    try {
      await this.read({ signal: new AbortController().signal });
    } catch (error) {
      log.debug({ err: error }, "it cannot be told which blobs go from the bucket");
    }
  }

  async #read(o: CallOptions): Promise<void> {
    const { records, clock } = this.#deps;
    const beganMs = clock.now();
    const batches = new Map<string, KnownBatch>();
    for await (const id of records.marks.ids(o)) {
      if (batches.size >= MAX_BATCHES)
        throw new StorageError("corrupt", "weir/v1/room/marks has more than Weir has put there: delete what is in it");
      const known = this.#batches.get(id) ?? (await this.#readBatch(id, o));
      if (known !== undefined) batches.set(id, known);
    }
    this.#batches = batches;
    this.#readAtMs = beganMs;
    this.#whenRead();
  }

  async #readBatch(id: string, o: CallOptions): Promise<KnownBatch | undefined> {
    const found = await this.#deps.records.marks.get(id, o);
    if (found === undefined) return undefined;
    const { marks, markedAtMs } = found.value ?? { marks: [] };
    return { marks, markedAtMs, digests: new Set(marks.map(({ digest }) => digest)) };
  }
}

interface KnownBatch extends MarkBatch {
  readonly digests: ReadonlySet<Digest>;
}
