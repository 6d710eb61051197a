import type { BlobRecord } from "../storage/repositories.ts";

/** What is known when a caller asks a repository for a digest. */
export interface ProofFacts {
  readonly visibility: "public" | "private" | "unknown";
  /** Whether the caller may have what is private: `access.privateToAnonymous`, or an account. */
  readonly mayReadPrivate: boolean;
  /** Whether the bytes are in the store, or are being received. */
  readonly held: boolean;
  /** The repository has a link to the digest: it delivered the bytes, or was proved to have them before. */
  readonly linked: boolean;
  /** A held manifest of this repository lists the digest. */
  readonly listed: boolean;
  /** This repository's upstream has just confirmed the digest to the credential that Weir uses for it. */
  readonly confirmed: boolean;
  /** Where the held bytes came from; undefined = unknown. */
  readonly provenance: BlobRecord | undefined;
  /** The upstream of the repository that is asked. */
  readonly upstream: string;
}

/**
 * - `serve`: the held bytes are this repository's
 * - `confirm`: they are if its upstream says so
 * - `possess`: only bytes from its own upstream count
 * - `deny`: the caller may not read this repository
 */
export interface ProofDecision {
  readonly do: "serve" | "confirm" | "possess" | "deny";
}

/**
 * May this repository serve this digest to this caller (design, section 6)? The caller comes first, so that a denied one
 * learns nothing from the order of the rest. An upstream's word, be it a list or a confirmation, counts for bytes that are
 * public or that this very upstream delivered; for any others, among them those of unknown origin, an upstream under somebody
 * else's control could claim what it never had.
 */
export function decideProof(facts: ProofFacts): ProofDecision {
  if (facts.visibility !== "public" && !facts.mayReadPrivate) {
    return { do: "deny" };
  }
  if (!facts.held) {
    return { do: "possess" };
  }
  if (facts.linked) {
    return { do: "serve" };
  }
  if (!wordCounts(facts.provenance, facts.upstream)) {
    return { do: "possess" };
  }
  return { do: facts.listed || facts.confirmed ? "serve" : "confirm" };
}

function wordCounts(provenance: BlobRecord | undefined, upstream: string): boolean {
  return provenance !== undefined && (provenance.public || provenance.upstreams.includes(upstream));
}
