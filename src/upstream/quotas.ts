import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { BudgetThreshold } from "../config/types.ts";
import { parseErrorBody } from "./error-body.ts";
import type { QuotaAnswer, QuotaContext, QuotaRules, QuotaSubject, Quotas } from "./quota.ts";
import { Backoff } from "./quota-backoff.ts";
import { QuotaBook } from "./quota-book.ts";
import { PROBE_PAUSE_MS, QuotaProbes } from "./quota-probes.ts";
import { QuotaView } from "./quota-view.ts";
import type { QuotaStatus, RateLimit } from "./rate-limit.ts";
import { retryAfterOf } from "./retry-after.ts";
import { UpstreamError } from "./upstream.ts";

/** How far apart those come back whom a limit on all requests has kept waiting, such as the blobs of a whole pull. */
const SPREAD_MS = 1_000;

export interface QuotasDeps {
  /** The upstream's name. */
  readonly upstream: string;
  /** The origin that is asked: replicas share what they know of the same. */
  readonly registry: string;
  readonly rules: QuotaRules;
  /** The labels of all credentials: the schedule asks for each. */
  readonly credentials: readonly string[];
  /** `upstreams.<name>.quotaProbe`; undefined asks by no schedule. */
  readonly probeEveryMs: number | undefined;
  /** Sends `rules.quotaProbe` on behalf of a credential; its answer comes in by {@link Quotas.observe}. */
  probe(credential: string | undefined, o: CallOptions): Promise<unknown>;
  readonly context: QuotaContext;
  readonly clock: Clock;
  /** From 0 to 1. */
  random(): number;
  readonly log: Log;
}

/** Makes no request before the first {@link Quotas.check}. */
export function createQuotas(deps: QuotasDeps): Quotas {
  return new UpstreamQuotas(deps);
}

class UpstreamQuotas implements Quotas {
  readonly #deps: QuotasDeps;
  readonly #book: QuotaBook;
  readonly #backoff: Backoff;
  readonly #probes: QuotaProbes;
  readonly #view: QuotaView;
  /** Whose gauges stand. */
  readonly #reported = new Set<string | undefined>();
  #closed = false;

