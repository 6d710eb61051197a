import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Secret } from "../../base/secret.ts";

/** What a source gives: user name and secret as they are now. */
export interface ResolvedSecret {
  readonly form: "password" | "identity-token";
  readonly username: string;
  readonly secret: Secret;
  /** Wall-clock milliseconds; undefined where it is not known to end. */
  readonly expiresAtMs: number | undefined;
}

export interface ResolveOptions extends CallOptions {
  /** A docker config may hold others for other repositories; undefined = whichever there is for the registry. */
  readonly repository: string | undefined;
}

/** Where one configured credential's secret is kept. */
export interface CredentialSource {
  /** Its secret is another one each time that it is fetched, without anybody having changed it. */
  readonly renews: boolean;
  /** As it is now: what was kept is looked at again, or renewed. Rejects with {@link SourceError}. */
  resolve(o: ResolveOptions): Promise<ResolvedSecret>;
  /** The registry refused what was resolved last: where a newer one can be had, it is fetched. */
  refused(): void;
  /** Ends what is under way behind the scenes. Repeatable. */
  close(): void;
}

/**
 * - `credential`: only the operator can mend it
 * - `connect`, `timeout`, `status`: whoever issues it was not reached, was too slow, or is in trouble
 */
export type SourceFault = "credential" | "connect" | "timeout" | "status";

/** A secret could not be had. The message says what to do, and holds nothing of the secret. */
export class SourceError extends Error {
  override readonly name = "SourceError";
  readonly fault: SourceFault;

  constructor(fault: SourceFault, message: string) {
    super(message);
    this.fault = fault;
  }
}

/** There is none for what was asked, where another place may have one. */
export class NoSecretError extends SourceError {}

/** What sources get. */
export interface SourceDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Which credential of the configuration it is, for log lines. */
  readonly where: string;
}
