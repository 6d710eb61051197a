import type { CallOptions } from "../base/call.ts";
import { SAVINGS_KEY } from "./layout.ts";
import type { SmallObjects } from "./small-objects.ts";

/** Answers to clients, and those among them that cost the upstream nothing. */
export interface Saved {
  readonly requests: number;
  /** Of these, answered without asking the upstream. */
  readonly savedRequests: number;
  /** Of bodies. */
  readonly bytes: number;
  /** Of these, not fetched for it. */
  readonly savedBytes: number;
}

export interface SavedUpstream extends Saved {
  readonly repositories: Readonly<Record<string, Saved>>;
}

export interface SavingsRecord {
  /** When counting began; milliseconds since the epoch. */
  readonly sinceMs: number;
  readonly upstreams: Readonly<Record<string, SavedUpstream>>;
}

/** Where the record is kept between starts. */
export interface SavingsStore {
  read(o: CallOptions): Promise<SavingsRecord | undefined>;
  write(record: SavingsRecord, o: CallOptions): Promise<void>;
}

export function createSavingsStore(objects: SmallObjects): SavingsStore {
  return {
    async read(o) {
      const bytes = await objects.get(SAVINGS_KEY, o);
      return bytes && parseSavings(bytes);
    },
    write: (record, o) => objects.put(SAVINGS_KEY, Buffer.from(JSON.stringify(record)), o),
  };
}

/** Undefined for what is no such record: counting then begins anew. */
export function parseSavings(bytes: Uint8Array): SavingsRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return undefined;
  }
  const { sinceMs, upstreams } = asObject(value);
  if (!isCount(sinceMs)) return undefined;
  const known: [string, SavedUpstream][] = [];
  for (const [name, upstream] of Object.entries(asObject(upstreams))) {
    const saved = parseSaved(upstream);
    if (saved === undefined) return undefined;
    const repositories = Object.entries(asObject(asObject(upstream).repositories)).flatMap(([repository, own]) => {
      const counts = parseSaved(own);
      return counts === undefined ? [] : [[repository, counts] as const];
    });
    known.push([name, { ...saved, repositories: Object.fromEntries(repositories) }]);
  }
  return { sinceMs, upstreams: Object.fromEntries(known) };
}

function parseSaved(value: unknown): Saved | undefined {
  const { requests, savedRequests, bytes, savedBytes } = asObject(value);
  if (!isCount(requests) || !isCount(savedRequests) || !isCount(bytes) || !isCount(savedBytes)) return undefined;
  return { requests, savedRequests, bytes, savedBytes };
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