  constructor(deps: QuotasDeps) {
    const { rules, clock, context, upstream, registry } = deps;
    const random = (): number => deps.random();
    this.#deps = deps;
    this.#book = new QuotaBook({
      clock,
      canProbe: rules.quotaProbe !== undefined,
      countsAgainstQuota: (kind, method) => rules.countsAgainstQuota(kind, method),
    });
    this.#backoff = new Backoff({ clock, random });
    this.#probes = new QuotaProbes({
      everyMs: rules.quotaProbe === undefined ? undefined : deps.probeEveryMs,
      credentials: deps.credentials,
      isSpent: (credential) => this.#book.closed(credential) !== undefined,
      ask: (credential, o) => this.#probe(credential, o),
      clock,
      random,
    });
    this.#view = new QuotaView({ book: this.#book, shared: context.shared, name: `${upstream} ${registry}`, clock });
  }

  check(subject: QuotaSubject): void {
    const { credential, kind, method } = subject;
    this.#view.refresh(credential);
    this.#probes.used(credential);
    const refusal = this.refusal(subject);
    if (refusal === undefined) return;
    const isSpent = this.#book.closing(credential, kind, method) !== undefined;
    if (isSpent && this.#deps.rules.quotaProbe !== undefined) this.#probes.wanted(credential);
    throw refusal;
  }

  refusal({ credential, kind, method }: QuotaSubject): UpstreamError | undefined {
    const closing = this.#book.closing(credential, kind, method);
    if (closing !== undefined) {
      return this.#refusal(`the pull quota ${ofWhom(credential)} is spent`, credential, closing);
    }
    const { untilMs } = this.#backoff;
    if (untilMs === undefined) return undefined;
    const spreadMs = Math.round(this.#deps.random() * SPREAD_MS);
    const why = "it refuses everything for now (429), as there were too many requests";
    return this.#refusal(why, credential, { untilMs: untilMs + spreadMs, exact: true });
  }

  observe(subject: QuotaSubject, answer: QuotaAnswer): void {
    const { rules, clock } = this.#deps;
    const { credential, kind, method } = subject;
    const limit = rules.readRateLimit(answer.headers, clock.now());
    const place = answer.realm ? "realm" : kind;
    const free = !rules.countsAgainstQuota(kind, method);
    if (answer.status === 429) {
      this.#refused(subject, answer, { limit, place, free });
    } else {
      this.#backoff.answered();
      const wasClosed = this.#book.closed(credential) !== undefined;
      if (limit !== undefined) this.#book.told(credential, { limit, place, free });
      else if (answer.status === 200) this.#book.silent(credential, { place, free });
      else return;
      if (wasClosed && this.#book.closed(credential) === undefined) {
        this.#deps.log.info({ upstream: this.#deps.upstream, credential }, "upstream has quota again");
      }
    }
    this.#view.publish(credential);
    this.#report(credential);
  }

  left(credential: string | undefined): number | undefined {
    return this.#book.left(credential);
  }

  low(credential: string | undefined, method: "GET" | "HEAD" = "GET"): boolean {
    const { rules, context, upstream } = this.#deps;
    if (!rules.countsAgainstQuota("manifest", method)) return false;
    if (this.#book.closed(credential) !== undefined) return true;
    const limit = this.#book.limit(credential);
    return limit !== undefined && isBelow(limit, context.lowBelow(upstream));
  }

  status(): readonly QuotaStatus[] {
    return this.#book.status();
  }

  close(): void {
    this.#closed = true;
    this.#probes.stop();
    const { observer } = this.#deps.context;
    for (const credential of this.#reported) observer.quota(this.#deps.upstream, credential, undefined);
    this.#reported.clear();
  }

  #refused(
    { credential, kind }: QuotaSubject,
    { headers, bodyText }: QuotaAnswer,
    told: {
      readonly limit: RateLimit | undefined;
      readonly place: "realm" | QuotaSubject["kind"];
      readonly free: boolean;
    },
  ): void {
    const { rules, context, clock, log, upstream } = this.#deps;
    const reason = rules.classify429({ headers, bodyText: bodyText ?? "", kind });
    const { message } = parseErrorBody(Buffer.from(bodyText ?? ""));
    const askedMs = retryAfterOf(headers, message, clock.now());
    if (!this.#closed) context.observer.rateLimited(upstream, credential, reason);
    if (reason === "abuse") {
      if (this.#backoff.refused(askedMs)) {
        log.warn(
          { upstream, credential, until: iso(this.#backoff.untilMs) },
          "upstream limits all requests: backing off",
        );
      }
      return;
    }
    const wasClosed = this.#book.closed(credential) !== undefined;
    this.#book.spent(credential, { askedMs, ...told });
    this.#probes.foundSpent(credential);
    if (!wasClosed) {
      const until = iso(this.#book.closed(credential)?.untilMs);
      log.warn({ upstream, credential, until }, "upstream quota is spent: what counts is not asked for");
    }
  }

  #refusal(
    why: string,
    credential: string | undefined,
    { untilMs, exact }: { readonly untilMs: number; readonly exact: boolean },
  ): UpstreamError {
    const { upstream, clock } = this.#deps;
    const leftMs = untilMs - clock.now();
    return new UpstreamError(upstream, "quota", `${upstream}: ${why}; it is not asked before ${iso(untilMs)}`, {
      // Where the end is only worked out, a free question may find it sooner.
      retryAfterMs: exact ? leftMs : Math.min(leftMs, PROBE_PAUSE_MS),
      ...(credential === undefined ? {} : { credential }),
    });
  }

  async #probe(credential: string | undefined, o: CallOptions): Promise<void> {
    const { probe, log, upstream } = this.#deps;
    try {
      await probe(credential, o);
    } catch (error) {
      if (!o.signal.aborted) log.debug({ err: error, upstream, credential }, "asking what is left of a quota failed");
    }
  }

  #report(credential: string | undefined): void {
    if (this.#closed) return;
    const limit = this.#book.limit(credential);
    if (limit !== undefined) this.#reported.add(credential);
    else if (!this.#reported.delete(credential)) return;
    this.#deps.context.observer.quota(this.#deps.upstream, credential, limit);
  }
}

function isBelow(limit: RateLimit, below: BudgetThreshold): boolean {
  return limit.remaining < ("share" in below ? below.share * limit.limit : below.requests);
}

function ofWhom(credential: string | undefined): string {
  return credential === undefined ? "of anonymous requests" : `of credential ${JSON.stringify(credential)}`;
}

function iso(ms: number | undefined): string {
  return new Date(ms ?? 0).toISOString();
}
