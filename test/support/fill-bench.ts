import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { silentLog } from "../../src/base/log.ts";
import type { DownloadConfig } from "../../src/config/types.ts";
import type { FillSource } from "../../src/proxy/fill-source.ts";
import { FILL_TUNING, type FillTuning } from "../../src/proxy/fill-tuning.ts";
import { aloneTurns } from "../../src/proxy/fill-turn.ts";
import {
  type CommittedFill,
  createFills,
  type Fill,
  type FillObserver,
  type FillOutcome,
  type Fills,
  type FillsDeps,
} from "../../src/proxy/fills.ts";
import type { Room } from "../../src/proxy/room.ts";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import { createSpool, type Spool } from "../../src/storage/spool.ts";
import type { BlobContent } from "./fill-sources.ts";
import { ManualClock } from "./manual-clock.ts";
import { createMemoryBlobStore } from "./memory-store.ts";
import { filesOpenBelow } from "./open-files.ts";
import { PATIENCE_MS, tempFolder } from "./processes.ts";
import { boundlessRoom } from "./rooms.ts";

export const PUBLIC = "public";

export const DOWNLOAD: DownloadConfig = { rangeWaitMs: 30_000, minRate: 65_536, stalledAttempts: 5, abandon: "never" };

export interface FillBenchOptions {
  readonly download?: Partial<DownloadConfig>;
  readonly tuning?: Partial<FillTuning>;
  readonly store?: BlobStore;
  /** Put around the real spool. */
  readonly spool?: (real: Spool) => Spool;
  /** What hashes large blobs; nothing if left out. */
  readonly hashes?: FillsDeps["hashes"];
  readonly room?: Pick<Room, "reserve" | "emergency">;
  /** The spool's folder; a new one if left out. */
  readonly dir?: string;
  readonly random?: () => number;
}

/** A fill engine with a real spool folder, a clock that the test turns, and a count of everything that it reports. */
export class FillBench implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly dir: string;
  readonly store: BlobStore;
  readonly spool: Spool;
  readonly fills: Fills;
  readonly committed: CommittedFill[] = [];
  readonly outcomes: FillOutcome[] = [];
  readonly resumed: string[] = [];
  readonly mismatches: string[] = [];
  readers = 0;
  started = 0;
  readonly #stack: AsyncDisposableStack;
  #ticking = false;
  #ticked: Promise<void> = Promise.resolve();

  private constructor(dir: string, stack: AsyncDisposableStack, o: FillBenchOptions) {
    this.dir = dir;
    this.#stack = stack;
    this.store = o.store ?? createMemoryBlobStore();
    const real = createSpool({ dir, log: silentLog });
    this.spool = o.spool?.(real) ?? real;
    stack.defer(() => real.close());
    const observer: FillObserver = {
      fillStarted: () => {
        this.started += 1;
      },
      fillEnded: (outcome) => {
        this.outcomes.push(outcome);
      },
      resumed: (upstream) => {
        this.resumed.push(upstream);
      },
      mismatch: (upstream) => {
        this.mismatches.push(upstream);
      },
      readers: (count) => {
        this.readers = count;
      },
    };
    this.fills = createFills(
      {
        store: this.store,
        spool: this.spool,
        hashes: o.hashes,
        clock: this.clock,
        random: o.random ?? (() => 0.5),
        log: silentLog,
        room: o.room ?? boundlessRoom,
        turns: aloneTurns,
        download: { ...DOWNLOAD, ...o.download },
        observer,
        committed: async (fill) => {
          this.committed.push(fill);
        },
      },
      { ...FILL_TUNING, ...o.tuning },
    );
    stack.defer(() => this.fills.stop({ signal: AbortSignal.timeout(20_000) }));
  }

  static async create(o: FillBenchOptions = {}): Promise<FillBench> {
    const stack = new AsyncDisposableStack();
    const dir = o.dir ?? (await tempFolder(stack));
    const bench = new FillBench(dir, stack, o);
    await bench.fills.open();
    return bench;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ticking = false;
    await this.#ticked;
    await this.#stack.disposeAsync();
  }

  /** The fill of a blob, with `source` waiting for it. */
  join(
    blob: BlobContent,
    source: FillSource,
    o: { readonly expectedSize?: number; readonly domain?: string } = {},
  ): Fill {
    const { expectedSize, domain = PUBLIC } = o;
    return this.fills.join(domain, blob.digest, source, expectedSize === undefined ? {} : { expectedSize }).fill;
  }

  /** Lets time pass by itself from now on, `stepMs` in each turn of the event loop. */
  tick(stepMs = 5): void {
    if (this.#ticking) return;
    this.#ticking = true;
    this.#ticked = (async () => {
      while (this.#ticking) {
        await nextTurn();
        this.clock.advance(stepMs);
      }
    })();
  }

  stopTicking(): void {
    this.#ticking = false;
  }

  /** Names of the downloads in the spool folder. */
  async spooled(): Promise<string[]> {
    const names = await readdir(this.dir, { recursive: true }).catch(() => []);
    return names.filter((name) => name.endsWith(".part") || name.endsWith(".json"));
  }

  /** Spool files that are open; the locks of the owners' folders do not count. */
  async openFiles(): Promise<string[]> {
    const files = await filesOpenBelow(this.dir);
    return files.filter((name) => !name.startsWith(join(this.dir, "")) || !/\/lock(?:-journal)?$/.test(name));
  }
}

export interface ReadOptions {
  readonly start?: number;
  readonly end?: number;
  readonly client?: string;
  readonly signal?: AbortSignal;
}

/** Waits for the fill as an answer would, then reads. */
export async function readAll(fill: Fill, o: ReadOptions = {}): Promise<Buffer> {
  const signal = o.signal ?? new AbortController().signal;
  await fill.ready({ signal });
  const parts: Buffer[] = [];
  const client = o.client === undefined ? {} : { client: o.client };
  for await (const chunk of fill.read(o.start ?? 0, o.end, { signal, ...client })) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

/** A reader that a test steps. */
export class SteppedReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #parts: Buffer[] = [];
  bytes = 0;
  done = false;

  constructor(fill: Fill, o: ReadOptions = {}) {
    const signal = o.signal ?? new AbortController().signal;
    const client = o.client === undefined ? {} : { client: o.client };
    this.#chunks = fill.read(o.start ?? 0, o.end, { signal, ...client })[Symbol.asyncIterator]();
  }

  /** The next chunk; false at the end. */
  async step(): Promise<boolean> {
    const { done, value } = await this.#chunks.next();
    if (done === true) {
      this.done = true;
      return false;
    }
    this.#parts.push(Buffer.from(value));
    this.bytes += value.length;
    return true;
  }

  async readTo(position: number): Promise<void> {
    while (this.bytes < position && (await this.step()));
  }

  async rest(): Promise<Buffer> {
    while (await this.step());
    return Buffer.concat(this.#parts);
  }

  async leave(): Promise<void> {
    await this.#chunks.return?.();
  }
}

/** Asks in every turn of the event loop until `check` says true; for what happens by itself and tells nobody. */
export async function eventually(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  const limit = AbortSignal.timeout(PATIENCE_MS);
  while (!(await check())) {
    if (limit.aborted) throw new Error(`${what}: not within ${PATIENCE_MS} ms`);
    await nextTurn();
  }
}
