import { type Digest, digestAlgorithm, digestHex } from "../oci/digest.ts";
import { OwnerSets } from "./room-owners.ts";

/** What is known of a blob besides its numbers; a sum of these. */
export const HELD = 1;
/** Some repository has it as a manifest. */
export const MANIFEST = 2;
/** `storage.pins` wants it. */
export const PINNED = 4;
/** Some repository has it. */
export const LINKED = 8;
/** Seen since the last look through the store began. */
export const SEEN = 16;
/** Its digest is longer than a key, and kept apart. */
const LONG = 32;

/** Bytes of a digest that an entry is found by: all of a sha256, half of a sha512. */
const KEY_BYTES = 32;

/** Parts in which entries are counted and saved, by the first four bits of their keys. */
export const PARTS = 16;

/** Entries whose memory is taken at a time: growing then copies nothing but the slots. */
const SEGMENT = 1 << 16;

/** Slots at the beginning; a power of two. */
const LEAST_SLOTS = 1 << 10;

/** A slot without an entry. Entries count from 0, and are stored plus one. */
const FREE = 0;

interface Segment {
  readonly keys: Uint8Array;
  readonly occupied: Float64Array;
  readonly usedAtMs: Float64Array;
  readonly flags: Uint8Array;
  readonly owners: Uint16Array;
}

/**
 * Every blob that is held, or that a repository has, in about 70 bytes of memory each: a million of them as JavaScript
 * objects would take several hundred megabytes. Entries have numbers, which stay theirs until they are deleted.
 */
export class BlobIndex {
  readonly #segments: Segment[] = [];
  /** Open addressing: the number of an entry plus one, or {@link FREE}. */
  #slots = new Uint32Array(LEAST_SLOTS);
  /** Numbers below it have been given out. */
  #end = 0;
  /** Numbers to be given out again. */
  readonly #free: number[] = [];
  /** The whole digests of the entries whose keys hold only a part. */
  readonly #long = new Map<number, Digest>();
  readonly #ownerSets = new OwnerSets();
  readonly #bytesByOwners: number[] = [];
  readonly #bytesByPart = new Float64Array(PARTS);
  readonly #key = Buffer.alloc(KEY_BYTES);
  #entries = 0;
  #held = 0;

  /** Blobs that are held. */
  get held(): number {
    return this.#held;
  }

  /** Bytes that they occupy. */
  get bytes(): number {
    return this.#bytesByPart.reduce((sum, bytes) => sum + bytes, 0);
  }

  bytesOfPart(part: number): number {
    return this.#bytesByPart[part] ?? 0;
  }

