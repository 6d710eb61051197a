/** Blobs made from a seed, and upstreams that deliver them as a script says. */
import { Readable } from "node:stream";
import { createHasher, type Digest, type DigestAlgorithm, digestOf } from "../../src/oci/digest.ts";
import type { FillSource } from "../../src/proxy/fill-source.ts";
import {
  type BlobBody,
  UpstreamError,
  type UpstreamErrorOptions,
  type UpstreamFault,
} from "../../src/upstream/upstream.ts";
import { seededBytes } from "./images.ts";

export interface BlobContent {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** Not to be changed by the caller. */
  read(start: number, end: number): Buffer;
}

/** A blob in memory; the same seed gives the same bytes. */
export function seededBlob(seed: string, size: number, algorithm: DigestAlgorithm = "sha256"): BlobContent {
  const bytes = seededBytes(seed, size);
  return { digest: digestOf(bytes, algorithm), size, read: (start, end) => bytes.subarray(start, end) };
}

const STAMP_EVERY = 1024 * 1024;
const STAMP_BYTES = 8;

/**
 * A blob that is made while it is read, however large: random blocks of 1 MiB that begin with their number. What lies between
 * two numbers is never copied: a test that measures memory would measure that.
 */
export function stampedBlob(seed: string, size: number): BlobContent {
  const block = seededBytes(seed, STAMP_EVERY);
  const stamp = (at: number): Buffer => {
    const bytes = Buffer.alloc(STAMP_BYTES);
    bytes.writeBigUInt64BE(BigInt(Math.floor(at / STAMP_EVERY)));
    return bytes;
  };
  const read = (start: number, end: number): Buffer => {
    const first = start % STAMP_EVERY;
    if (first >= STAMP_BYTES && first + end - start <= STAMP_EVERY) return block.subarray(first, first + end - start);
    const bytes = Buffer.allocUnsafe(end - start);
    for (let at = start; at < end; ) {
      const offset = at % STAMP_EVERY;
      const length = Math.min(end - at, STAMP_EVERY - offset);
      block.copy(bytes, at - start, offset, offset + length);
      if (offset < STAMP_BYTES) stamp(at).copy(bytes, at - start, offset, Math.min(STAMP_BYTES, offset + length));
      at += length;
    }
    return bytes;
  };
  const hash = createHasher("sha256");
  for (let at = 0; at < size; at += STAMP_EVERY) {
    hash.update(stamp(at).subarray(0, size - at));
    hash.update(block.subarray(STAMP_BYTES, Math.max(STAMP_BYTES, size - at)));
  }
  return { digest: hash.digest(), size, read };
}

/** How one request is answered; an empty object is a plain, right answer. */
export interface Answer {
  /** Rejects instead of answering. */
  readonly error?: unknown;
  /** The connection breaks when the blob has been sent up to this position. */
  readonly cutAt?: number;
  /** The body ends, as if it were whole, at this position. */
  readonly endAt?: number;
  /** Nothing more comes from this position on, and the connection stays. */
  readonly stallAt?: number;
  /** The byte at this position of the blob is another one. */
  readonly wrongByteAt?: number;
  /** Sends the whole blob, whatever range was asked for (200 to a range request). */
  readonly whole?: boolean;
  /** Says that the body begins here, and begins there. */
  readonly startsAt?: number;
  /** Says that the blob has this length; `"untold"` says nothing. */
  readonly total?: number | "untold";
  /** Sends so many bytes more than the blob has. */
  readonly extra?: number;
}

export interface Asked {
  readonly start: number;
  /** Bytes of body handed over so far. */
  sent: number;
}

export interface ScriptedSourceOptions {
  readonly blob: BlobContent;
  /** `upstream.example/app` if left out. */
  readonly key?: string;
  /** One answer for each request, the last one again for all further ones; a function is asked with the request's number from 0. */
  readonly script?: readonly Answer[] | ((request: number, start: number) => Answer);
  /** Bytes of one chunk of a body; 16 KiB if left out. */
  readonly chunkBytes?: number;
}

export class ScriptedSource implements FillSource {
  readonly key: string;
  readonly upstream: string;
  /** Every request for bytes, those that were refused included. */
  readonly ledger: Asked[] = [];
  readonly #blob: BlobContent;
  readonly #script: (request: number, start: number) => Answer;
  readonly #chunkBytes: number;
  readonly #bodies = new Set<ScriptedBody>();
  #limit = Number.POSITIVE_INFINITY;
  #gate: Promise<void> = Promise.resolve();

