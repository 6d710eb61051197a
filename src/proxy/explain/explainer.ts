import type { ContentRules } from "../../access/content-rules.ts";
import type { Identity } from "../../access/identity.ts";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Ttl } from "../../config/freshness-match.ts";
import type { FreshnessConfig } from "../../config/types.ts";
import type { Digest } from "../../oci/digest.ts";
import { formatReference, formatRepo, type Reference, type RepoRef } from "../../oci/reference.ts";
import type { BlobStore } from "../../storage/blob-store.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { Outlook } from "../../upstream/outlook.ts";
import type { Upstream } from "../../upstream/upstream.ts";
import type { AccessGate, AccessOutlook } from "../access-gate.ts";
import type { Fills } from "../fills.ts";
import { decideFreshness, type FreshnessFacts } from "../freshness.ts";
import { Listings } from "../listings.ts";
import { type NamedPin, pinning } from "../operator-pins.ts";
import { decideProof, type ProofFacts } from "../proof.ts";
import { proofFacts } from "../proof-facts.ts";
import { contentFacts } from "../proofs.ts";
import { fillDomain } from "../provenance.ts";
import type { Memory } from "../remembered.ts";
import type { Room } from "../room.ts";
import type { KnownStanding, Standings } from "../standings.ts";
import { type Knowledge, latestOf, lookAtTag, tagFacts } from "../tag-knowledge.ts";
import { parseSelection, type UpstreamNames } from "../upkeep/selection.ts";
import { UpkeepError } from "../upkeep/upkeep.ts";
import { told } from "./decision-words.ts";
import type {
  ExplainedAccess,
  ExplainedContent,
  ExplainedEndpoint,
  ExplainedRoom,
  ExplainedTag,
  Explanation,
} from "./explanation.ts";
import { blobOf, type HeldContentDeps, partsOf } from "./held-content.ts";
import { nextPull } from "./next-pull.ts";
import { quietManifests } from "./quiet-manifests.ts";
import { explanationWords } from "./words.ts";

export interface ExplainerDeps {
  readonly upstreams: { get(name: string): Upstream | undefined };
  /** What is below the room: looking must not make anything look used. */
  readonly store: Pick<BlobStore, "open" | "stat">;
  readonly repositories: Repositories;
  readonly standings: Pick<Standings, "known">;
  readonly access: Pick<AccessGate, "outlook">;
  readonly memory: Pick<Memory, "head" | "absence">;
  /** Since when a tag is being asked for; milliseconds since the epoch. */
  askedSince(repo: RepoRef, tag: string): number | undefined;
  readonly fills: Pick<Fills, "get">;
  readonly room: Pick<Room, "prospect">;
  /** Those of `storage.pins` and the operator's. */
  pins(o: CallOptions): Promise<readonly NamedPin[]>;
  freshnessOf(upstream: string): FreshnessConfig;
  ttlOf(repo: RepoRef, tag: string): Ttl;
  rulesOf(upstream: string): ContentRules;
  names(): UpstreamNames;
  readonly clock: Clock;
}

/** Whoever has not signed in: what such a client gets, everybody gets. */
const ANYBODY: Identity = { account: undefined, groups: [], via: "anonymous", address: undefined, grants: undefined };

interface Subject {
  readonly repo: RepoRef;
  readonly reference: Reference;
  readonly upstream: Upstream | undefined;
  readonly standing: KnownStanding;
  readonly outlook: Outlook | undefined;
}

/** Says what is known of a reference and what would become of a pull. Asks no upstream, and changes nothing. */
export class Explainer {
  readonly #deps: ExplainerDeps;

  constructor(deps: ExplainerDeps) {
    this.#deps = deps;
  }