  /** Bytes by owner; what several own counts for each. */
  bytesByOwner(): Map<string, number> {
    const sums = new Map<string, number>();
    for (const [set, bytes] of this.#bytesByOwners.entries()) {
      for (const owner of this.#ownerSets.members(set)) sums.set(owner, (sums.get(owner) ?? 0) + (bytes ?? 0));
    }
    return sums;
  }

  /** The number of the digest's entry; undefined where it has none. */
  find(digest: Digest): number | undefined {
    const found = (this.#slots[this.#slotOf(digest)] ?? FREE) - 1;
    return found < 0 ? undefined : found;
  }

  /** The number of the digest's entry, which is made if there is none: used never, nobody's, not held. */
  ensure(digest: Digest): number {
    if ((this.#entries + 1) * 2 > this.#slots.length) this.#grow();
    const slot = this.#slotOf(digest);
    const known = this.#slots[slot] ?? FREE;
    if (known !== FREE) return known - 1;
    const entry = this.#free.pop() ?? this.#end++;
    const segment = this.#segmentOf(entry);
    const at = entry % SEGMENT;
    segment.keys.set(this.#key, at * KEY_BYTES);
    segment.occupied[at] = 0;
    segment.usedAtMs[at] = 0;
    segment.owners[at] = 0;
    const isLong = digestAlgorithm(digest) !== "sha256";
    segment.flags[at] = isLong ? LONG : 0;
    if (isLong) this.#long.set(entry, digest);
    this.#slots[slot] = entry + 1;
    this.#entries += 1;
    return entry;
  }

  delete(entry: number): void {
    this.setHeld(entry, undefined);
    const mask = this.#slots.length - 1;
    let hole = this.#homeOf(entry);
    while (this.#slots[hole] !== entry + 1) hole = (hole + 1) & mask;
    // Those behind the hole that would not be found beyond it any more move up.
    for (let slot = (hole + 1) & mask; this.#slots[slot] !== FREE; slot = (slot + 1) & mask) {
      const other = (this.#slots[slot] ?? FREE) - 1;
      if (((slot - this.#homeOf(other)) & mask) < ((slot - hole) & mask)) continue;
      this.#slots[hole] = other + 1;
      hole = slot;
    }
    this.#slots[hole] = FREE;
    this.#long.delete(entry);
    this.#segmentOf(entry).flags[entry % SEGMENT] = 0;
    // No digest is all zero: the number counts as given out to nobody.
    this.#segmentOf(entry).keys.fill(0, (entry % SEGMENT) * KEY_BYTES, ((entry % SEGMENT) + 1) * KEY_BYTES);
    this.#free.push(entry);
    this.#entries -= 1;
  }

  /** The numbers of all entries, also of those made meanwhile, none twice. */
  *entries(): Generator<number, void, undefined> {
    for (let entry = 0; entry < this.#end; entry += 1) if (!this.#isFree(entry)) yield entry;
  }

  /** Every blob that is held; for looks at all of them at once, which must not take long. */
  eachHeld(visit: (entry: number) => void): void {
    for (const [number, { flags }] of this.#segments.entries()) {
      for (let at = 0; at < SEGMENT; at += 1) if (((flags[at] ?? 0) & HELD) !== 0) visit(number * SEGMENT + at);
    }
  }

  digest(entry: number): Digest {
    const long = this.#long.get(entry);
    if (long !== undefined) return long;
    const { keys } = this.#segmentOf(entry);
    const at = (entry % SEGMENT) * KEY_BYTES;
    return `sha256:${Buffer.from(keys.buffer, at, KEY_BYTES).toString("hex")}` as Digest;
  }

  /** The first bytes of the digest, as a number that tells entries apart well enough for what may be lost. */
  prefix(entry: number): bigint {
    const { keys } = this.#segmentOf(entry);
    return Buffer.from(keys.buffer, (entry % SEGMENT) * KEY_BYTES, 8).readBigUInt64BE();
  }

  part(entry: number): number {
    return (this.#segmentOf(entry).keys[(entry % SEGMENT) * KEY_BYTES] ?? 0) >> 4;
  }

  occupied(entry: number): number {
    return this.#segmentOf(entry).occupied[entry % SEGMENT] ?? 0;
  }

  /** @param occupied bytes; undefined: it is not held */
  setHeld(entry: number, occupied: number | undefined): void {
    const segment = this.#segmentOf(entry);
    const at = entry % SEGMENT;
    if (this.has(entry, HELD)) this.#held -= 1;
    if (occupied !== undefined) this.#held += 1;
    this.set(entry, HELD, occupied !== undefined);
    this.#count(entry, (occupied ?? 0) - (segment.occupied[at] ?? 0));
    segment.occupied[at] = occupied ?? 0;
  }

  usedAtMs(entry: number): number {
    return this.#segmentOf(entry).usedAtMs[entry % SEGMENT] ?? 0;
  }

  use(entry: number, atMs: number): void {
    this.#segmentOf(entry).usedAtMs[entry % SEGMENT] = atMs;
  }

  has(entry: number, flag: number): boolean {
    return ((this.#segmentOf(entry).flags[entry % SEGMENT] ?? 0) & flag) !== 0;
  }

  set(entry: number, flag: number, on: boolean): void {
    const { flags } = this.#segmentOf(entry);
    const at = entry % SEGMENT;
    flags[at] = on ? (flags[at] ?? 0) | flag : (flags[at] ?? 0) & ~flag;
  }

  /** Takes the flag away from every entry. */
  clear(flag: number): void {
    for (const { flags } of this.#segments)
      for (let at = 0; at < SEGMENT; at += 1) flags[at] = (flags[at] ?? 0) & ~flag;
  }

  own(entry: number, owner: string): void {
    const { owners } = this.#segmentOf(entry);
    const at = entry % SEGMENT;
    const before = owners[at] ?? 0;
    const after = this.#ownerSets.with(before, owner);
    if (after === before) return;
    const occupied = this.occupied(entry);
    this.#count(entry, -occupied);
    owners[at] = after;
    this.#count(entry, occupied);
  }

  /** Whether `owner` is the only one. */
  isOwnedBy(entry: number, owner: string): boolean {
    const members = this.#ownerSets.members(this.#segmentOf(entry).owners[entry % SEGMENT] ?? 0);
    return members.length === 1 && members[0] === owner;
  }

  #count(entry: number, bytes: number): void {
    const set = this.#segmentOf(entry).owners[entry % SEGMENT] ?? 0;
    this.#bytesByOwners[set] = (this.#bytesByOwners[set] ?? 0) + bytes;
    const part = this.part(entry);
    this.#bytesByPart[part] = (this.#bytesByPart[part] ?? 0) + bytes;
  }

  #isFree(entry: number): boolean {
    const { keys } = this.#segmentOf(entry);
    const at = (entry % SEGMENT) * KEY_BYTES;
    for (let i = at; i < at + KEY_BYTES; i += 1) if (keys[i] !== 0) return false;
    return true;
  }

  #segmentOf(entry: number): Segment {
    const number = Math.floor(entry / SEGMENT);
    let segment = this.#segments[number];
    if (segment === undefined) {
      segment = {
        keys: new Uint8Array(SEGMENT * KEY_BYTES),
        occupied: new Float64Array(SEGMENT),
        usedAtMs: new Float64Array(SEGMENT),
        flags: new Uint8Array(SEGMENT),
        owners: new Uint16Array(SEGMENT),
      };
      this.#segments[number] = segment;
    }
    return segment;
  }

  /** The slot of the digest's entry, or the one where it belongs. */
  #slotOf(digest: Digest): number {
    this.#key.write(digestHex(digest), "hex");
    const mask = this.#slots.length - 1;
    let slot = this.#key.readUInt32LE() & mask;
    for (; ; slot = (slot + 1) & mask) {
      const stored = this.#slots[slot] ?? FREE;
      if (stored === FREE || this.#isOf(stored - 1, digest)) return slot;
    }
  }

  #isOf(entry: number, digest: Digest): boolean {
    const { keys } = this.#segmentOf(entry);
    const at = (entry % SEGMENT) * KEY_BYTES;
    for (let i = 0; i < KEY_BYTES; i += 1) if (keys[at + i] !== this.#key[i]) return false;
    return this.has(entry, LONG) === (digestAlgorithm(digest) !== "sha256");
  }

  /** Where the entry's slot would be if there were no others. Digests are spread evenly by themselves. */
  #homeOf(entry: number): number {
    const { keys } = this.#segmentOf(entry);
    return Buffer.from(keys.buffer, (entry % SEGMENT) * KEY_BYTES, 4).readUInt32LE() & (this.#slots.length - 1);
  }

  #grow(): void {
    const before = this.#slots;
    this.#slots = new Uint32Array(before.length * 2);
    const mask = this.#slots.length - 1;
    for (const stored of before) {
      if (stored === FREE) continue;
      let slot = this.#homeOf(stored - 1);
      while (this.#slots[slot] !== FREE) slot = (slot + 1) & mask;
      this.#slots[slot] = stored;
    }
  }
}
