import type { Hasher } from "../oci/digest.ts";
import type { FillMemory } from "./fill-memory.ts";

interface Block {
  readonly start: number;
  readonly buffer: Buffer;
  /** Of all the bytes before `start`, where they are hashed here. */
  hashBefore: Hasher | undefined;
  length: number;
  /** Who is using the bytes; a dropped block is used again when nobody does. */
  pins: number;
  dropped: boolean;
}

/** Bytes of the window, valid until they are released. */
export interface WindowSlice {
  readonly bytes: Uint8Array;
  release(): void;
}

/**
 * The end of what a fill has received: its last bytes, in blocks of memory shared by everybody who keeps up, and the
 * hash of everything up to there, unless somebody else sees to that.
 */
export class FillWindow {
  readonly #memory: FillMemory;
  readonly #blocks: Block[] = [];
  /** Undefined while somebody else hashes. */
  #hash: Hasher | undefined;
  #end: number;

  /** `hash` has seen the first `start` bytes, or will have before the first append. */
  constructor(memory: FillMemory, start: number, hash: Hasher) {
    this.#memory = memory;
    this.#end = start;
    this.#hash = hash;
  }

  /** The first byte that is still held. */
  get start(): number {
    return this.#blocks[0]?.start ?? this.#end;
  }

  /** So many bytes have been received. */
  get end(): number {
    return this.#end;
  }

  append(chunk: Uint8Array): void {
    let left = chunk;
    while (left.length > 0) {
      const block = this.#roomyBlock();
      const part = left.subarray(0, block.buffer.length - block.length);
      block.buffer.set(part, block.length);
      block.length += part.length;
      this.#hash?.update(part);
      this.#end += part.length;
      left = left.subarray(part.length);
    }
  }

  /** A hasher that has seen the first `offset` bytes, where they are hashed here. `offset` is in the window. */
  hashAt(offset: number): Hasher | undefined {
    const block = this.#blockAt(offset);
    if (block === undefined) return this.#hash?.copy();
    const hash = block.hashBefore?.copy();
    hash?.update(block.buffer.subarray(0, offset - block.start));
    return hash;
  }

  /** Somebody else hashes what comes. */
  leaveHashing(): void {
    this.#hash = undefined;
  }

  /** It is hashed here again: `hash`, ours from now on, has seen the bytes before {@link start}. */
  takeUpHashing(hash: Hasher): void {
    for (const block of this.#blocks) {
      block.hashBefore = hash.copy();
      hash.update(block.buffer.subarray(0, block.length));
    }
    this.#hash = hash;
  }

  /** The bytes from `from`, which is in the window, up to `to` or the end of their block. */
  slice(from: number, to: number): WindowSlice | undefined {
    const block = this.#blockAt(from);
    if (block === undefined) return undefined;
    const end = Math.min(to, block.start + block.length);
    block.pins += 1;
    return {
      bytes: block.buffer.subarray(from - block.start, end - block.start),
      release: () => {
        block.pins -= 1;
        this.#reuse(block);
      },
    };
  }

  /** Forgets whole blocks that lie before `until`. */
  trim(until: number): void {
    const kept = this.#blocks.findIndex((block) => block.start + block.length > until);
    for (const block of this.#blocks.splice(0, kept === -1 ? this.#blocks.length : kept)) {
      block.dropped = true;
      this.#reuse(block);
    }
  }

  #roomyBlock(): Block {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.length < last.buffer.length) return last;
    const block: Block = {
      start: this.#end,
      buffer: this.#memory.takeBlock(),
      hashBefore: this.#hash?.copy(),
      length: 0,
      pins: 0,
      dropped: false,
    };
    this.#blocks.push(block);
    return block;
  }

  /** All blocks but the last are full, so the place of an offset can be worked out. */
  #blockAt(offset: number): Block | undefined {
    const first = this.#blocks[0];
    if (first === undefined || offset < first.start || offset >= this.#end) return undefined;
    return this.#blocks[Math.floor((offset - first.start) / first.buffer.length)];
  }

  #reuse(block: Block): void {
    if (block.dropped && block.pins === 0) this.#memory.giveBlock(block.buffer);
  }
}
