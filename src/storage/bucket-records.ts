import type { CallOptions } from "../base/call.ts";
import { type Digest, isDigest } from "../oci/digest.ts";
import { StorageError } from "./blob-store.ts";
import { ROOM_CLOCK_KEY, ROOM_MARKS_PREFIX, ROOM_SEAT_KEY, ROOM_USAGE_KEY, ROOM_USES_PREFIX } from "./layout.ts";
import { MAX_OBJECT_BYTES, type SmallObjects } from "./small-objects.ts";

/** Something that one process writes down for the others, under a name that it has made up. */
export interface BucketFolder<T> {
  ids(o: CallOptions): AsyncIterable<string>;
  /** Undefined where there is none; rejects with a StorageError where it cannot be told. `value` is undefined where it makes no sense. */
  get(id: string, o: CallOptions): Promise<{ readonly value: T | undefined } | undefined>;
  /** Replaces it as a whole. */
  put(id: string, value: T, o: CallOptions): Promise<void>;
  delete(id: string, o: CallOptions): Promise<void>;
  /** When it was written, by the server's clock, in milliseconds since the epoch; undefined where there is none. */
  writtenAtMs(id: string, o: CallOptions): Promise<number | undefined>;
}

/** What the processes that share a bucket tell each other about its room. Written to the bucket itself, past any cache. */
export interface BucketRecords {
  /** By process. */
  readonly uses: BucketFolder<UsesRecord>;
  /** In batches, none of which is ever written again. */
  readonly marks: BucketFolder<MarkBatch>;
  seat(o: CallOptions): Promise<SeatRecord | undefined>;
  putSeat(seat: SeatRecord, o: CallOptions): Promise<void>;
  deleteSeat(o: CallOptions): Promise<void>;
  usage(o: CallOptions): Promise<UsageRecord | undefined>;
  putUsage(usage: UsageRecord, o: CallOptions): Promise<void>;
  /** The time by the server's clock, in whole seconds; milliseconds since the epoch. Writes something to learn it. */
  serverNowMs(o: CallOptions): Promise<number>;
}

export interface UsesRecord {
  /** By the writer's own clock, as the times of the blobs are. Milliseconds since the epoch. */
  readonly writtenAtMs: number;
  /** What was used last comes first; what comes beyond {@link MAX_OBJECT_BYTES} is left out. */
  readonly blobs: readonly UsedBlob[];
}

export interface UsedBlob {
  readonly digest: Digest;
  readonly usedAtMs: number;
  /** Set for what the process has put there itself. */
  readonly kept?: KeptBlob | undefined;
}

export interface KeptBlob {
  readonly bytes: number;
  readonly isManifest: boolean;
  readonly upstreams: readonly string[];
}

/** Why a blob was marked. */
export type MarkReason = (typeof MARK_REASONS)[number];

const MARK_REASONS = ["age", "room", "upstream-cap", "unreferenced"] as const;

export interface Mark {
  readonly digest: Digest;
  readonly reason: MarkReason;
  readonly bytes: number;
}

export interface MarkBatch {
  /** By the server's clock, where the batch stands for an older one; else it was marked when the batch was written. */
  readonly markedAtMs?: number | undefined;
  readonly marks: readonly Mark[];
}

/** Who lets go. */
export interface SeatRecord {
  readonly token: string;
  /** Another one whenever it is written. */
  readonly beat: number;
  /** False for one that knows of no limits. */
  readonly isBounded?: boolean | undefined;
}

export interface UsageRecord {
  readonly bytes: number;
  readonly blobs: number;
  readonly perUpstream: Readonly<Record<string, number>>;
}

const ID = /^([0-9a-z-]{1,64})\.json$/;

