import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { Listings } from "./listings.ts";
import type { ProofFacts } from "./proof.ts";
import type { Standing } from "./standings.ts";

export interface ProofFactsDeps {
  readonly repositories: Pick<Repositories, "hasLayer" | "hasRevision" | "getBlobRecord">;
  readonly listings: Pick<Listings, "sizeOf">;
}

/** What the decision about a digest rests on, for a caller who was admitted to the repository before. */
export async function proofFacts(
  { repositories, listings }: ProofFactsDeps,
  { repo, standing }: { readonly repo: RepoRef; readonly standing: Standing },
  {
    digest,
    ...what
  }: {
    readonly digest: Digest;
    readonly as: "layer" | "revision";
    readonly held: boolean;
    readonly confirmed: boolean;
  },
  o: CallOptions,
): Promise<ProofFacts> {
  const { as, held, confirmed } = what;
  const isLinked = (): Promise<boolean> =>
    as === "layer" ? repositories.hasLayer(repo, digest, o) : repositories.hasRevision(repo, digest, o);
  const linked = held && (await isLinked());
  const hasToBeProved = held && !linked;
  return {
    visibility: standing.visibility,
    mayReadPrivate: true,
    held,
    linked,
    confirmed,
    listed: hasToBeProved && !confirmed && (await listings.sizeOf(repo, digest, o)) !== undefined,
    provenance: hasToBeProved ? await repositories.getBlobRecord(digest, o) : undefined,
    upstream: repo.upstream,
  };
}