  /** @throws UpkeepError for what is no image by tag or digest */
  async explain(text: string, o: CallOptions): Promise<Explanation> {
    const { repo, reference } = this.#read(text);
    const upstream = this.#deps.upstreams.get(repo.upstream);
    const standing = await this.#deps.standings.known(repo, upstream ?? NO_CREDENTIAL, o);
    const outlook = upstream?.outlook(repo.repository);
    const subject: Subject = { repo, reference, upstream, standing, outlook };
    const knowledge = reference.kind === "tag" ? await this.#look(repo, reference.tag, o) : undefined;
    const digest = reference.kind === "digest" ? reference.digest : knowledge && latestOf(knowledge)?.digest;
    const content = digest && (await this.#content(subject, digest, o));
    const anybody = this.#deps.access.outlook(ANYBODY, repo, reference);
    const access = this.#access(subject, anybody, content);
    const nowMs = this.#deps.clock.now();
    const facts = (asked: FreshnessFacts["asked"]): FreshnessFacts =>
      knowledge !== undefined && reference.kind === "tag"
        ? this.#tagFacts(subject, reference.tag, knowledge, asked)
        : contentFacts(standing.standing, asked, this.#deps.freshnessOf(repo.upstream), nowMs);
    const tag = knowledge && this.#tag(subject, knowledge, facts("not-yet"));
    const explained = {
      done: true,
      reference: `${formatRepo(repo)}${reference.kind === "tag" ? ":" : "@"}${formatReference(reference)}`,
      known: upstream !== undefined,
      access,
      tag,
      content,
      upstream: outlook && {
        name: repo.upstream,
        endpoints: outlook.endpoints.map(plainEndpoint),
        budgetLow: outlook.low.get,
      },
      room: await this.#room(subject, content, o),
      next: nextPull({
        upstream: repo.upstream,
        known: upstream !== undefined,
        deniedBy: access.deniedBy,
        ruledOutBy: anybody.deniedBy,
        privateKey: anybody.privateKey,
        withheldBy: anybody.withheldBy,
        proof: await this.#proof(subject, anybody, content, o),
        facts,
        isHeld:
          knowledge === undefined ? content?.held === true : knowledge.held !== undefined && tag?.named === undefined,
        byHead: knowledge?.held !== undefined || knowledge?.head !== undefined,
        refusals: refusalsOf(outlook, content),
        absence: tag?.absent ?? content?.absent,
        underWay:
          tag?.askingSinceMs !== undefined || (content?.kind === "blob" && content.blobs[0]?.fill !== undefined),
      }),
    } as const;
    return { ...explained, words: explanationWords(explained, nowMs) };
  }

  #read(text: string): { readonly repo: RepoRef; readonly reference: Reference } {
    const selection = parseSelection(text, this.#deps.names());
    switch (selection.kind) {
      case "tag":
        return { repo: selection.repo, reference: { kind: "tag", tag: selection.tag } };
      case "digest":
        return { repo: selection.repo, reference: { kind: "digest", digest: selection.digest } };
      case "repository":
        throw new UpkeepError(`name a tag or a digest as well, such as ${formatRepo(selection.repo)}:latest`);
      case "pattern":
        throw new UpkeepError("a glob cannot be explained: name one image, such as docker.io/library/nginx:1.27");
    }
  }

  async #look(repo: RepoRef, tag: string, o: CallOptions): Promise<Knowledge> {
    return await lookAtTag({ ...this.#deps, manifests: this.#manifests() }, repo, tag, o);
  }

  #manifests(): ReturnType<typeof quietManifests> {
    return quietManifests(this.#deps.store, this.#deps.repositories);
  }

  #tagFacts(
    { repo, upstream, standing: { standing } }: Subject,
    tag: string,
    known: Knowledge,
    asked: FreshnessFacts["asked"],
  ): FreshnessFacts {
    const { freshnessOf, ttlOf, clock } = this.#deps;
    const ttlMs = (...of: Parameters<typeof ttlOf>): number => ttlOf(...of).ttlMs;
    const target = { repo, upstream: upstream ?? NO_BUDGET, standing };
    return tagFacts({ freshnessOf, ttlMs, clock }, target, tag, known, asked);
  }

  #tag({ repo, reference }: Subject, knowledge: Knowledge, facts: FreshnessFacts): ExplainedTag | undefined {
    if (reference.kind !== "tag") {
      return undefined;
    }
    const { tag } = reference;
    const { ttlMs, rule, key } = this.#deps.ttlOf(repo, tag);
    const { entry, absence } = knowledge;
    const latest = latestOf(knowledge);
    return {
      tag,
      digest: latest?.digest,
      checkedAtMs: latest?.checkedAtMs,
      goneSinceMs: latest?.goneSinceMs,
      named: latest !== undefined && latest !== entry ? latest.digest : undefined,
      ttlMs,
      rule,
      ruleKey: key,
      absent: absence?.message,
      askingSinceMs: this.#deps.askedSince(repo, tag),
      decision: told(decideFreshness(facts), facts),
    };
  }

  async #content(subject: Subject, digest: Digest, o: CallOptions): Promise<ExplainedContent> {
    const { repositories, memory, store } = this.#deps;
    const { repo, reference } = subject;
    const manifests = this.#manifests();
    const isRevision = await repositories.hasRevision(repo, digest, o);
    const isLayer = !isRevision && (await repositories.hasLayer(repo, digest, o));
    const record = isLayer ? undefined : await repositories.getManifestRecord(digest, o);
    const parts: HeldContentDeps = { store, manifests, fillOf: (blob) => this.#fillOf(subject, blob) };
    const blob = await blobOf(parts, digest, undefined, o);
    const isBlob = isLayer || blob.held || blob.fill !== undefined;
    // What nothing is known of is taken for an image.
    if (isBlob && reference.kind === "digest" && !isRevision && record === undefined) {
      const absent = (await memory.absence("blob", repo, digest)) ?? (await memory.absence("manifest", repo, digest));
      return {
        digest,
        kind: "blob",
        held: blob.held,
        linked: isLayer,
        mediaType: undefined,
        size: blob.size,
        absent: absent?.message,
        platforms: [],
        blobs: [blob],
        more: false,
      };
    }
    const manifest = await manifests.read(digest, o);
    const absent = await memory.absence("manifest", repo, digest);
    return {
      digest,
      kind: "manifest",
      held: manifest !== undefined,
      linked: isRevision,
      mediaType: manifest?.mediaType ?? record?.mediaType,
      size: manifest?.bytes.length ?? record?.size,
      absent: absent?.message,
      ...(manifest === undefined ? { platforms: [], blobs: [], more: false } : await partsOf(parts, manifest, o)),
    };
  }

  #fillOf({ repo, standing }: Subject, digest: Digest): { position: number; size: number | undefined } | undefined {
    const fill = this.#deps.fills.get(fillDomain(standing.standing.visibility, repo.upstream), digest);
    return fill && { position: fill.position, size: fill.size };
  }