/** @param objects the bucket's own, without a cache in front */
export function createBucketRecords(objects: SmallObjects): BucketRecords {
  const read = async <T>(key: string, parse: (json: unknown) => T | undefined, o: CallOptions) => {
    const bytes = await objects.get(key, o);
    return bytes && { value: parsed(bytes, parse) };
  };
  const put = (key: string, value: unknown, o: CallOptions): Promise<void> =>
    objects.put(key, Buffer.from(JSON.stringify(value)), o);
  const folder = <T>(
    prefix: string,
    parse: (json: unknown) => T | undefined,
    format: (value: T) => unknown,
  ): BucketFolder<T> => {
    const keyOf = (id: string): string => `${prefix}${id}.json`;
    return {
      async *ids(o) {
        for await (const name of objects.list(prefix, o)) {
          const id = ID.exec(name)?.[1];
          if (id !== undefined) yield id;
        }
      },
      get: (id, o) => read(keyOf(id), parse, o),
      put: (id, value, o) => put(keyOf(id), format(value), o),
      async delete(id, o) {
        await objects.delete(keyOf(id), o);
      },
      writtenAtMs: async (id, o) => (await objects.stat(keyOf(id), o))?.changedAtMs,
    };
  };
  return {
    uses: folder(ROOM_USES_PREFIX, parseUses, fittingUses),
    marks: folder(ROOM_MARKS_PREFIX, parseMarks, (batch) => batch),
    seat: async (o) => (await read(ROOM_SEAT_KEY, parseSeat, o))?.value,
    putSeat: (seat, o) => put(ROOM_SEAT_KEY, seat, o),
    async deleteSeat(o) {
      await objects.delete(ROOM_SEAT_KEY, o);
    },
    usage: async (o) => (await read(ROOM_USAGE_KEY, parseUsage, o))?.value,
    putUsage: (usage, o) => put(ROOM_USAGE_KEY, usage, o),
    async serverNowMs(o) {
      await objects.put(ROOM_CLOCK_KEY, new Uint8Array(), o);
      const stat = await objects.stat(ROOM_CLOCK_KEY, o);
      if (stat === undefined) throw new StorageError("unavailable", `${ROOM_CLOCK_KEY} was written and is not there`);
      return stat.changedAtMs;
    },
  };
}

/** As many as an object may have. */
function fittingUses({ writtenAtMs, blobs }: UsesRecord): UsesRecord {
  let room = MAX_OBJECT_BYTES - 64;
  const end = blobs.findIndex((blob) => {
    room -= JSON.stringify(blob).length + 1;
    return room < 0;
  });
  return { writtenAtMs, blobs: end < 0 ? blobs : blobs.slice(0, end) };
}

function parsed<T>(bytes: Uint8Array, parse: (json: unknown) => T | undefined): T | undefined {
  try {
    return parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function parseUses(json: unknown): UsesRecord | undefined {
  const { writtenAtMs, blobs } = fieldsOf(json);
  if (!isTime(writtenAtMs) || !Array.isArray(blobs)) return undefined;
  return {
    writtenAtMs,
    blobs: blobs.flatMap((blob: unknown) => {
      const { digest, usedAtMs, kept } = fieldsOf(blob);
      if (typeof digest !== "string" || !isDigest(digest) || !isTime(usedAtMs)) return [];
      return [{ digest, usedAtMs, kept: parseKept(kept) }];
    }),
  };
}

function parseKept(json: unknown): KeptBlob | undefined {
  const { bytes, isManifest, upstreams } = fieldsOf(json);
  if (!isTime(bytes) || !Array.isArray(upstreams)) return undefined;
  return { bytes, isManifest: isManifest === true, upstreams: upstreams.filter((name) => typeof name === "string") };
}

function parseMarks(json: unknown): MarkBatch | undefined {
  const { markedAtMs, marks } = fieldsOf(json);
  if (!Array.isArray(marks) || (markedAtMs !== undefined && !isTime(markedAtMs))) return undefined;
  const read: Mark[] = [];
  for (const mark of marks as unknown[]) {
    const { digest, reason, bytes } = fieldsOf(mark);
    const why = MARK_REASONS.find((known) => known === reason);
    if (typeof digest !== "string" || !isDigest(digest) || why === undefined || !isTime(bytes)) return undefined;
    read.push({ digest, reason: why, bytes });
  }
  return { markedAtMs, marks: read };
}

function parseSeat(json: unknown): SeatRecord | undefined {
  const { token, beat, isBounded } = fieldsOf(json);
  return typeof token === "string" && isTime(beat) ? { token, beat, isBounded: isBounded !== false } : undefined;
}

function parseUsage(json: unknown): UsageRecord | undefined {
  const { bytes, blobs, perUpstream } = fieldsOf(json);
  if (!isTime(bytes) || !isTime(blobs)) return undefined;
  const numbers = Object.entries(fieldsOf(perUpstream)).filter((entry): entry is [string, number] => isTime(entry[1]));
  return { bytes, blobs, perUpstream: Object.fromEntries(numbers) };
}

function fieldsOf(json: unknown): Readonly<Record<string, unknown>> {
  return typeof json === "object" && json !== null ? (json as Record<string, unknown>) : {};
}

/** Or a number of bytes. */
function isTime(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}
