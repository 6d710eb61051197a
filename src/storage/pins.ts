import type { CallOptions } from "../base/call.ts";
import { PINS_KEY } from "./layout.ts";
import type { SmallObjects } from "./small-objects.ts";

/** What an operator has said is to stay, beyond a restart. */
export interface PinRecord {
  /** The reference, as it was understood. */
  readonly pin: string;
  /** When it was said; milliseconds since the epoch. */
  readonly sinceMs: number;
}

/**
 * The pins, kept where the blobs are that they keep: all in one object, since whoever evicts reads all of them. Of two that
 * are written in the same moment by Weirs that share a bucket, one may be lost.
 */
export interface PinStore {
  /** None where there is no such record, or it is malformed. */
  read(o: CallOptions): Promise<readonly PinRecord[]>;
  write(pins: readonly PinRecord[], o: CallOptions): Promise<void>;
}

export function createPinStore(objects: SmallObjects): PinStore {
  return {
    async read(o) {
      // Another process may have written it since it was read last.
      const bytes = await objects.get(PINS_KEY, { ...o, latest: true });
      return bytes === undefined ? [] : parsePins(bytes);
    },
    write: (pins, o) => objects.put(PINS_KEY, Buffer.from(JSON.stringify({ pins })), o),
  };
}

function parsePins(bytes: Uint8Array): readonly PinRecord[] {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return [];
  }
  const { pins } = asObject(value);
  if (!Array.isArray(pins)) return [];
  return pins.flatMap((record: unknown) => {
    const { pin, sinceMs } = asObject(record);
    return typeof pin === "string" && typeof sinceMs === "number" ? [{ pin, sinceMs }] : [];
  });
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
