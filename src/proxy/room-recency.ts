import { crc32 } from "node:zlib";
import type { CallOptions } from "../base/call.ts";
import type { Log } from "../base/log.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { RoomRecords } from "../storage/room-records.ts";
import { type BlobIndex, PARTS } from "./room-index.ts";

/** Says what the file is, and in which form. */
const MAGIC = "WEIRREC1";

/** Magic, checksum of all that follows, number of entries, bytes of the part's blobs. */
const HEADER_BYTES = 8 + 4 + 4 + 8;

/** The first bytes of the digest, and when it was used, in milliseconds since the epoch. */
const PREFIX_BYTES = 8;
const TIME_BYTES = 6;
const ENTRY_BYTES = PREFIX_BYTES + TIME_BYTES;

/** Small objects are bounded: beyond a million blobs, only those used last are noted. */
export const MAX_PART_ENTRIES = 74_000;

/** When blobs were used, as it was written down last; for one part of them. */
export interface RecencyPart {
  /** Bytes that the part's blobs occupied then. */
  readonly bytes: number;
  /** Milliseconds since the epoch; undefined for a blob that was not noted. */
  usedAtMs(prefix: bigint): number | undefined;
}

/** The part of what is used when that lies in `index`, to be written down. */
export function encodeRecency(index: BlobIndex, part: number): Uint8Array {
  let noted: number[] = [];
  index.eachHeld((entry) => {
    if (index.part(entry) === part) noted.push(entry);
  });
  if (noted.length > MAX_PART_ENTRIES) {
    noted = noted.sort((a, b) => index.usedAtMs(b) - index.usedAtMs(a)).slice(0, MAX_PART_ENTRIES);
  }
  const bytes = Buffer.alloc(HEADER_BYTES + noted.length * ENTRY_BYTES);
  const inOrder = BigUint64Array.from(noted, (entry) => index.prefix(entry));
  const order = Uint32Array.from(noted.keys()).sort((a, b) => compare(inOrder[a] ?? 0n, inOrder[b] ?? 0n));
  let at = HEADER_BYTES;
  for (const i of order) {
    bytes.writeBigUInt64BE(inOrder[i] ?? 0n, at);
    bytes.writeUIntBE(Math.max(0, Math.floor(index.usedAtMs(noted[i] ?? 0))), at + PREFIX_BYTES, TIME_BYTES);
    at += ENTRY_BYTES;
  }
  bytes.write(MAGIC, "latin1");
  bytes.writeUInt32BE(noted.length, 12);
  bytes.writeDoubleBE(index.bytesOfPart(part), 16);
  bytes.writeUInt32BE(crc32(bytes.subarray(12)), 8);
  return bytes;
}

/** Undefined for what is torn, or not of this form. */
export function parseRecency(bytes: Uint8Array): RecencyPart | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < HEADER_BYTES || view.toString("latin1", 0, 8) !== MAGIC) return undefined;
  const count = view.readUInt32BE(12);
  if (view.length !== HEADER_BYTES + count * ENTRY_BYTES) return undefined;
  if (view.readUInt32BE(8) !== crc32(view.subarray(12))) return undefined;
  return {
    bytes: view.readDoubleBE(16),
    usedAtMs(prefix) {
      let [low, high] = [0, count - 1];
      while (low <= high) {
        const middle = (low + high) >> 1;
        const at = HEADER_BYTES + middle * ENTRY_BYTES;
        const found = view.readBigUInt64BE(at);
        if (found === prefix) return view.readUIntBE(at + PREFIX_BYTES, TIME_BYTES);
        if (found < prefix) low = middle + 1;
        else high = middle - 1;
      }
      return undefined;
    },
  };
}

/** Keeps beside the blobs when they were used: no write for a hit, but one now and then for the parts with any. */
export class Recency {
  readonly #records: RoomRecords;
  readonly #log: Log;
  readonly #changed = new Set<number>();

  constructor(records: RoomRecords, log: Log) {
    this.#records = records;
    this.#log = log;
  }

  /** Something in the part was used, kept or deleted. */
  changed(part: number): void {
    this.#changed.add(part);
  }

  /** By part. What is missing or cannot be read is left out: then blobs count as used when they were stored. */
  async load(o: CallOptions): Promise<ReadonlyMap<number, RecencyPart>> {
    const parts = new Map<number, RecencyPart>();
    for (let part = 0; part < PARTS; part += 1) {
      try {
        const bytes = await this.#records.recency(part, o);
        const found = bytes && parseRecency(bytes);
        if (found !== undefined) parts.set(part, found);
        else if (bytes !== undefined) this.#log.warn({ part }, "the record of what was used when is damaged: left out");
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        this.#log.warn({ err: error, part }, "the record of what was used when could not be read");
      }
    }
    return parts;
  }

  /** Writes the parts that have changed. What cannot be written is tried again with the next. */
  async save(index: BlobIndex, o: CallOptions): Promise<void> {
    for (const part of [...this.#changed]) {
      this.#changed.delete(part);
      try {
        await this.#records.putRecency(part, encodeRecency(index, part), o);
      } catch (error) {
        this.#changed.add(part);
        if (!(error instanceof StorageError)) throw error;
        this.#log.warn({ err: error, part }, "what was used when could not be written down");
        return;
      }
    }
  }
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
