import type { Digest } from "../../oci/digest.ts";
import type { CredentialStatus } from "../../upstream/credentials/credential.ts";
import type { BreakerStatus } from "../../upstream/outlook.ts";
import type { QuotaStatus } from "../../upstream/rate-limit.ts";
import type { Visibility } from "../answers.ts";
import type { Prospect } from "../room.ts";
import type { Told } from "./decision-words.ts";
import type { NextPull } from "./next-pull.ts";

/** What Weir knows of one reference, and what it would do with it. Plain data; times are milliseconds since the epoch. */
export interface Explanation {
  readonly done: true;
  /** As a pull means it: `docker.io/library/nginx:1.27`. */
  readonly reference: string;
  /** The upstream is in the configuration, or allowed by `routing.dynamic`. */
  readonly known: boolean;
  readonly access: ExplainedAccess;
  /** Of a reference by tag. */
  readonly tag: ExplainedTag | undefined;
  /** What the reference leads to, as far as it is held or named. */
  readonly content: ExplainedContent | undefined;
  readonly upstream: ExplainedUpstream | undefined;
  readonly room: ExplainedRoom | undefined;
  /** For a client that has not signed in. */
  readonly next: NextPull;
  /** The same in words, a line each. */
  readonly words: readonly string[];
}

export interface ExplainedAccess {
  /** The key that denies it to everybody; undefined where none does. */
  readonly deniedBy: string | undefined;
  readonly visibility: Visibility | "unknown";
  /** When the upstream was last asked without a credential. */
  readonly visibilityAtMs: number | undefined;
  /** Of what is private: when the upstream last let Weir read it. */
  readonly provedAtMs: number | undefined;
  readonly proofTtlMs: number;
  /** The key that keeps it from clients that have not signed in; undefined where they get it. */
  readonly closedBy: string | undefined;
  /** The key that keeps the upstream from being asked on their behalf; undefined where it is asked. */
  readonly withheldBy: string | undefined;
}

export interface ExplainedTag {
  readonly tag: string;
  readonly digest: Digest | undefined;
  /** When the upstream last said so; 0 = never. */
  readonly checkedAtMs: number | undefined;
  readonly goneSinceMs: number | undefined;
  /** The upstream has named this since, and it is not held yet. */
  readonly named: Digest | undefined;
  readonly ttlMs: number;
  /** The rule's `match`, or `default`, and where it stands. */
  readonly rule: string;
  readonly ruleKey: string;
  /** The upstream's "there is no such thing", remembered for a moment. */
  readonly absent: string | undefined;
  /** Since when the upstream is being asked. */
  readonly askingSinceMs: number | undefined;
  readonly decision: Told;
}

export interface ExplainedContent {
  readonly digest: Digest;
  readonly kind: "manifest" | "blob";
  readonly held: boolean;
  /** The repository has it, and not only the storage. */
  readonly linked: boolean;
  readonly mediaType: string | undefined;
  readonly size: number | undefined;
  /** The upstream's "there is no such thing", remembered for a moment. */
  readonly absent: string | undefined;
  /** Of an index. */
  readonly platforms: readonly ExplainedPlatform[];
  /** Of a manifest; of a blob, itself. */
  readonly blobs: readonly ExplainedBlob[];
  /** More are there than are listed. */
  readonly more: boolean;
}

export interface ExplainedPlatform {
  /** `linux/amd64`; undefined where the index does not say. */
  readonly platform: string | undefined;
  readonly digest: Digest;
  readonly held: boolean;
  /** Where it is held. */
  readonly blobs: readonly ExplainedBlob[];
}

export interface ExplainedBlob {
  readonly digest: Digest;
  readonly size: number | undefined;
  readonly held: boolean;
  /** A download under way. */
  readonly fill: { readonly position: number; readonly size: number | undefined } | undefined;
}

export interface ExplainedUpstream {
  readonly name: string;
  /** In the order in which they are asked. */
  readonly endpoints: readonly ExplainedEndpoint[];
  /** Little is left of the quota, by `freshness.whenBudgetLow`. */
  readonly budgetLow: boolean;
}

export interface ExplainedEndpoint {
  readonly origin: string;
  /** The label of the one that would be used; undefined asks anonymously, or not at all. */
  readonly credential: string | undefined;
  readonly credentials: readonly CredentialStatus[];
  readonly quotas: readonly QuotaStatus[];
  readonly breakers: readonly BreakerStatus[];
  /** Why nothing would be sent now, in a sentence. */
  readonly refusal: string | undefined;
}

export interface ExplainedRoom extends Prospect {
  /** The one of `storage.pins`, or of the operator's pins, that keeps the reference. */
  readonly pin: string | undefined;
  /** Where that one stands; undefined without one. */
  readonly pinnedBy: "storage.pins" | "operator" | undefined;
}
