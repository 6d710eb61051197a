import type { Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { OnBehalf } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { NO_MORE } from "../base/no-more.ts";
import { waitFor } from "../base/wait-for.ts";
import type { DownloadConfig } from "../config/types.ts";
import { UpstreamError } from "../upstream/upstream.ts";
import { WrongContentError } from "./fill-errors.ts";
import { RateFloor } from "./fill-rate.ts";
import type { FillSource } from "./fill-source.ts";
import type { FillSources, SourceEntry } from "./fill-sources.ts";
import type { FillTurn } from "./fill-turn.ts";

/** What a download needs to know of whoever takes its bytes. */
export interface DownloadTaker {
  /** A source has answered: `total` is the blob's size, undefined if none has told it. */
  told(total: number | undefined, source: FillSource): void;
  /** Whether the bytes taken so far are the blob. Asked at the end of bodies while no upstream has told the size. */
  isWhole(): Promise<boolean>;
  /** The upstream means another blob length than before: forget all bytes, if nobody has seen any. False when somebody has. */
  restart(): Promise<boolean>;
  /** A body broke off or stalled, and another one goes on in its place. */
  resumed(upstream: string): void;
}

export interface DownloadOptions {
  readonly sources: FillSources;
  /** Whose turn it is to ask the source that is next. */
  readonly turn: Pick<FillTurn, "open" | "doubt">;
  /** Whose bytes they are until one has answered. */
  readonly upstream: string;
  readonly taker: DownloadTaker;
  readonly clock: Clock;
  readonly config: DownloadConfig;
  readonly behalf: OnBehalf;
}

/**
 * Turns bodies that break off, stall, begin at the wrong place or lie about their length into one sequence of bytes, each
 * delivered once (design, section 2). What the bytes are is for the taker to verify.
 */
export class Download {
  readonly #o: DownloadOptions;
  #total: number | undefined;
  /** Position of the next byte to deliver. */
  #at = 0;
  /** Another length than `#total`, said by one answer: believed when the next answer says it too. */
  #disputed: number | undefined;
  /** The upstream of the answer that is being read, or was read last. */
  #upstream: string;

  constructor(o: DownloadOptions) {
    this.#o = o;
    this.#upstream = o.upstream;
  }

  /** What an earlier download was told of the blob's size. */
  expect(total: number | undefined): void {
    this.#total = total;
  }

  /** The one that answered last. */
  get upstream(): string {
    return this.#upstream;
  }

  /**
   * The blob's bytes from `from` to its end. A chunk is valid until the next is asked for. Rejects when no source can go
   * on, with the last error, or with the signal's reason. After a `restart` of the taker the bytes begin at 0 again.
   */
  async *bytes(from: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    const { sources, taker } = this.#o;
    this.#at = from;
    let endedAt: number | undefined;
    let opened = false;
    while (this.#total === undefined || this.#at < this.#total) {
      const entry = await sources.next(signal);
      const before = this.#at;
      let failure: unknown;
      try {
        const body = await this.#open(entry, signal);
        if (opened) taker.resumed(this.#upstream);
        opened = true;
        for await (const chunk of this.#fresh(body, signal)) {
          sources.progressed();
          yield chunk;
        }
      } catch (error) {
        failure = error;
      }
      signal.throwIfAborted();
      if (failure instanceof WrongContentError) throw failure;
      if (this.#total === undefined) {
        if (await taker.isWhole()) return;
        if (endedAt === this.#at && (failure === undefined || isUnsatisfiable(failure))) {
          throw new WrongContentError(
            this.#upstream,
            `${this.#upstream}: all that it has is not what the digest names`,
          );
        }
        if (failure === undefined) endedAt = this.#at;
      } else if (this.#at === this.#total) {
        return;
      }
      if (isUnsatisfiable(failure)) entry.rangeless = true;
      sources.failed(entry, failure ?? endedShort(this.#upstream), this.#at > before);
    }
  }

  /** Asks one source for what is still missing and decides what its answer is good for. */
  async #open(entry: SourceEntry, signal: AbortSignal): Promise<OpenedBody> {
    const { source } = entry;
    const { taker, turn, behalf } = this.#o;
    const asked = entry.rangeless ? 0 : this.#at;
    const answer = await turn.open(source, asked, { signal, ...behalf });
    // A body that breaks while nobody is reading it would otherwise end the process.
    answer.body.on("error", () => {});
    this.#upstream = source.upstream;
    try {
      signal.throwIfAborted();
      if (answer.start > asked) {
        entry.rangeless = true;
        throw badAnswer(source.upstream, `asked for the bytes from ${asked}, it sends those from ${answer.start}`);
      }
      await this.#settleTotal(source.upstream, answer.total);
      taker.told(this.#total, source);
      if (answer.start > this.#at) throw badAnswer(source.upstream, "the download begins again, at byte 0");
      return answer;
    } catch (error) {
      answer.body.destroy();
      throw error;
    }
  }

  /** Compares the length of the blob with what was told before. */
  async #settleTotal(upstream: string, told: number | undefined): Promise<void> {
    if (told === undefined || told === this.#total) {
      this.#disputed = undefined;
    } else if (this.#total === undefined && told >= this.#at) {
      this.#total = told;
    } else if (this.#disputed !== told) {
      this.#disputed = told;
      const known = this.#total ?? `at least ${this.#at}`;
      throw badAnswer(upstream, `the blob had ${known} bytes, now it should have ${told}`);
    } else if (await this.#o.taker.restart()) {
      this.#total = told;
      this.#at = 0;
    } else {
      throw new WrongContentError(upstream, `${upstream}: the blob's length changed to ${told} bytes`);
    }
  }

  /** The body's chunks without what lies before the next byte wanted or beyond the blob's end. */
  async *#fresh(opened: OpenedBody, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    let position = opened.start;
    for await (const chunk of this.#received(opened, signal)) {
      const end = Math.min(position + chunk.length, this.#total ?? Number.POSITIVE_INFINITY);
      if (end > this.#at) {
        const fresh = chunk.subarray(this.#at - position, end - position);
        this.#at = end;
        yield fresh;
      }
      position += chunk.length;
    }
  }

  /** The body's chunks up to the blob's end, for as long as they come fast enough. The body is over when the loop is left. */
  async *#received(opened: OpenedBody, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    const { clock, config, turn } = this.#o;
    const { body } = opened;
    const floor = new RateFloor(clock, config.minRate);
    const over = new AbortController();
    const onAbort = (): void => {
      body.destroy(asError(signal.reason));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    floor.breached(over.signal).then(
      () => body.destroy(tooSlow(this.#upstream, config.minRate)),
      () => {},
    );
    const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, void>;
    let position = opened.start;
    try {
      signal.throwIfAborted();
      while (this.#total === undefined || position < this.#total) {
        const doubt = turn.doubt();
        if (doubt !== undefined) await waitFor(doubt, signal);
        floor.asked();
        const { done, value } = await chunks.next();
        if (done === true) return;
        floor.got(value.length);
        position += value.length;
        yield value;
      }
      // A body that has ended by itself leaves its connection fit for the next request.
      await Promise.race([chunks.next().catch(() => {}), nextTurn()]);
    } finally {
      over.abort(NO_MORE);
      signal.removeEventListener("abort", onAbort);
      body.destroy();
      // Whoever had the last chunk is done with it: others may have its memory.
      chunks.return?.().catch(() => {});
    }
  }
}

interface OpenedBody {
  readonly body: Readable;
  /** Position of the body's first byte in the blob. */
  readonly start: number;
}

function badAnswer(upstream: string, message: string): UpstreamError {
  return new UpstreamError(upstream, "bad-answer", `${upstream}: ${message}`);
}

function endedShort(upstream: string): UpstreamError {
  return badAnswer(upstream, "the body ended before the blob's end");
}

function tooSlow(upstream: string, bytesPerSecond: number): UpstreamError {
  return new UpstreamError(upstream, "timeout", `${upstream}: the body came slower than ${bytesPerSecond} bytes/s`);
}

function isUnsatisfiable(error: unknown): boolean {
  return error instanceof UpstreamError && error.status === 416;
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}
