/**
 * One download of one blob: the owner of its content, its sources and its end.
 *
 *     starting ---> filling ---> verified ---> committed        the store has the blob
 *        |             |             |
 *        |             |             +-------> lingering ---> streamed    nothing is kept: the last reader has left
 *        v             v
 *     failed <---------+                                       the readers are cut off
 *
 * - starting: what an earlier attempt left is opened, and hashed again beside the first request; or a spool file is made beside
 *   it. Where there is no file to be had, the fill goes on without.
 * - filling: bytes come from the sources, one after the other, and are hashed as they come. Readers follow, up to the tail.
 * - verified: everything is here and the digest agrees: readers get the tail, and then the store gets the file.
 * - failed: no source is left, the bytes are wrong, nobody wants them (`download.abandon`) or the process stops. Bytes that
 *   are not known to be wrong stay in the spool, for the next fill of the blob to begin with.
 *
 * A fill counts as running, so that newcomers join it, until it is committed, streamed or failed.
 */
import type { ByteStream } from "../base/byte-stream.ts";
import type { CallOptions, OnBehalf } from "../base/call.ts";
import { NO_MORE } from "../base/no-more.ts";
import type { OpenStep, TracePlace } from "../base/trail.ts";
import type { Digest, Hasher } from "../oci/digest.ts";
import { type PendingBlob, StorageError } from "../storage/blob-store.ts";
import type { SpoolFile, SpoolLeftover, SpoolNote } from "../storage/spool.ts";
import { readAlone } from "./fill-alone.ts";
import { FillContent } from "./fill-content.ts";
import { Download } from "./fill-download.ts";
import { FillStoppedError, WrongContentError } from "./fill-errors.ts";
import { hashFile } from "./fill-hash.ts";
import type { FillMemory } from "./fill-memory.ts";
import { Rate } from "./fill-rate.ts";
import { FillReader } from "./fill-reader.ts";
import { FillRoom } from "./fill-room.ts";
import type { FillSource } from "./fill-source.ts";
import { FillSources } from "./fill-sources.ts";
import type { FillTuning } from "./fill-tuning.ts";
import type { FillTurn } from "./fill-turn.ts";
import type { Fill, FillOutcome, FillsDeps } from "./fills.ts";

export interface FillOptions {
  readonly domain: string;
  readonly digest: Digest;
  /** Who started it; the others are added. */
  readonly source: FillSource;
  readonly expectedSize: number | undefined;
  readonly behalf: OnBehalf;
  readonly deps: FillsDeps;
  readonly memory: FillMemory;
  readonly tuning: FillTuning;
  /** What an earlier attempt left of the blob. */
  readonly leftover: Promise<SpoolLeftover | undefined>;
  /** Called once when the fill is over for newcomers, with what will be left of it. */
  readonly onOver: (left: Promise<SpoolLeftover | undefined>) => void;
  /** The fill after this one, for readers who begin when this one is over and has kept nothing. Undefined without sources. */
  readonly next: (sources: readonly FillSource[]) => Fill | undefined;
}

export class RunningFill implements Fill {
  readonly digest: Digest;
  readonly domain: string;
  readonly startedAtMs: number;
  readonly #o: FillOptions;
  /** In the trail of whoever began it. */
  readonly #step: OpenStep | undefined;
  readonly #behalf: OnBehalf;
  readonly #sources: FillSources;
  readonly #turn: FillTurn;
  readonly #download: Download;
  readonly #content: FillContent;
  readonly #room: FillRoom;
  readonly #rate: Rate;
  readonly #readers = new Set<FillReader>();
  readonly #outcome = Promise.withResolvers<FillOutcome>();
  readonly #stop = new AbortController();
  /** Counts those who wait or read, to tell when nobody is left. */
  #wanted = 0;
  #abandoning: AbortController | undefined;
  /** An upstream has answered. */
  #told = false;
  /** Somebody has been told the size, or given bytes: they cannot change any more. */
  #promised = false;
  #source = "";
  /** Resolves when the spool file is there, or none is to be had. */
  #filed: Promise<void> = Promise.resolve();
  /** Resolves when there is room for what has come; rejects when the fill is stopped. */
  #roomy: Promise<void> = Promise.resolve();
  /** Resolves when what an earlier attempt left has been hashed. */
  #hashed: Promise<void> = Promise.resolve();
  /** What goes to the store while it arrives, where the store wants that. */
  #ahead: PendingBlob | undefined;
  #committed = false;
  /** The store could not be asked: the next fill of the blob finds all of it in the spool. */
  #storeDown = false;
  #over = false;

