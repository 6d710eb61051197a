import type { CallOptions } from "../base/call.ts";

/**
 * Who does what for all processes (design, section 4). Leases spare work and never guard correctness: two holders at once
 * cost bytes, not truth. Where the others cannot be asked, everybody gets what they ask for.
 */
export interface Leases {
  /** Takes the lease, or tells who has it. Rejects with the signal's reason only. */
  acquire(name: string, o: CallOptions): Promise<Acquired>;
  /** Gives everything back. Repeatable. */
  close(): Promise<void>;
}

export type Acquired =
  | { readonly lease: Lease }
  | {
      /** Where the holder can be asked for what it is doing; undefined where it has not said. */
      readonly holder: string | undefined;
    };

/** A right to do something, renewed until it is released or its holder is gone. */
export interface Lease {
  /** Aborts when somebody else has it: this process has been too slow to renew it, frozen or cut off. */
  readonly lost: AbortSignal;
  /**
   * Undefined as long as this process has been able to ask for the lease of late. Who has been frozen for longer than a lease
   * lasts does not know yet whether it is lost: to be waited for before anything is done that another may be doing. Resolves
   * when that is known, or cannot be; never rejects.
   */
  doubt(): Promise<void> | undefined;
  /** Repeatable; never rejects. */
  release(): Promise<void>;
}
