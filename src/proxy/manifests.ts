import type { CallOptions } from "../base/call.ts";
import { OciError } from "../oci/errors.ts";
import { parseManifest, platformChild } from "../oci/manifest.ts";
import { acceptsType, DOCKER_MANIFEST, isIndex, OCI_MANIFEST } from "../oci/media-types.ts";
import { formatReference, formatRepo } from "../oci/reference.ts";
import type { Upstream } from "../upstream/upstream.ts";
import type { Admitted } from "./access-gate.ts";
import type { ManifestAnswer, ManifestCall } from "./answers.ts";
import type { FreshnessFacts } from "./freshness.ts";
import type { FoundManifest, ManifestsByDigest, Target } from "./manifests-by-digest.ts";
import type { ManifestsByTag } from "./manifests-by-tag.ts";
import type { Basis } from "./ready.ts";
import type { Standings } from "./standings.ts";

export interface ManifestsDeps {
  readonly standings: Standings;
  readonly byDigest: ManifestsByDigest;
  readonly byTag: ManifestsByTag;
}

export interface AnsweredManifest {
  readonly answer: ManifestAnswer;
  /** What it rested on; undefined for what is not to be answered again without another look. */
  readonly basis: Basis | undefined;
}

/** What clients that cannot read an index are given of it (upstreams.md, section 15). */
const CHILD_PLATFORM = { os: "linux", architecture: "amd64" };

/** The manifest requests of clients: admission, the reference, and what their `Accept` lets through. */
export class Manifests {
  readonly #deps: ManifestsDeps;

  constructor(deps: ManifestsDeps) {
    this.#deps = deps;
  }

  async answer(upstream: Upstream, call: ManifestCall & Admitted): Promise<AnsweredManifest> {
    const { repo, reference, head, accept } = call;
    const standing = await this.#deps.standings.admit(repo, upstream, async () => reference, call);
    const target: Target = { repo, upstream, standing };
    // Only what is looked up by name may be of another type than the client wants; by digest there is no choice.
    if (reference.kind === "digest") {
      const found = counted(await this.#deps.byDigest.findFor(target, reference.digest, call), call);
      return { answer: answerWith(target, found), basis: basisOf(target, found, undefined) };
    }
    if (head) {
      const { description, manifest, cache, facts } = await this.#deps.byTag.find(
        target,
        reference.tag,
        "description",
        call,
      );
      if (acceptsType(accept, description.mediaType)) {
        const answer = { ...pick(description), bytes: undefined, visibility: standing.visibility, cache };
        return { answer, basis: manifest && facts && basisOf(target, { manifest }, facts) };
      }
    }
    const found = await this.#deps.byTag.find(target, reference.tag, "manifest", call);
    if (found.manifest === undefined) {
      throw new Error(`asking for ${formatRepo(repo)}:${reference.tag} gave no manifest`);
    }
    // Before anything of it is refused: it has been fetched, and is held from now on.
    const whole = counted({ ...found, manifest: found.manifest }, call);
    const acceptable = await this.#acceptable(target, whole, call);
    // A child in its place rests on more than the tag.
    const itself = acceptable.manifest === whole.manifest;
    const basis = itself && found.facts !== undefined ? basisOf(target, whole, found.facts) : undefined;
    return { answer: answerWith(target, acceptable), basis };
  }

  /** The manifest itself, or the child that an older client can read; else the refusal says what there is. */
  async #acceptable(
    target: Target,
    found: FoundManifest,
    call: Pick<ManifestCall, "accept" | "reference"> & CallOptions & Admitted,
  ): Promise<FoundManifest> {
    const { manifest, cache } = found;
    const { accept } = call;
    if (acceptsType(accept, manifest.mediaType)) {
      return found;
    }
    const acceptsSingle = acceptsType(accept, OCI_MANIFEST) || acceptsType(accept, DOCKER_MANIFEST);
    if (isIndex(manifest.mediaType) && acceptsSingle) {
      const child = platformChild(parseManifest(manifest.bytes), CHILD_PLATFORM);
      if (child !== undefined && acceptsType(accept, child.mediaType)) {
        const { manifest: single, cache: how } = counted(
          await this.#deps.byDigest.findFor(target, child.digest, call),
          call,
        );
        // What the tag's own answer has to say (a Warning, a time to live) holds for the child; that it was fetched, too.
        return { manifest: single, cache: how.outcome === "hit" ? cache : { ...cache, ...how } };
      }
    }
    throw new OciError(
      "MANIFEST_UNKNOWN",
      `${formatRepo(target.repo)}:${formatReference(call.reference)} is of type ${manifest.mediaType}, which the request's Accept does not include`,
    );
  }
}

function answerWith({ standing }: Target, { manifest, cache }: FoundManifest): ManifestAnswer {
  const { digest, mediaType, bytes } = manifest;
  return { digest, mediaType, bytes, size: bytes.length, visibility: standing.visibility, cache };
}

function basisOf(
  { standing }: Target,
  { manifest }: Pick<FoundManifest, "manifest">,
  facts: FreshnessFacts | undefined,
): Basis {
  return { standing, bytes: manifest.bytes, facts };
}

/** What was fetched is on the account of whoever asked for it. */
function counted(found: FoundManifest, { access }: Admitted): FoundManifest {
  if (found.cache.outcome === "miss") {
    access.fetched?.(found.manifest.bytes.length);
  }
  return found;
}

function pick({ digest, mediaType, size }: Pick<ManifestAnswer, "digest" | "mediaType" | "size">) {
  return { digest, mediaType, size };
}