  constructor(o: FillOptions) {
    const { clock, random, download: config, log } = o.deps;
    this.#o = o;
    this.digest = o.digest;
    this.domain = o.domain;
    this.#step = o.behalf.trail?.begin("fill", { digest: o.digest, started: true, position: 0 });
    this.#behalf = this.#step === undefined ? o.behalf : { ...o.behalf, trail: this.#step.trail };
    this.startedAtMs = clock.now();
    this.#rate = new Rate(clock);
    this.#sources = new FillSources({
      clock,
      random,
      stalledAttempts: config.stalledAttempts,
      onRefused: () => this.#content.changed.ring(),
    });
    this.#sources.add(o.source);
    this.#turn = o.deps.turns.begin(o.domain, o.digest);
    this.#content = new FillContent({
      digest: o.digest,
      memory: o.memory,
      tuning: o.tuning,
      hashes: o.deps.hashes,
      clock,
      log,
      note: (mark) => this.#note(mark),
      rescue: (error) => this.#room.rescue(error),
      onSpooled: (bytes) => this.#ahead?.advance(bytes),
    });
    this.#room = new FillRoom({
      digest: o.digest,
      content: () => this.#content,
      deps: o.deps,
      log,
      signal: this.#stop.signal,
    });
    this.#download = new Download({
      sources: this.#sources,
      turn: this.#turn,
      upstream: o.source.upstream,
      clock,
      config,
      behalf: this.#behalf,
      taker: {
        told: (total, source) => this.#onTold(total, source),
        isWhole: async () => {
          await this.#hashed;
          return this.#content.isWhole();
        },
        restart: () => this.#restart(),
        resumed: (upstream) => this.#onResumed(upstream),
      },
    });
  }

  get size(): number | undefined {
    return this.#content.total;
  }

  get position(): number {
    return this.#content.readable;
  }

  get readers(): number {
    return this.#readers.size;
  }

  get source(): FillSource | undefined {
    const { live } = this.#sources;
    return live.find(({ key }) => key === this.#source) ?? live[0];
  }

  get outcome(): Promise<FillOutcome> {
    return this.#outcome.promise;
  }

  get place(): TracePlace | undefined {
    return this.#step?.trail.place;
  }

  async ready(o: CallOptions & { readonly source?: string }): Promise<void> {
    this.#want();
    const quiet = this.#content.changed.ringOnAbort(o.signal);
    try {
      for (;;) {
        o.signal.throwIfAborted();
        const refusal = o.source === undefined ? undefined : this.#sources.refusal(o.source);
        if (refusal !== undefined) throw refusal;
        this.#content.throwIfFailed();
        if (this.#content.verified || (this.#told && !this.#isSmall())) {
          this.#promised = true;
          return;
        }
        await this.#content.changed.next();
      }
    } finally {
      quiet();
      this.#unwant();
    }
  }

  async *read(
    start: number,
    end: number | undefined,
    o: CallOptions & { readonly client?: string },
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { memory, deps } = this.#o;
    const reader = new FillReader({
      start,
      end,
      client: o.client,
      signal: o.signal,
      content: this.#content,
      memory,
      clock: deps.clock,
      elsewhere: (from, to, hash) => this.#elsewhere(from, to, hash, o),
    });
    this.#promised = true;
    this.#want();
    this.#readers.add(reader);
    this.#content.readers.add(reader);
    memory.readerEntered();
    this.#content.room.ring();
    try {
      yield* reader.bytes();
    } finally {
      this.#readers.delete(reader);
      this.#content.readers.delete(reader);
      memory.readerLeft();
      this.#content.room.ring();
      this.#unwant();
    }
  }

  addSource(source: FillSource): void {
    this.#sources.add(source);
  }

  willReach(offset: number, withinMs: number): boolean {
    return this.#content.readable + this.#rate.get() * withinMs >= offset;
  }

  readsFromStart(client: string): boolean {
    return [...this.#readers].some((reader) => reader.client === client && reader.start === 0);
  }

  /** Ends the fill unless it has everything already; readers are cut off. */
  stop(reason: FillStoppedError): void {
    this.#stop.abort(reason);
    this.#content.room.ring();
  }

  /** Does the work. Resolves when the fill is over and nothing of it is left running; never rejects. */
  async run(): Promise<void> {
    const { memory, deps } = this.#o;
    memory.fillStarted();
    deps.observer.fillStarted();
    let outcome: FillOutcome;
    try {
      outcome = await this.#fill();
      const left = this.#storeDown ? this.#leave(undefined) : Promise.resolve(undefined);
      this.#end(left);
      await left;
    } catch (error) {
      outcome = "failed";
      this.#report(error);
      this.#content.fail(error);
      const left = this.#leave(error);
      this.#end(left);
      await left;
    }
    this.#abandoning?.abort(NO_MORE);
    await this.#ahead?.abort();
    await this.#turn.end();
    this.#room.release();
    await this.#content.close({ forget: outcome !== "streamed" });
    memory.fillEnded();
    deps.observer.fillEnded(outcome);
    this.#step?.end({ outcome, size: this.size });
    this.#outcome.resolve(outcome);
  }

  async #fill(): Promise<FillOutcome> {
    const content = this.#content;
    const { signal } = this.#stop;
    const from = await this.#start();
    // The first request goes out while what is here already is hashed.
    this.#hashed = this.#rehash(from);
    this.#hashed.catch(() => {});
    for await (const chunk of this.#download.bytes(from.position, signal)) {
      await this.#hashed;
      await this.#prepare(chunk.length);
      content.append(chunk);
      this.#rate.add(chunk.length);
      await content.waitForRoom(signal);
    }
    await this.#hashed;
    if (!(await content.isWhole())) throw new WrongContentError(this.#download.upstream, this.#wrongBytes());
    content.verify();
    await this.#filed;
    await this.#roomy;
    content.finish();
    await content.settled();
    if (await this.#commit()) return "committed";
    await this.#linger();
    return "streamed";
  }

  /** Finds out where to begin. */
  async #start(): Promise<{ position: number; hash: Hasher | undefined }> {
    try {
      const resumed = await this.#resume();
      if (resumed !== undefined) return resumed;
      this.#content.expectFile();
      this.#filed = this.#makeFile();
    } catch (error) {
      this.#content.stream(error);
    }
    return { position: 0, hash: undefined };
  }

  async #makeFile(): Promise<void> {
    try {
      const file = await this.#room.createSpool();
      if (this.#content.keeps) {
        this.#content.attach(file);
        this.#sendAhead();
      } else {
        await file.remove();
        await file.release();
      }
    } catch (error) {
      this.#room.release();
      this.#content.stream(error);
    }
  }

  /** Nothing is written before so many bytes have come: until then neither the file has to be there nor the room for it. */
  async #prepare(coming: number): Promise<void> {
    if (this.#room.isShort(coming)) {
      this.#roomy = this.#roomy.then(() => this.#room.make(coming));
      this.#roomy.catch(() => {});
    }
    if (this.#content.received + coming < this.#o.tuning.writeBytes) return;
    await this.#filed;
    await this.#roomy;
  }

  /** The store may take what is in the file, and what comes, while the rest is on its way. */
  #sendAhead(): void {
    const { file, written } = this.#content;
    // What another process downloads is stored by that one.
    if (!this.#told || this.#ahead !== undefined || this.#turn.follows) return;
    this.#ahead = file && this.#o.deps.store.begin?.(this.digest, file.path);
    this.#ahead?.advance(written);
  }

  async #resume(): Promise<{ position: number; hash: Hasher } | undefined> {
    const leftover = await this.#o.leftover;
    if (leftover === undefined) return undefined;
    const { mark, total } = leftover.note;
    let file: SpoolFile;
    try {
      file = await leftover.resume();
    } catch (error) {
      this.#o.deps.log.warn({ digest: this.digest, err: error }, "what an earlier download left cannot be resumed");
      await leftover.remove();
      return undefined;
    }
    const hash = this.#content.spool(file, mark);
    this.#content.total = total;
    this.#download.expect(total);
    this.#step?.add({ position: mark });
    return { position: mark, hash };
  }

  async #rehash(from: { readonly position: number; readonly hash: Hasher | undefined }): Promise<void> {
    const { file } = this.#content;
    if (from.hash === undefined || file === undefined) return;
    await hashFile(file, from.hash, from.position, this.#stop.signal);
  }

  #onTold(total: number | undefined, source: FillSource): void {
    this.#told = true;
    this.#source = source.key;
    this.#content.total = total;
    this.#content.hashApart();
    this.#sendAhead();
    this.#content.changed.ring();
  }

  async #restart(): Promise<boolean> {
    if (this.#promised) return false;
    await this.#hashed.catch(() => {});
    this.#hashed = Promise.resolve();
    await this.#filed;
    await this.#ahead?.abort();
    this.#ahead = undefined;
    await this.#content.reset();
    return true;
  }

  /** True when the store has the blob. */
  async #commit(): Promise<boolean> {
    const { file, spooled } = this.#content;
    if (!spooled || file === undefined) return false;
    const { store, log, committed } = this.#o.deps;
    // Nobody's request: what is verified is kept whoever has left, and stopping waits for it.
    const { signal } = new AbortController();
    const o = { signal, ...this.#behalf };
    try {
      if (!(await this.#turn.storedElsewhere({ signal }))) {
        await (this.#ahead?.complete(o) ?? store.ingest(this.digest, file.path, o));
      }
      // In one go with its being counted as held: counted twice, it would cost others their room.
      this.#room.release();
    } catch (error) {
      log.warn({ digest: this.digest, err: error }, "the blob cannot be stored: it is passed on without being kept");
      this.#storeDown = error instanceof StorageError && error.fault === "unavailable";
      return false;
    } finally {
      if (!this.#storeDown) await file.remove();
    }
    this.#committed = true;
    const { digest, domain } = this;
    try {
      await committed({ domain, digest, size: this.#content.received, sources: this.#sources.live });
    } catch (error) {
      log.warn({ digest, err: error }, "the blob is kept, but not all that should be noted of it");
    }
    return true;
  }

  /** Waits until the last reader has left. */
  async #linger(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#wanted > 0 && !signal.aborted) await this.#content.room.next();
    if (signal.aborted) this.#content.fail(signal.reason);
  }

  /** What a failed fill leaves behind, if anything. */
  async #leave(error: unknown): Promise<SpoolLeftover | undefined> {
    const content = this.#content;
    await this.#filed;
    const resumable = !(error instanceof WrongContentError) && content.received >= this.#o.tuning.keepBytes;
    const file = await content.takeFile({ whole: resumable });
    if (file === undefined) return undefined;
    const mark = content.written;
    try {
      if (resumable && content.spooled) {
        await file.sync();
        return await file.keep(this.#note(mark));
      }
    } catch (cause) {
      this.#o.deps.log.warn({ digest: this.digest, err: cause }, "a broken download cannot be kept for resuming");
    }
    await file.remove();
    await file.release();
    return undefined;
  }

  #note(mark: number): SpoolNote {
    const { domain, digest } = this;
    const total = this.#content.total;
    return { domain, digest, total, mark, source: this.#source, writtenAtMs: this.#o.deps.clock.now() };
  }

  #report(error: unknown): void {
    const { log, observer } = this.#o.deps;
    const { digest } = this;
    if (error instanceof WrongContentError) {
      observer.mismatch(error.upstream);
      log.error({ digest, upstream: error.upstream, err: error }, "an upstream delivered wrong bytes: discarded");
    } else {
      log.warn({ digest, err: error }, "a blob could not be fetched");
    }
  }

  #wrongBytes(): string {
    return `${this.#download.upstream}: the bytes that it sent do not hash to ${this.digest}`;
  }

  /** Newcomers begin anew from now on. */
  #end(left: Promise<SpoolLeftover | undefined>): void {
    this.#over = true;
    this.#o.onOver(left);
  }

  /** Whether the whole blob should be here before an answer goes out. */
  #isSmall(): boolean {
    const limit = this.#o.tuning.verifyFirstBytes;
    const size = this.#content.total ?? this.#o.expectedSize ?? Number.POSITIVE_INFINITY;
    // A listed size may be wrong: what has grown past the limit is not small.
    return size <= limit && this.#content.received <= limit;
  }

  /** For a reader whose place is neither in the file nor in memory. */
  async *#elsewhere(
    start: number,
    end: number | undefined,
    hash: Hasher | undefined,
    o: CallOptions & { readonly client?: string },
  ): ByteStream & AsyncGenerator<Uint8Array, void, undefined> {
    const { deps, tuning } = this.#o;
    const { signal } = o;
    const { clock, random, download: config, observer, store } = deps;
    const held = this.#committed ? await store.open(this.digest, { signal }) : undefined;
    if (held !== undefined) {
      try {
        yield* held.read(start, end ?? held.size, { signal });
      } finally {
        await held.close();
      }
      return;
    }
    const next = this.#sharesNext(end) ? this.#o.next(this.#sources.live) : undefined;
    if (next !== undefined) {
      yield* next.read(start, end, o);
      return;
    }
    yield* readAlone({
      digest: this.digest,
      sources: this.#sources.live,
      start,
      end,
      total: this.size,
      hash,
      tailBytes: tuning.tailBytes,
      clock,
      random,
      config,
      behalf: this.#behalf,
      signal: AbortSignal.any([signal, this.#stop.signal]),
      resumed: (upstream) => observer.resumed(upstream),
    });
  }

  /**
   * Whether a reader who has begun after the end is served by the next fill, as everybody is who asks now. A part is not worth
   * another download of the whole, but may be in the spool.
   */
  #sharesNext(end: number | undefined): boolean {
    return this.#over && this.#content.verified && (this.#storeDown || end === undefined);
  }

  #onResumed(upstream: string): void {
    this.#o.deps.observer.resumed(upstream);
    this.#behalf.trail?.detail?.note("resumed", { upstream, position: this.#content.received });
  }

  #want(): void {
    this.#wanted += 1;
    this.#abandoning?.abort(NO_MORE);
    this.#abandoning = undefined;
  }

  #unwant(): void {
    this.#wanted -= 1;
    const { clock, download } = this.#o.deps;
    if (this.#wanted > 0) return;
    this.#content.room.ring();
    if (this.#over || download.abandon === "never") return;
    const abandoning = new AbortController();
    this.#abandoning = abandoning;
    clock.sleep(download.abandon.afterMs, abandoning.signal).then(
      () => this.stop(new FillStoppedError("nobody wants the blob any more")),
      () => {},
    );
  }
}
