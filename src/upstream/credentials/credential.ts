import type { CallOptions } from "../../base/call.ts";
import type { Secret } from "../../base/secret.ts";
import type { UpstreamError } from "../upstream.ts";

/** What Weir signs in with right now: one configured credential, resolved from wherever its secret is kept. */
export interface Credential {
  /** As configured; for errors, logs and metrics. */
  readonly label: string;
  /**
   * An identity token is an OAuth2 refresh token (`identitytoken` of a docker config, ACR): it is sent to the realm as
   * `grant_type=refresh_token`, and never as a password.
   */
  readonly form: "password" | "identity-token";
  /** Empty for identity tokens that come without one. */
  readonly username: string;
  readonly secret: Secret;
  /** SHA-256 in hex over the registry's host, form, username and secret: the key for parking and for tokens. Never shown. */
  readonly fingerprint: string;
  /** Wall-clock milliseconds; undefined where it is not known to end. */
  readonly expiresAtMs: number | undefined;
}

/** One upstream's configured credentials: which of them speaks for a repository, and which the upstream has refused. */
export interface CredentialPool {
  /** A configured credential applies to the repository, parked ones included: an answer to it says nothing about the public. */
  applies(repository: string): boolean;
  /**
   * Undefined where none applies: ask anonymously. Of those that apply and are not parked, the one with most quota left, in
   * configured order where that is equal. Rejects with an UpstreamError `credential` (label, what to do, `retryAfterMs` until
   * a park ends) where one applies and none can be used: anonymous never silently takes its place.
   */
  choose(repository: string, o: CallOptions): Promise<Credential | undefined>;
  /**
   * The upstream refused it (401 of the token realm to credentials, 401 of the registry to Basic): it is parked for a minute,
   * doubling to an hour, also beyond a restart.
   */
  refused(credential: Credential, o: CallOptions): Promise<void>;
  /**
   * It was accepted: the realm issued a token for it, or the registry took it by Basic. The doubling starts anew. That a token
   * got from it before still works says nothing. Costs nothing, so it may be called for every such answer.
   */
  accepted(credential: Credential): void;
  /** For doctor and metrics, in configured order. */
  status(): readonly CredentialStatus[];
  /**
   * Those that apply to the repository, in the order in which {@link choose} would try them. `refusal` is what it would reject
   * with, as far as that is known without resolving any.
   */
  outlook(repository: string): CredentialOutlook;
  /** One credential by its label, whatever its patterns. Rejects as {@link choose} does. */
  resolve(label: string, o: CallOptions): Promise<Credential>;
  /** Ends what is under way behind the scenes (renewals, helpers). Repeatable. */
  close(): void;
}

export interface CredentialOutlook {
  readonly inOrder: readonly CredentialStatus[];
  readonly refusal: UpstreamError | undefined;
}

export interface CredentialStatus {
  readonly label: string;
  /** Wall-clock milliseconds; undefined where it is not parked. */
  readonly parkedUntilMs: number | undefined;
  /** Wall-clock milliseconds; undefined where it is not known to end, or was not resolved yet. */
  readonly expiresAtMs: number | undefined;
  /** Why it cannot be used, in a sentence that is safe to show; undefined where nothing is known against it. */
  readonly lastError: string | undefined;
}
