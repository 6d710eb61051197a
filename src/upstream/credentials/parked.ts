import type { CallOptions } from "../../base/call.ts";

/** How long a refused credential is kept from its registry. */
export interface ParkedState {
  /** Wall-clock milliseconds. */
  readonly untilMs: number;
  /** Refusals in a row. */
  readonly failures: number;
}

/** Parked credentials beyond a restart, by {@link Credential.fingerprint}; storage implements it. */
export interface ParkedCredentials {
  get(fingerprint: string, o: CallOptions): Promise<ParkedState | undefined>;
  put(fingerprint: string, state: ParkedState, o: CallOptions): Promise<void>;
  delete(fingerprint: string, o: CallOptions): Promise<void>;
}
