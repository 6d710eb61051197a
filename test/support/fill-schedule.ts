/**
 * Case B16: one random course of events around one blob, the same for the same seed. Everything that can happen to a fill
 * happens in some order: chunks, breaks, lies and wrong bytes of several sources; readers that come, stand still, leave;
 * disks that get full, stores that refuse, evictions, restarts. Throws when anything is not as it should be.
 */
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { silentLog } from "../../src/base/log.ts";
import type { DownloadConfig } from "../../src/config/types.ts";
import { digestOf } from "../../src/oci/digest.ts";
import { FillStoppedError, WrongContentError } from "../../src/proxy/fill-errors.ts";
import type { FillTuning } from "../../src/proxy/fill-tuning.ts";
import { aloneTurns } from "../../src/proxy/fill-turn.ts";
import { createFills, type Fill, type FillOutcome, type Fills, type FillsDeps } from "../../src/proxy/fills.ts";
import { type BlobStore, StorageError, type StorageFault } from "../../src/storage/blob-store.ts";
import { GrowingFile } from "../../src/storage/growing-file.ts";
import type { Spool } from "../../src/storage/spool.ts";
import { type AheadStore, withUploadAhead } from "./ahead-store.ts";
import { type Answer, type BlobContent, ScriptedSource, seededBlob, upstreamError } from "./fill-sources.ts";
import { spoolWithRoom } from "./full-disk.ts";
import { seededBytes } from "./images.ts";
import { ManualClock } from "./manual-clock.ts";
import { createMemoryBlobStore } from "./memory-store.ts";
import { marks, RoomBench, UNLIMITED } from "./room-bench.ts";

const CHUNK_BYTES = 48;
/** Of a store that takes blobs while they arrive. */
const PART_BYTES = 60;
const TROUBLES: readonly StorageFault[] = ["no-space", "unavailable"];
const DAY_MS = 24 * 60 * 60 * 1000;
/** Turns of the event loop and of the clock after which all is over, unless the real disk is slow. */
const MOST_TURNS = 2_000;
const PATIENCE_MS = 60_000;

/** Everything small, so that blobs of some hundred bytes meet every edge. */
const TUNING: FillTuning = {
  blockBytes: 64,
  windowBytes: 192,
  streamWindowBytes: 256,
  writeBytes: 80,
  unwrittenBytes: 128,
  flushBytes: 100,
  flushMs: 3,
  tailBytes: 16,
  verifyFirstBytes: 90,
  markBytes: 150,
  keepBytes: 50,
  hashApartBytes: 100,
  stuckReaderMs: 1_000,
};

export interface ScheduleReport {
  readonly events: number;
  readonly outcomes: readonly FillOutcome[];
  readonly completed: number;
}

