import type { UpstreamType } from "../../config/types.ts";
import type { QuotaRules } from "../quota.ts";
import type { UpstreamFault } from "../upstream.ts";

/** The few things in which one kind of registry differs from the others; data and pure functions. */
export interface Adapter extends QuotaRules {
  readonly type: UpstreamType;
  /** The repository's name as the registry itself has it. */
  normalise(repository: string): string;

  /** Hosts of token realms that this kind of registry is known to use. */
  readonly realms: readonly string[];
  /** Whether a token realm of the registry's own registrable domain is trusted as well. */
  readonly trustsSiblingRealms: boolean;
  /** The registry takes passwords as `Basic` and nothing else: they are sent before it has asked for them. */
  readonly basicOnly: boolean;
  /** The actions that a list of tags needs, where they are not those of a pull. */
  readonly tagActions: readonly string[] | undefined;
  /** What a refusal means, where it is not what it usually means; undefined leaves it at that. */
  readFault(refusal: Refusal): UpstreamFault | undefined;

  /**
   * How a blob is proved without being read: by a HEAD, whose redirect is as good as a 2xx, or, where a HEAD is refused or
   * redirected whatever it asks for, by a GET of the first byte.
   */
  readonly blobProof: "head" | "first-byte";
  /** The most tags that it gives on a page: more are not asked for, which some registries refuse. Undefined where it is not known. */
  readonly maxTags: number | undefined;
  /** A redirect in answer to a request for referrers leads to a page for people, so that it says that there is no such API. */
  readonly redirectsReferrersToPages: boolean;
  /** A HEAD of a manifest may take so long, though `timeouts.headers` is shorter; milliseconds. */
  readonly manifestHeadMs: number;

  /** A question that costs nothing and whose answer tells what is left; undefined where there is none. */
  readonly quotaProbe: QuotaProbe | undefined;
}

/** An answer that is no success, and neither 404 nor 429, as far as it decides anything. */
export interface Refusal {
  readonly status: number;
  /** From the registry, or from its token realm. */
  readonly from: "registry" | "realm";
  /** How the request was authorised: a realm is asked with `basic`, `token` (a refresh token) or `none`. */
  readonly scheme: "none" | "basic" | "bearer" | "token";
  /** The parameter `error` of a Bearer challenge. */
  readonly challengeError: string | undefined;
  /** The first code of the error envelope, and all its messages; answers to HEAD have none. */
  readonly code: string | undefined;
  readonly message: string;
}

export interface QuotaProbe {
  readonly method: "HEAD";
  readonly repository: string;
  /** A tag. */
  readonly reference: string;
}
