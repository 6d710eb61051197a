import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { BucketRecords, SeatRecord } from "../../storage/bucket-records.ts";

/** Whoever has not renewed it for so long is gone. */
export const SEAT_MS = 5 * 60_000;

export interface SeatDeps {
  readonly records: BucketRecords;
  /** Of this process alone. */
  readonly token: string;
  readonly clock: Clock;
}

/**
 * Which of several processes lets go from the bucket; all they need to share is the bucket. It spares work and guards nothing: two
 * at once, for a minute or two, mark the same blobs, and delete what both would have deleted. How long another process has been
 * silent is measured by this one's own clock. One that knows of no limits, and would let nothing go, gives way to one that does.
 */
export class Seat {
  readonly #deps: SeatDeps;
  #beat = 0;
  #seen: { readonly seat: SeatRecord; readonly sinceMs: number } | undefined;

  constructor(deps: SeatDeps) {
    this.#deps = deps;
  }

  /** To be asked once a minute or so. `claimed`: this process will have it, unless another one wants it at the same moment. */
  async take(o: CallOptions & { readonly isBounded: boolean }): Promise<"mine" | "claimed" | "taken"> {
    const { records, token } = this.#deps;
    const seat = await records.seat(o);
    const isMine = seat?.token === token;
    const { isBounded } = o;
    const givesWay = isBounded && seat?.isBounded === false;
    if (seat !== undefined && !isMine && !givesWay && !this.#isSilent(seat)) return "taken";
    this.#beat += 1;
    await records.putSeat({ token, beat: this.#beat, isBounded }, o);
    return isMine ? "mine" : "claimed";
  }

  /** Gives it back, so that the next one need not wait. Repeatable. */
  async leave(o: CallOptions): Promise<void> {
    const { records, token } = this.#deps;
    if ((await records.seat(o))?.token === token) await records.deleteSeat(o);
  }

  #isSilent(seat: SeatRecord): boolean {
    const now = this.#deps.clock.now();
    const { seat: before, sinceMs = now } = this.#seen ?? {};
    const isSame = before?.token === seat.token && before.beat === seat.beat;
    if (!isSame) this.#seen = { seat, sinceMs: now };
    return isSame && now - sinceMs >= SEAT_MS;
  }
}