  #access(
    { repo, reference, standing }: Subject,
    anybody: AccessOutlook,
    content: ExplainedContent | undefined,
  ): ExplainedAccess {
    const rules = this.#deps.rulesOf(repo.upstream);
    const isBlob = reference.kind === "digest" && content?.kind === "blob";
    const deniedBy =
      (isBlob ? undefined : rules.manifest(repo.repository, reference)) ??
      (content === undefined ? undefined : rules.content(repo.repository, content.digest));
    const { visibility, provedAtMs } = standing.standing;
    const isKnown = standing.stands || standing.recorded;
    const proof = decideProof({ ...admissionFacts(anybody), visibility, upstream: repo.upstream });
    return {
      deniedBy,
      visibility: isKnown ? visibility : "unknown",
      visibilityAtMs: standing.atMs,
      provedAtMs: visibility === "private" && provedAtMs !== 0 ? provedAtMs : undefined,
      proofTtlMs: this.#deps.freshnessOf(repo.upstream).proofTtlMs,
      closedBy: anybody.deniedBy ?? (isKnown && proof.do === "deny" ? anybody.privateKey : undefined),
      withheldBy: anybody.withheldBy,
    };
  }

  async #proof(
    { repo, standing }: Subject,
    anybody: AccessOutlook,
    content: ExplainedContent | undefined,
    o: CallOptions,
  ): Promise<ProofFacts | undefined> {
    if (!standing.stands) {
      return undefined;
    }
    const { visibility } = standing.standing;
    const admission = { ...admissionFacts(anybody), visibility, upstream: repo.upstream };
    if (content === undefined) {
      return admission;
    }
    const { repositories } = this.#deps;
    const facts = await proofFacts(
      { repositories, listings: new Listings(repositories, this.#manifests()) },
      { repo, standing: standing.standing },
      {
        digest: content.digest,
        as: content.kind === "blob" ? "layer" : "revision",
        held: content.held,
        confirmed: false,
      },
      o,
    );
    return { ...facts, mayReadPrivate: admission.mayReadPrivate };
  }

  async #room(
    { repo, reference }: Subject,
    content: ExplainedContent | undefined,
    o: CallOptions,
  ): Promise<ExplainedRoom | undefined> {
    const blobs = content === undefined ? [] : [content, ...content.platforms, ...allBlobs(content)];
    const digests = [...new Set(blobs.filter(({ held }) => held).map(({ digest }) => digest))];
    const prospect = digests.length === 0 ? undefined : await this.#deps.room.prospect(digests, o);
    if (prospect === undefined) return undefined;
    const tag = reference.kind === "tag" ? reference.tag : undefined;
    const pin = pinning(await this.#deps.pins(o), repo, { tag, digest: content?.digest });
    return { ...prospect, pin: pin?.text, pinnedBy: pin?.from };
  }
}

const NO_CREDENTIAL: Pick<Upstream, "hasCredential"> = { hasCredential: () => false };
const NO_BUDGET: Pick<Upstream, "budgetLow"> = { budgetLow: () => false };

/** As the admission of a caller has it, before anything else of the repository counts. */
function admissionFacts({ readsPrivate }: AccessOutlook): Omit<ProofFacts, "upstream" | "visibility"> {
  return {
    mayReadPrivate: readsPrivate,
    held: false,
    linked: false,
    listed: false,
    confirmed: false,
    provenance: undefined,
  };
}

/** Every blob that is listed, of all platforms. */
function allBlobs(content: ExplainedContent): ExplainedContent["blobs"] {
  return [...content.platforms.flatMap(({ blobs }) => blobs), ...content.blobs];
}

function refusalsOf(outlook: Outlook | undefined, content: ExplainedContent | undefined) {
  const { head, get, blob } = outlook?.refusals ?? { head: undefined, get: undefined, blob: undefined };
  return content?.kind === "blob" ? { head: blob, get: blob } : { head, get };
}

function plainEndpoint({ refusals, ...endpoint }: Outlook["endpoints"][number]): ExplainedEndpoint {
  return { ...endpoint, refusal: (refusals.get ?? refusals.head ?? refusals.blob)?.message };
}
