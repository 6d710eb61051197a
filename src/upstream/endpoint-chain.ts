import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Digest } from "../oci/digest.ts";
import type { Reference } from "../oci/reference.ts";
import type { Referrer } from "../oci/referrers.ts";
import type { CredentialStatus } from "./credentials/credential.ts";
import type { Outlook, Refusals } from "./outlook.ts";
import type { QuotaStatus } from "./rate-limit.ts";
import { withRetries } from "./retry.ts";
import {
  type BlobBody,
  type BlobGetOptions,
  type BlobHead,
  type ManifestBody,
  type ManifestGetOptions,
  type ManifestHead,
  type TagPage,
  type TagPageRequest,
  type Upstream,
  UpstreamError,
} from "./upstream.ts";

export interface EndpointChainDeps {
  /** The upstream's endpoints in the order in which they are tried, none of which asks twice by itself; owned from now on. */
  readonly first: Upstream;
  readonly others: readonly Upstream[];
  readonly clock: Clock;
  random(): number;
}

/**
 * Several ways to one upstream. Each question goes to the first; where that is in trouble, to the next at once, and so on.
 * The first is asked again by itself: while it is down its breaker answers for it, and closes when it is back.
 */
export class EndpointChain implements Upstream {
  readonly name: string;
  readonly #deps: EndpointChainDeps;

  constructor(deps: EndpointChainDeps) {
    this.name = deps.first.name;
    this.#deps = deps;
  }

  hasCredential(repository: string): boolean {
    return this.#all.some((endpoint) => endpoint.hasCredential(repository));
  }

  headManifest(repository: string, reference: Reference, o: CallOptions): Promise<ManifestHead> {
    return this.#ask(o, (endpoint) => endpoint.headManifest(repository, reference, o));
  }

  getManifest(repository: string, reference: Reference, o: ManifestGetOptions): Promise<ManifestBody | "not-modified"> {
    return this.#ask(o, (endpoint) => endpoint.getManifest(repository, reference, o));
  }

  headBlob(repository: string, digest: Digest, o: CallOptions): Promise<BlobHead> {
    return this.#ask(o, (endpoint) => endpoint.headBlob(repository, digest, o));
  }

  blobSize(repository: string, digest: Digest, o: CallOptions): Promise<number | undefined> {
    return this.#ask(o, (endpoint) => endpoint.blobSize(repository, digest, o));
  }

  getBlob(repository: string, digest: Digest, o: BlobGetOptions): Promise<BlobBody> {
    return this.#askOnce(o, (endpoint) => endpoint.getBlob(repository, digest, o));
  }

  listTags(repository: string, page: TagPageRequest, o: CallOptions): Promise<TagPage> {
    return this.#ask(o, (endpoint) => endpoint.listTags(repository, page, o));
  }

  listReferrers(repository: string, digest: Digest, o: CallOptions): Promise<readonly Referrer[] | undefined> {
    const { first } = this.#deps;
    return this.#ask(o, async (endpoint) => {
      const referrers = await endpoint.listReferrers(repository, digest, o);
      if (endpoint !== first && (referrers === undefined || referrers.length === 0)) {
        // It may not have the very signature that is looked for.
        throw new UpstreamError(this.name, "absent", `${this.name}: another endpoint has no referrers of ${digest}`);
      }
      return referrers;
    });
  }

  /** The first alone knows: an open copy elsewhere makes nothing public. */
  isPublic(repository: string, reference: Reference, o: CallOptions): Promise<boolean> {
    return this.#deps.first.isPublic(repository, reference, o);
  }

  budgetLow(repository: string, method?: "GET" | "HEAD"): boolean {
    return this.#deps.first.budgetLow(repository, method);
  }

  quotaStatus(): readonly QuotaStatus[] {
    return this.#all.flatMap((endpoint) => endpoint.quotaStatus());
  }

  credentialStatus(): readonly CredentialStatus[] {
    return this.#all.flatMap((endpoint) => endpoint.credentialStatus());
  }

  outlook(repository: string): Outlook {
    const [first, ...others] = this.#all.map((endpoint) => endpoint.outlook(repository));
    if (first === undefined) {
      throw new RangeError(`${this.name} has no endpoint`);
    }
    // As #askOnce does: the others are asked where the first is in trouble, and its word stands where none of them can be.
    const together = (of: (refusals: Refusals) => UpstreamError | undefined): UpstreamError | undefined => {
      const refusal = of(first.refusals);
      const helps = refusal?.trouble === true && others.some(({ refusals }) => of(refusals) === undefined);
      return helps ? undefined : refusal;
    };
    return {
      endpoints: [first, ...others].flatMap(({ endpoints }) => endpoints),
      refusals: {
        head: together(({ head }) => head),
        get: together(({ get }) => get),
        blob: together(({ blob }) => blob),
      },
      low: first.low,
    };
  }

  retire(): void {
    for (const endpoint of this.#all) {
      endpoint.retire();
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((endpoint) => endpoint.close()));
  }

  get #all(): readonly Upstream[] {
    return [this.#deps.first, ...this.#deps.others];
  }

  #ask<T>(o: CallOptions, question: (endpoint: Upstream) => Promise<T>): Promise<T> {
    return withRetries(this.#deps, o.signal, () => this.#askOnce(o, question));
  }

  /**
   * A clear word of the first stands. The others need not have everything, nor may they: only what one of them delivers
   * counts, and where none does, it is the first's trouble that is told.
   */
  async #askOnce<T>(o: CallOptions, question: (endpoint: Upstream) => Promise<T>): Promise<T> {
    let trouble: UpstreamError;
    try {
      return await question(this.#deps.first);
    } catch (error) {
      if (!(error instanceof UpstreamError && error.trouble)) {
        throw error;
      }
      trouble = error;
    }
    for (const endpoint of this.#deps.others) {
      try {
        return await question(endpoint);
      } catch (error) {
        o.signal.throwIfAborted();
        if (!(error instanceof UpstreamError)) {
          throw error;
        }
      }
    }
    throw trouble;
  }
}