  constructor(o: ScriptedSourceOptions) {
    const { script = [{}] } = o;
    this.key = o.key ?? "upstream.example/app";
    this.upstream = this.key.slice(0, this.key.indexOf("/"));
    this.#blob = o.blob;
    this.#chunkBytes = o.chunkBytes ?? 16 * 1024;
    this.#script =
      typeof script === "function" ? script : (request) => script[Math.min(request, script.length - 1)] ?? {};
  }

  /** Bytes of bodies handed over, all requests together. */
  get sent(): number {
    return this.ledger.reduce((sum, asked) => sum + asked.sent, 0);
  }

  /** Bodies that nobody has ended yet. */
  get openBodies(): number {
    return this.#bodies.size;
  }

  /** Bodies stop before this position of the blob until it is moved. */
  sendUpTo(position: number): void {
    this.#limit = position;
    for (const body of this.#bodies) body.goOn();
  }

  /** Requests are answered when this has resolved. */
  answerAfter(gate: Promise<void>): void {
    this.#gate = gate;
  }

  async open(start: number, o: { readonly signal: AbortSignal }): Promise<BlobBody> {
    const asked: Asked = { start, sent: 0 };
    const answer = this.#script(this.ledger.length, start);
    this.ledger.push(asked);
    await this.#gate;
    o.signal.throwIfAborted();
    if (answer.error !== undefined) throw answer.error;
    const from = answer.startsAt ?? (answer.whole === true ? 0 : start);
    const body = new ScriptedBody(this.#blob, answer, from, this.#chunkBytes, asked, () => this.#limit);
    this.#bodies.add(body);
    body.once("close", () => this.#bodies.delete(body));
    const total = answer.total ?? this.#blob.size;
    return { start: from, total: total === "untold" ? undefined : total, body };
  }
}

export function upstreamError(fault: UpstreamFault, o: UpstreamErrorOptions = {}): UpstreamError {
  return new UpstreamError("upstream.example", fault, `the upstream said: ${fault}`, o);
}

class ScriptedBody extends Readable {
  readonly #blob: BlobContent;
  readonly #answer: Answer;
  readonly #chunkBytes: number;
  readonly #asked: Asked;
  readonly #limit: () => number;
  #at: number;
  #wanted = false;

  constructor(blob: BlobContent, answer: Answer, from: number, chunkBytes: number, asked: Asked, limit: () => number) {
    super({ highWaterMark: chunkBytes });
    this.#blob = blob;
    this.#answer = answer;
    this.#at = from;
    this.#chunkBytes = chunkBytes;
    this.#asked = asked;
    this.#limit = limit;
  }

  override _read(): void {
    this.#wanted = true;
    this.goOn();
  }

  goOn(): void {
    if (!this.#wanted || this.destroyed) return;
    const { cutAt, stallAt, endAt, extra = 0 } = this.#answer;
    const end = Math.min(endAt ?? Number.POSITIVE_INFINITY, this.#blob.size + extra);
    const stop = Math.min(cutAt ?? end, stallAt ?? end, end);
    if (this.#at >= stop) {
      if (this.#at === cutAt) this.destroy(new Error("the connection was reset"));
      else if (this.#at === end) this.push(null);
      return;
    }
    const to = Math.min(stop, this.#limit(), this.#at + this.#chunkBytes);
    if (this.#at >= to) return;
    this.#wanted = false;
    const chunk = this.#chunk(this.#at, to);
    this.#at = to;
    this.#asked.sent += chunk.length;
    this.push(chunk);
  }

  #chunk(from: number, to: number): Buffer {
    const { size } = this.#blob;
    const right = this.#blob.read(from, Math.min(to, size));
    const bytes = to > size ? Buffer.concat([right, Buffer.alloc(to - Math.max(from, size), 1)]) : right;
    const wrong = this.#answer.wrongByteAt;
    if (wrong === undefined || wrong < from || wrong >= to) return bytes;
    const changed = Buffer.from(bytes);
    changed[wrong - from] = (changed[wrong - from] ?? 0) ^ 1;
    return changed;
  }
}
