import type { CallOptions } from "../base/call.ts";
import { compileGlob } from "../base/glob.ts";
import type { CredentialConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import type { Reference } from "../oci/reference.ts";
import type { Referrer } from "../oci/referrers.ts";
import { blobSize, getBlob, headBlob } from "./blob-calls.ts";
import type { Breakers } from "./breakers.ts";
import type { CredentialPool, CredentialStatus } from "./credentials/credential.ts";
import { listReferrers, listTags } from "./listing-calls.ts";
import { getManifest, headManifest } from "./manifest-calls.ts";
import type { Outlook, Refusals } from "./outlook.ts";
import type { Quotas } from "./quota.ts";
import type { QuotaStatus } from "./rate-limit.ts";
import type { RegistryCalls } from "./registry-calls.ts";
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

export interface ClientDeps {
  readonly name: string;
  /** The registry's origin. */
  readonly origin: string;
  readonly breakers: Breakers;
  readonly calls: RegistryCalls;
  readonly credentials: CredentialPool;
  readonly quotas: Quotas;
  /** Those that are for this registry. */
  readonly configured: readonly CredentialConfig[];
  /** The registry knows Weir by a client certificate, whoever asks. */
  readonly certified: boolean;
  /** As {@link Upstream.retire}. */
  retire(): void;
  /** Ends every connection. */
  close(): Promise<void>;
}

/** The distribution client (distribution-spec, "Pull" and "Content Discovery") over one registry. */
export class DistributionClient implements Upstream {
  readonly name: string;
  readonly #deps: ClientDeps;
  readonly #labelsFor: (repository: string) => readonly string[];

  constructor(deps: ClientDeps) {
    this.name = deps.name;
    this.#deps = deps;
    this.#labelsFor = compileLabels(deps.configured);
  }

  hasCredential(repository: string): boolean {
    return this.#deps.certified || this.#deps.credentials.applies(repository);
  }

  headManifest(repository: string, reference: Reference, o: CallOptions): Promise<ManifestHead> {
    return headManifest(this.#deps.calls, repository, reference, o);
  }

  getManifest(repository: string, reference: Reference, o: ManifestGetOptions): Promise<ManifestBody | "not-modified"> {
    return getManifest(this.#deps.calls, repository, reference, o);
  }

  headBlob(repository: string, digest: Digest, o: CallOptions): Promise<BlobHead> {
    return headBlob(this.#deps.calls, repository, digest, o);
  }

  blobSize(repository: string, digest: Digest, o: CallOptions): Promise<number | undefined> {
    return blobSize(this.#deps.calls, repository, digest, o);
  }

  getBlob(repository: string, digest: Digest, o: BlobGetOptions): Promise<BlobBody> {
    return getBlob(this.#deps.calls, repository, digest, o);
  }

  listTags(repository: string, page: TagPageRequest, o: CallOptions): Promise<TagPage> {
    return listTags(this.#deps.calls, repository, page, o);
  }

  listReferrers(repository: string, digest: Digest, o: CallOptions): Promise<readonly Referrer[] | undefined> {
    return listReferrers(this.#deps.calls, repository, digest, o);
  }

  async isPublic(repository: string, reference: Reference, o: CallOptions): Promise<boolean> {
    if (this.#deps.certified) {
      // Nothing that it says is said to nobody in particular.
      return false;
    }
    try {
      await headManifest(this.#deps.calls, repository, reference, o, { credential: undefined });
      return true;
    } catch (error) {
      // A 404 says nothing: the reference may be absent from a public repository.
      if (error instanceof UpstreamError && error.fault === "denied") {
        return false;
      }
      throw error;
    }
  }

  budgetLow(repository: string, method?: "GET" | "HEAD"): boolean {
    const { quotas } = this.#deps;
    const labels = this.#labelsFor(repository);
    // The one with most left is used.
    return labels.length === 0 ? quotas.low(undefined, method) : labels.every((label) => quotas.low(label, method));
  }

  quotaStatus(): readonly QuotaStatus[] {
    return this.#deps.quotas.status();
  }

  credentialStatus(): readonly CredentialStatus[] {
    return this.#deps.credentials.status();
  }

  outlook(repository: string): Outlook {
    const { origin, breakers, credentials, quotas } = this.#deps;
    const { inOrder, refusal } = credentials.outlook(repository);
    const credential = inOrder.find(({ parkedUntilMs }) => parkedUntilMs === undefined)?.label;
    const labels: readonly (string | undefined)[] =
      inOrder.length === 0 ? [undefined] : inOrder.map(({ label }) => label);
    // In the order of RegistryCalls.
    const inTheWay = breakers.refusal(origin) ?? refusal;
    const refusals: Refusals = {
      head: inTheWay ?? quotas.refusal({ credential, kind: "manifest", method: "HEAD" }),
      get: inTheWay ?? quotas.refusal({ credential, kind: "manifest", method: "GET" }),
      blob: inTheWay ?? quotas.refusal({ credential, kind: "blob", method: "GET" }),
    };
    const endpoint = {
      origin,
      credential,
      credentials: inOrder,
      quotas: quotas.status().filter((quota) => labels.includes(quota.credential)),
      breakers: breakers.status(),
      refusals,
    };
    const low = { head: this.budgetLow(repository, "HEAD"), get: this.budgetLow(repository) };
    return { endpoints: [endpoint], refusals, low };
  }

  retire(): void {
    this.#deps.retire();
  }

  close(): Promise<void> {
    return this.#deps.close();
  }
}

/** Labels of the credentials that apply to a repository; none where it is asked for anonymously. */
function compileLabels(credentials: readonly CredentialConfig[]): (repository: string) => readonly string[] {
  const candidates = credentials.map(({ label, repositories }) => ({ label, globs: repositories?.map(compileGlob) }));
  return (repository) =>
    candidates
      .filter(({ globs }) => globs === undefined || globs.some((matches) => matches(repository)))
      .map(({ label }) => label);
}
