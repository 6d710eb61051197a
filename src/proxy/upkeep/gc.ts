import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { StoreInspector } from "../../storage/inspector.ts";
import type { Room, RoomCandidate, RoomReason } from "../room.ts";

/** `quarantined`: a damaged file that `weir verify` put aside a week ago. */
export type GcReason = RoomReason | "quarantined";

export interface GcCandidate extends Omit<RoomCandidate, "reason"> {
  readonly event: "candidate";
  readonly reason: GcReason;
}

export interface GcSummary {
  readonly done: true;
  readonly dryRun: boolean;
  readonly count: number;
  readonly bytes: number;
  readonly byReason: Readonly<Partial<Record<GcReason, { readonly count: number; readonly bytes: number }>>>;
  /** What goes later, unless it is used: it is in none of the others. Left out where there is none. */
  readonly marked?: { readonly count: number; readonly bytes: number };
}

export type GcEvent = GcCandidate | GcSummary;

export interface GcDeps {
  readonly room: Pick<Room, "collect">;
  /** Undefined where the store has no quarantine. */
  readonly inspector: StoreInspector | undefined;
  readonly clock: Clock;
}

/** Long enough to look at what was damaged, and to compare it with what was fetched in its place. */
const QUARANTINE_MS = 7 * 24 * 60 * 60 * 1000;

/** Everything that should go, and unless it is a dry run goes. */
export async function* collectGarbage(
  deps: GcDeps,
  o: CallOptions & { readonly dryRun: boolean },
): AsyncIterable<GcEvent> {
  const byReason: Partial<Record<GcReason, { count: number; bytes: number }>> = {};
  let count = 0;
  let bytes = 0;
  const marked = { count: 0, bytes: 0 };
  for await (const candidate of candidates(deps, o)) {
    if (candidate.markedMs !== undefined) {
      marked.count += 1;
      marked.bytes += candidate.bytes;
      yield candidate;
      continue;
    }
    const before = byReason[candidate.reason];
    byReason[candidate.reason] = {
      count: (before?.count ?? 0) + 1,
      bytes: (before?.bytes ?? 0) + candidate.bytes,
    };
    count += 1;
    bytes += candidate.bytes;
    yield candidate;
  }
  yield { done: true, dryRun: o.dryRun, count, bytes, byReason, ...(marked.count > 0 ? { marked } : {}) };
}

async function* candidates(
  { room, inspector, clock }: GcDeps,
  o: CallOptions & { readonly dryRun: boolean },
): AsyncIterable<GcCandidate> {
  for await (const candidate of room.collect(o)) yield { event: "candidate", ...candidate };
  for await (const { key, sinceMs, occupied, remove } of inspector?.quarantined(o) ?? []) {
    const ageMs = clock.now() - sinceMs;
    if (ageMs >= QUARANTINE_MS && (o.dryRun || (await remove(o)))) {
      yield { event: "candidate", key, reason: "quarantined", ageMs, bytes: occupied };
    }
  }
}