/** mulberry32: small, and good enough to pick events. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export async function runSchedule(seed: number, spool: Spool): Promise<ScheduleReport> {
  const schedule = new Schedule(seed, spool);
  await schedule.play();
  await schedule.finish();
  return schedule.report();
}

class Schedule {
  readonly #random: () => number;
  readonly #blob: BlobContent;
  readonly #clock = new ManualClock();
  /** Set where the store takes blobs while they arrive. */
  readonly #ahead: AheadStore | undefined;
  readonly #store: BlobStore;
  /** Bounds and evicts what the store holds; other blobs crowd it. */
  readonly #bench: RoomBench;
  readonly #spool: Spool;
  /** Set where large blobs are hashed beside everything else. */
  readonly #hashes: FillsDeps["hashes"];
  readonly #sources: ScriptedSource[] = [];
  readonly #readers: ScheduledReader[] = [];
  readonly #fills: Fill[] = [];
  readonly #outcomes: FillOutcome[] = [];
  readonly #download: DownloadConfig;
  #engine: Fills;
  #readerCount = 0;
  #room = Number.POSITIVE_INFINITY;
  #storeTrouble: StorageFault | undefined;
  /** Nothing happens that could excuse a reader's failure. */
  #benign = true;
  /** An upstream sends wrong bytes. */
  #lying = false;
  /** Upstreams do not agree on the blob's length. */
  #lengths: "one" | "several" = "one";
  /** Bytes may be asked for again for one reader alone: there was no disk to keep them, or they were evicted. */
  #streaming = false;
  /** Nothing happens that could excuse asking for a byte twice. */
  #frugal = true;
  #answers = 0;
  #events = 0;

  constructor(seed: number, spool: Spool) {
    this.#random = randomFrom(seed);
    const size = this.#pick([0, 1, 15, 16, 17, 89, 90, 91, 64, 200, 500, 1000, this.#below(1500)]);
    this.#blob = seededBlob(`schedule ${seed}`, size, this.#chance(0.1) ? "sha512" : "sha256");
    this.#ahead = this.#chance(0.5) ? withUploadAhead(createMemoryBlobStore(), PART_BYTES) : undefined;
    this.#store = this.#refusing(this.#ahead?.store ?? createMemoryBlobStore());
    this.#bench = new RoomBench({ store: this.#store, clock: this.#clock });
    this.#bench.room.start();
    this.#spool = spoolWithRoom(spool, () => this.#room);
    this.#hashes = this.#chance(0.5) ? this.#fileHashes() : undefined;
    const abandon = this.#chance(0.1) ? { afterMs: this.#below(500) } : ("never" as const);
    if (abandon !== "never") this.#benign = false;
    this.#download = { rangeWaitMs: 0, minRate: 1, stalledAttempts: 20, abandon };
    this.#engine = this.#newEngine();
    if (this.#chance(0.15)) this.#fillDisk();
    this.#addSource();
  }

  async play(): Promise<void> {
    await this.#engine.open();
    this.#join();
    const steps = 20 + this.#below(60);
    for (let step = 0; step < steps; step += 1) {
      await this.#step();
      this.#events += 1;
    }
  }

  /** Takes every hindrance away, waits for all ends, and looks at what is left. */
  async finish(): Promise<void> {
    for (const source of this.#sources) source.sendUpTo(Number.POSITIVE_INFINITY);
    for (const reader of this.#readers) reader.run();
    let over = false;
    const all = Promise.all([
      ...this.#fills.map((fill) => fill.outcome),
      ...this.#readers.map((reader) => reader.ended),
    ]).then(() => {
      over = true;
    });
    const limit = AbortSignal.timeout(PATIENCE_MS);
    for (let turn = 0; !over; turn += 1) {
      if (limit.aborted) throw new Error(`it does not come to an end: ${this.#describe()}`);
      await (turn < MOST_TURNS ? nextTurn() : delay(1));
      this.#clock.advance(turn < 100 ? 5 : 500);
    }
    await all;
    await this.#engine.stop({ signal: new AbortController().signal });
    await this.#checkEnd();
  }

  report(): ScheduleReport {
    const completed = this.#readers.filter((reader) => reader.state === "complete").length;
    return { events: this.#events, outcomes: this.#outcomes, completed };
  }

  #describe(): string {
    return JSON.stringify({
      size: this.#blob.size,
      room: this.#room,
      running: this.#engine.size,
      outcomes: this.#outcomes,
      fills: this.#fills.map((fill) => ({ position: fill.position, size: fill.size })),
      readers: this.#readers.map(({ state, start, end, bytes }) => ({ state, start, end, bytes })),
      sources: this.#sources.map(({ key, openBodies, ledger }) => ({ key, openBodies, ledger })),
      timers: this.#clock.sleepers,
    });
  }

  #newEngine(): Fills {
    return createFills(
      {
        store: this.#bench.room.blobs,
        spool: this.#spool,
        hashes: this.#hashes,
        clock: this.#clock,
        random: this.#random,
        log: silentLog,
        room: {
          reserve: (bytes, o) => this.#bench.room.reserve(bytes, o),
          emergency: async (bytes, o) => {
            const freed = await this.#bench.room.emergency(bytes, o);
            // What it gave back may be enough, or may not.
            if (freed && this.#chance(0.7)) this.#room += bytes;
            return freed;
          },
        },
        turns: aloneTurns,
        download: this.#download,
        observer: {
          fillStarted() {},
          fillEnded: (outcome) => {
            this.#outcomes.push(outcome);
          },
          resumed() {},
          mismatch() {},
          readers: (count) => {
            this.#readerCount = count;
          },
        },
        committed: async () => {
          if (this.#chance(0.1)) throw new Error("the links could not be written");
        },
      },
      TUNING,
    );
  }

  /** What hashes files, though not in a thread: it may be there or not, and fail in the end. */
  #fileHashes(): NonNullable<FillsDeps["hashes"]> {
    return {
      begin: (path, algorithm) => {
        if (this.#chance(0.1)) return undefined;
        const file = new GrowingFile(path, algorithm, { buffer: Buffer.alloc(64) });
        const fails = this.#chance(0.2);
        let ended = false;
        return {
          advance: (to) => {
            if (!ended) file.advance(to);
          },
          digest: async (to) => {
            await nextTurn();
            if (ended || fails) throw new Error("the thread has failed");
            return file.digest(to);
          },
          end: () => {
            if (!ended) file.close();
            ended = true;
          },
        };
      },
    };
  }

  async #step(): Promise<void> {
    const event = this.#random();
    if (event < 0.35) await nextTurn();
    else if (event < 0.45) this.#clock.advance(1 + this.#below(20));
    else if (event < 0.6) this.#send();
    else if (event < 0.82) this.#stepReader();
    else if (event < 0.89) this.#join();
    else if (event < 0.93) this.#leave();
    else if (event < 0.95) this.#addSource();
    else if (event < 0.96) this.#clock.advance(31_000);
    else if (event < 0.97) this.#fillDisk();
    else if (event < 0.98) this.#storeTrouble = this.#storeTrouble === undefined ? this.#pick(TROUBLES) : undefined;
    else if (event < 0.983) await this.#evict();
    else if (event < 0.988) await this.#crowd();
    else if (event < 0.99) this.#limit();
    else if (this.#chance(0.5)) await this.#restart();
  }

  #addSource(): void {
    const key = `${this.#pick(["a", "b", "c"])}.example/app`;
    const faults = this.#below(6);
    const script = Array.from({ length: faults }, () => this.#answer());
    const source = new ScriptedSource({ blob: this.#blob, key, script: [...script, {}], chunkBytes: CHUNK_BYTES });
    source.sendUpTo(this.#below(this.#blob.size + 1));
    if (this.#sources.length > 0) this.#fills.at(-1)?.addSource(source);
    this.#sources.push(source);
  }

  #answer(): Answer {
    const at = this.#below(this.#blob.size + 1);
    const kind = this.#random();
    this.#answers += 1;
    if (kind < 0.35) return { cutAt: at, ...this.#untold() };
    if (kind < 0.45) return this.#short(at);
    if (kind < 0.52) return { stallAt: at };
    if (kind < 0.62) return { error: upstreamError(this.#pick(["connect", "status", "timeout", "tls"])) };
    if (kind < 0.66) return { error: upstreamError("quota", { status: 429, retryAfterMs: this.#below(3_000) }) };
    if (kind < 0.7) return this.#costly({ error: upstreamError("bad-answer", { status: 416 }) });
    if (kind < 0.74) return this.#costly({ whole: true, cutAt: at });
    if (kind < 0.78) return this.#costly({ startsAt: at });
    if (kind < 0.82) return { extra: this.#below(200) };
    this.#benign = false;
    if (kind < 0.88) {
      this.#lying = true;
      return { wrongByteAt: at, ...this.#untold() };
    }
    if (kind < 0.92) {
      this.#lengths = "several";
      return { total: this.#below(2000) };
    }
    return { error: upstreamError(this.#pick(["absent", "denied", "credential", "refused"])) };
  }

  #untold(): Answer {
    return this.#chance(0.3) ? { total: "untold" } : {};
  }

  /** Two of these that end at the same place are taken for the whole blob where the length is not told. */
  #short(endAt: number): Answer {
    const answer = { endAt, ...this.#untold() };
    if (answer.total === "untold") this.#benign = false;
    return answer;
  }

  #costly(answer: Answer): Answer {
    this.#frugal = false;
    return answer;
  }

  #send(): void {
    const source = this.#pick(this.#sources);
    source.sendUpTo(this.#chance(0.3) ? Number.POSITIVE_INFINITY : this.#below(this.#blob.size + 1));
  }

  #join(): void {
    const source = this.#pick(this.#sources);
    const expected = this.#chance(0.3) ? { expectedSize: this.#below(200) } : {};
    const { fill, started } = this.#engine.join("public", this.#blob.digest, source, expected);
    if (started) {
      this.#fills.push(fill);
      if (this.#fills.length > 1) this.#frugal = false;
    }
    const [start, end] = this.#range();
    const reader = new ScheduledReader(fill, this.#blob, { start, end, source: source.key });
    this.#readers.push(reader);
    if (this.#chance(0.5)) reader.run();
  }

  #range(): [number, number | undefined] {
    const { size } = this.#blob;
    if (this.#chance(0.6)) return [0, undefined];
    const start = this.#below(size + 1);
    return [start, this.#chance(0.3) ? undefined : start + this.#below(size - start + 1)];
  }

  #stepReader(): void {
    this.#pick(this.#readers).step();
  }

  #leave(): void {
    this.#pick(this.#readers).leave(this.#chance(0.5));
  }

  #fillDisk(): void {
    this.#streaming = true;
    this.#room = this.#chance(0.3) ? Number.POSITIVE_INFINITY : this.#below(this.#blob.size + 2) - 1;
    this.#frugal = false;
    // A download that has no disk ends when nobody reads, and with it those who have only stood still.
    this.#benign = false;
  }

  async #evict(): Promise<void> {
    await this.#bench.room.blobs.delete(this.#blob.digest, { signal: new AbortController().signal });
    this.#frugal = false;
    this.#streaming = true;
  }

  /** Another blob comes, and may push this one out. */
  async #crowd(): Promise<void> {
    this.#frugal = false;
    this.#streaming = true;
    const bytes = seededBytes(`crowd ${this.#random()}`, 1 + this.#below(500));
    await this.#bench.room.blobs.put(digestOf(bytes), bytes, { signal: new AbortController().signal });
  }

  /** The operator allows another size, perhaps one that this blob is too large for. */
  #limit(): void {
    this.#frugal = false;
    this.#streaming = true;
    this.#benign = false;
    this.#bench.limits = { ...UNLIMITED, total: marks(1 + this.#below(2000)) };
    this.#bench.room.limitsChanged();
  }

  async #restart(): Promise<void> {
    this.#benign = false;
    this.#frugal = false;
    await this.#engine.stop({ signal: new AbortController().signal });
    this.#engine = this.#newEngine();
    await this.#engine.open();
  }

  #refusing(store: BlobStore): BlobStore {
    const refuse = (): void => {
      if (this.#storeTrouble !== undefined) throw new StorageError(this.#storeTrouble, "the store takes nothing");
    };
    const { begin } = store;
    return {
      ...store,
      ingest: async (digest, path, o) => {
        refuse();
        await store.ingest(digest, path, o);
      },
      ...(begin && {
        begin(digest, path) {
          const pending = begin(digest, path);
          return {
            advance: (bytes) => pending.advance(bytes),
            abort: () => pending.abort(),
            async complete(o) {
              refuse();
              await pending.complete(o);
            },
          };
        },
      }),
    };
  }

  async #checkEnd(): Promise<void> {
    const { signal } = new AbortController();
    for (const reader of this.#readers) {
      reader.check({ mustComplete: this.#benign, mayBeWrong: this.#lying && this.#isUnverifiable(reader) });
    }
    const held = await this.#store.open(this.#blob.digest, { signal });
    if (held !== undefined) {
      const parts: Buffer[] = [];
      for await (const chunk of held.read(0, held.size, { signal })) parts.push(Buffer.from(chunk));
      const algorithm = this.#blob.digest.startsWith("sha512") ? "sha512" : "sha256";
      same("the digest of what is held", digestOf(Buffer.concat(parts), algorithm), this.#blob.digest);
    }
    await this.#bench.room.stop({ signal });
    let occupied = 0;
    for await (const stat of this.#store.list({ signal })) occupied += stat.occupied;
    same("bytes accounted", this.#bench.room.usage().bytes, occupied);
    same("fills running", this.#engine.size, 0);
    same("uploads running", this.#ahead?.pending ?? 0, 0);
    same("bytes changed under an upload", this.#ahead?.complaints.join(", ") ?? "", "");
    same("readers counted", this.#readerCount, 0);
    // The streams close in the turn after they were destroyed.
    await nextTurn();
    same(
      "bodies open",
      this.#sources.reduce((sum, source) => sum + source.openBodies, 0),
      0,
    );
    same("timers", this.#clock.sleepers, 0);
    if (this.#frugal && this.#benign) {
      const sent = this.#sources.reduce((sum, source) => sum + source.sent, 0);
      // A chunk in hand and one ahead are lost with each body that is not read to its end.
      const most = this.#blob.size + 200 + 2 * CHUNK_BYTES * (this.#answers + this.#sources.length);
      if (sent > most) throw new Error(`${sent} bytes were sent for a blob of ${this.#blob.size}`);
    }
    this.#clock.advance(DAY_MS + 1);
    this.#room = Number.POSITIVE_INFINITY;
    const last = this.#newEngine();
    await last.open();
    await last.stop({ signal });
  }

  /**
   * A part is verified with the whole, if it reaches the tail, wherever an upstream says that is; alone, it may come by
   * another way than the whole.
   */
  #isUnverifiable(reader: ScheduledReader): boolean {
    const { size } = this.#blob;
    const tail = Math.min(TUNING.tailBytes, size);
    if (this.#streaming) return reader.start > 0 || reader.end !== undefined;
    return reader.end !== undefined && (reader.end <= size - tail || this.#lengths === "several");
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[this.#below(from.length)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  }
}

/** A client: waits for the answer, then takes chunks as it is told to. */
class ScheduledReader {
  readonly ended: Promise<void>;
  state: "reading" | "complete" | "failed" | "left" = "reading";
  error: unknown;
  readonly #blob: BlobContent;
  readonly #o: { readonly start: number; readonly end: number | undefined };
  readonly #leaving = new AbortController();
  readonly #parts: Buffer[] = [];
  #permits = 0;
  #running = false;
  #politely = false;
  #wake: () => void = () => {};

  constructor(
    fill: Fill,
    blob: BlobContent,
    o: { readonly start: number; readonly end: number | undefined; readonly source: string },
  ) {
    this.#blob = blob;
    this.#o = o;
    this.ended = this.#read(fill, o.source);
  }

  step(): void {
    this.#permits += 1;
    this.#wake();
  }

  run(): void {
    this.#running = true;
    this.#wake();
  }

  /** By leaving the loop, or by aborting in the middle of it. */
  leave(politely: boolean): void {
    if (politely) this.#politely = true;
    else this.#leaving.abort(new Error("the client left"));
    this.#wake();
  }

  get bytes(): number {
    return this.#parts.reduce((sum, part) => sum + part.length, 0);
  }

  get start(): number {
    return this.#o.start;
  }

  get end(): number | undefined {
    return this.#o.end;
  }

  check(o: { readonly mustComplete: boolean; readonly mayBeWrong: boolean }): void {
    const got = Buffer.concat(this.#parts);
    const { start, end } = this.#o;
    const wanted = this.#blob.read(start, Math.min(end ?? this.#blob.size, this.#blob.size));
    const right = o.mayBeWrong ? got.length === wanted.length : got.equals(wanted);
    if (this.state === "complete" && !right) {
      throw new Error(
        `a reader of ${start}-${end ?? ""} completed with other bytes (${got.length} of ${wanted.length})`,
      );
    }
    if (this.state === "failed" && o.mustComplete)
      throw new Error("a reader failed without a reason", { cause: this.error });
    if (this.state === "reading") throw new Error("a reader has not ended");
    if (!isExpected(this.error)) throw new Error("a reader failed in an unknown way", { cause: this.error });
  }

  async #read(fill: Fill, source: string): Promise<void> {
    const { signal } = this.#leaving;
    try {
      await fill.ready({ signal, source });
      for await (const chunk of fill.read(this.#o.start, this.#o.end, { signal })) {
        this.#parts.push(Buffer.from(chunk));
        await this.#permit();
        if (this.#politely) {
          this.state = "left";
          return;
        }
      }
      this.state = "complete";
    } catch (error) {
      this.state = signal.aborted ? "left" : "failed";
      if (!signal.aborted) this.error = error;
    }
  }

  async #permit(): Promise<void> {
    while (!this.#running && this.#permits === 0 && !this.#politely && !this.#leaving.signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#permits = Math.max(0, this.#permits - 1);
  }
}

function isExpected(error: unknown): boolean {
  if (error === undefined || error instanceof FillStoppedError || error instanceof WrongContentError) return true;
  return error instanceof Error && (error.name === "UpstreamError" || error.message === "the connection was reset");
}

function same(what: string, got: unknown, wanted: unknown): void {
  if (got !== wanted) throw new Error(`${what}: ${String(got)} instead of ${String(wanted)}`);
}
