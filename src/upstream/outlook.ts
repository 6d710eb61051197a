import type { CredentialStatus } from "./credentials/credential.ts";
import type { QuotaStatus } from "./rate-limit.ts";
import type { OriginRole, UpstreamError } from "./upstream.ts";

/** How an origin has behaved of late. */
export interface BreakerStatus {
  /** Scheme, host and port. */
  readonly origin: string;
  readonly role: OriginRole;
  /** Too many requests in a row have failed: nothing but a probe now and then is sent. */
  readonly open: boolean;
  /** Until when nothing is sent at all; undefined where something is. Milliseconds since the epoch. */
  readonly untilMs: number | undefined;
  /** The failure that counts, such as `status 503`. */
  readonly reason: string | undefined;
}

/** With what each of these questions would be answered without being sent; undefined where it would be sent. */
export interface Refusals {
  /** Of a manifest. */
  readonly head: UpstreamError | undefined;
  /** Of a manifest. */
  readonly get: UpstreamError | undefined;
  readonly blob: UpstreamError | undefined;
}

/** One address of an upstream. */
export interface EndpointOutlook {
  /** Scheme, host and port. */
  readonly origin: string;
  /** The label of the credential that would be used; undefined where it is asked anonymously, or none can be used. */
  readonly credential: string | undefined;
  /** Those that apply to the repository, the one with most quota left first. */
  readonly credentials: readonly CredentialStatus[];
  /** What is left for them, or for anonymous requests. */
  readonly quotas: readonly QuotaStatus[];
  readonly breakers: readonly BreakerStatus[];
  readonly refusals: Refusals;
}

/** What would become of a question about a repository, as far as that is known without asking anybody. */
export interface Outlook {
  /** In the order in which they are asked. */
  readonly endpoints: readonly EndpointOutlook[];
  /** Of all of them together. */
  readonly refusals: Refusals;
  /** Less is left of the quota than `whenBudgetLow` has: questions by these methods are put off where they can be. */
  readonly low: { readonly head: boolean; readonly get: boolean };
}
