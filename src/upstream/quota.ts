import type { BudgetThreshold } from "../config/types.ts";
import type { StateStore } from "../state/state-store.ts";
import type { HeaderView } from "./header-view.ts";
import type { QuotaRecord } from "./quota-book.ts";
import type { QuotaStatus, RateLimit } from "./rate-limit.ts";
import type { UpstreamError, UpstreamKind } from "./upstream.ts";

/** What one exchange with the registry counts as, for limits. */
export interface QuotaSubject {
  /** The credential's label; undefined = anonymous. */
  readonly credential: string | undefined;
  readonly kind: UpstreamKind;
  readonly method: "GET" | "HEAD";
}

/** An answer of the registry, or of its token realm, as far as limits are concerned. */
export interface QuotaAnswer {
  readonly status: number;
  readonly headers: HeaderView;
  /** Of a 429: up to 64 KiB of it. */
  readonly bodyText: string | undefined;
  /** It came from the token realm. */
  readonly realm: boolean;
}

/** One upstream's limits: what is left of them, and what they close for now (design, section 3 "Rate limits"). */
export interface Quotas {
  /**
   * Throws {@link UpstreamError} `quota` (with `retryAfterMs`) where the request would only be refused. To be called before
   * each exchange with the registry; costs nothing, and may be called twice for one exchange.
   */
  check(subject: QuotaSubject): void;
  /** What {@link check} would throw; changes nothing. */
  refusal(subject: QuotaSubject): UpstreamError | undefined;
  /** Takes in every direct answer of the registry and of its token realm, by the adapter's rules. */
  observe(subject: QuotaSubject, answer: QuotaAnswer): void;
  /** Share left for a credential, from 0 to 1; undefined where the upstream tells none. */
  left(credential: string | undefined): number | undefined;
  /**
   * Whether requests for manifests by this method, `GET` if left out, count, and less than `whenBudgetLow.below` is left for
   * the credential.
   */
  low(credential: string | undefined, method?: "GET" | "HEAD"): boolean;
  /** For doctor and explain. */
  status(): readonly QuotaStatus[];
  /**
   * Stops asking by itself, and takes back what has been reported; for an upstream that retires, or ends. The rest goes on.
   * Repeatable.
   */
  close(): void;
}

/** How a kind of registry limits requests: the part of its adapter that {@link Quotas} needs. */
export interface QuotaRules {
  /** What an answer tells of the limits that the registry counts requests under. */
  readRateLimit(headers: HeaderView, nowMs: number): RateLimit | undefined;
  /** Whether a 429 says that an allowance is spent, or that requests come too fast, whatever they ask for. */
  classify429(answer: { headers: HeaderView; bodyText: string; kind: UpstreamKind }): "quota" | "abuse";
  /** Whether such a request uses up the allowance that a `quota` 429 is about. */
  countsAgainstQuota(kind: UpstreamKind, method: "GET" | "HEAD"): boolean;
  /** A question that costs nothing and whose answer tells what is left; undefined where there is none. */
  readonly quotaProbe: object | undefined;
}

/** What the limits of all upstreams share; from the composition root. */
export interface QuotaContext {
  /** So that replicas see one quota as one. May be lost. */
  readonly shared: StateStore<readonly QuotaRecord[]>;
  readonly observer: QuotaObserver;
  /** The upstream's `whenBudgetLow.below` in force; asked each time, so that a reload counts at once. */
  lowBelow(upstream: string): BudgetThreshold;
}

/** What is reported of limits; telemetry/ implements it. */
export interface QuotaObserver {
  /** What is left for a credential's label (undefined: for anonymous requests); undefined takes back what was reported. */
  quota(upstream: string, credential: string | undefined, limit: RateLimit | undefined): void;
  /** An answer was 429. */
  rateLimited(upstream: string, credential: string | undefined, reason: "quota" | "abuse"): void;
}
