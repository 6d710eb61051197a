import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { waitFor } from "../base/wait-for.ts";
import type { FreshnessConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { UpstreamError } from "../upstream/upstream.ts";
import type { CacheInfo } from "./answers.ts";
import type { Background } from "./background.ts";
import { decideFreshness, type FreshnessDecision, type FreshnessFacts } from "./freshness.ts";
import type { Memory } from "./remembered.ts";
import type { Stale } from "./stale.ts";
import type { Standing } from "./standings.ts";

export interface ProofsDeps {
  readonly memory: Memory;
  readonly background: Background;
  readonly stale: Stale;
  freshnessOf(upstream: string): FreshnessConfig;
  readonly clock: Clock;
}

/** Keeps the permission to read private repositories current: content by digest never goes stale, the right to it does. */
export class Proofs {
  readonly #deps: ProofsDeps;
  readonly #asking = new SingleFlight<void>();

  constructor(deps: ProofsDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves when held content of the repository may be served, after asking with `confirm` where the last proof is older
   * than `proofTtl`. Rejects with the upstream's fault where it may not.
   */
  async current(
    { repo, standing }: { readonly repo: RepoRef; readonly standing: Standing },
    { asked, digest }: { readonly asked: "manifest" | "blob"; readonly digest: Digest },
    confirm: (o: CallOptions) => Promise<void>,
    call: CallOptions,
  ): Promise<CacheInfo> {
    const { memory, background, stale, freshnessOf } = this.#deps;
    if (this.#decide(repo, standing, "not-yet").do === "fresh") {
      return { outcome: "hit" };
    }
    const absence = await memory.absence(asked, repo, digest);
    if (absence !== undefined) {
      throw absence;
    }
    const what = `${formatRepo(repo)}@${digest}`;
    const asking = background.own((signal) =>
      this.#asking.run(`${asked} ${what}`, { signal }, (shared) => confirm({ ...call, signal: shared })),
    );
    try {
      await waitFor(asking, call.signal);
      return { outcome: "revalidated" };
    } catch (error) {
      if (!(error instanceof UpstreamError)) {
        throw error;
      }
      const decision = this.#decide(repo, standing, error.fault);
      if (decision.do === "stale") {
        return stale.answer(repo.upstream, decision.reason, { what, checkedAtMs: standing.provedAtMs, error });
      }
      await memory.rememberAbsence(asked, repo, digest, error, freshnessOf(repo.upstream).negativeMs);
      throw error;
    }
  }

  #decide(repo: RepoRef, standing: Standing, asked: FreshnessFacts["asked"]): FreshnessDecision {
    return decideFreshness(
      contentFacts(standing, asked, this.#deps.freshnessOf(repo.upstream), this.#deps.clock.now()),
    );
  }
}

/** What the decision about content by digest rests on: it is what it is for ever, and only the right to it ages. */
export function contentFacts(
  standing: Standing,
  asked: FreshnessFacts["asked"],
  config: FreshnessConfig,
  nowMs: number,
): FreshnessFacts {
  return {
    known: { checkedAtMs: nowMs, goneSinceMs: undefined },
    ttlMs: Number.POSITIVE_INFINITY,
    ...standing,
    absenceRemembered: false,
    asked,
    config,
    nowMs,
  };
}
