import { LRUCache } from "lru-cache";
import { atMost } from "../../base/at-most.ts";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Ttl } from "../../config/freshness-match.ts";
import type { FreshnessConfig } from "../../config/types.ts";
import type { Descriptor } from "../../oci/descriptor.ts";
import type { Digest } from "../../oci/digest.ts";
import { readPlatform } from "../../oci/manifest.ts";
import type { RepoRef } from "../../oci/reference.ts";
import type { BlobStore } from "../../storage/blob-store.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { Upstream } from "../../upstream/upstream.ts";
import { told } from "../explain/decision-words.ts";
import { named, parsed } from "../explain/held-content.ts";
import { quietBytes } from "../explain/quiet-manifests.ts";
import { decideFreshness } from "../freshness.ts";
import type { HeldManifest, HeldManifests } from "../held-manifests.ts";
import { type NamedPin, pinning } from "../operator-pins.ts";
import type { Memory } from "../remembered.ts";
import type { Standing } from "../standings.ts";
import { lookAtTag, tagFacts } from "../tag-knowledge.ts";
import type { PinnedBy, TagPlatform, TagRow } from "./overview.ts";

export interface TagRowsDeps {
  readonly repositories: Pick<Repositories, "getTag" | "hasRevision">;
  /** Looking at them makes nothing look used. */
  readonly manifests: Pick<HeldManifests, "read">;
  /** What is below the room. */
  readonly store: Pick<BlobStore, "open">;
  readonly memory: Pick<Memory, "head" | "absence">;
  freshnessOf(upstream: string): FreshnessConfig;
  ttlOf(repo: RepoRef, tag: string): Ttl;
  readonly clock: Clock;
}

/** What the rows of one repository have in common. */
export interface RowsOf {
  readonly repo: RepoRef;
  readonly upstream: Pick<Upstream, "budgetLow">;
  readonly standing: Standing;
  readonly pins: readonly NamedPin[];
}

/** Tags that are looked at together. */
const AT_ONCE = 16;

/** Entries of an index that are looked at: more than real images have. */
const MAX_PLATFORMS = 64;

/** Contents of manifests that are known without reading them again; a few hundred bytes each. */
const MAX_CONTENTS = 4_000;

/** How BuildKit's indexes call what is no image but says something of one. */
const NO_PLATFORM = "unknown/unknown";

/** Configurations that say what an image runs on; real ones are a few KiB. */
const IMAGE_CONFIGS: ReadonlySet<string> = new Set([
  "application/vnd.oci.image.config.v1+json",
  "application/vnd.docker.container.image.v1+json",
]);
const MAX_CONFIG_BYTES = 1 << 20;

/** What an index lists comes and goes: whether it is held is looked at again after so long. */
const CONTENT_AGE_MS = 30_000;

type Content = Pick<TagRow, "sizeBytes" | "platforms">;

/** Makes the rows of a repository's tags. */
export class TagRows {
  readonly #deps: TagRowsDeps;
  readonly #contents: LRUCache<Digest, Content>;

  constructor(deps: TagRowsDeps) {
    this.#deps = deps;
    this.#contents = new LRUCache({ ...atMost(MAX_CONTENTS), ttl: CONTENT_AGE_MS, ttlResolution: 0, perf: deps.clock });
  }

  /** In the order of `tags`; those that mean nothing are left out. */
  async of(about: RowsOf, tags: readonly string[], o: CallOptions): Promise<readonly TagRow[]> {
    const rows: (TagRow | undefined)[] = [];
    for (let from = 0; from < tags.length; from += AT_ONCE) {
      const some = tags.slice(from, from + AT_ONCE);
      rows.push(...(await Promise.all(some.map((tag) => this.#row(about, tag, o)))));
    }
    return rows.filter((row) => row !== undefined);
  }

  async #row(about: RowsOf, tag: string, o: CallOptions): Promise<TagRow | undefined> {
    const { freshnessOf, ttlOf, clock } = this.#deps;
    const { repo, pins } = about;
    const knowledge = await lookAtTag(this.#deps, repo, tag, o);
    const { entry, held } = knowledge;
    if (entry === undefined) return undefined;
    const { digest, checkedAtMs, goneSinceMs } = entry;
    const { ttlMs, rule, key } = ttlOf(repo, tag);
    const facts = tagFacts({ freshnessOf, ttlMs: () => ttlMs, clock }, about, tag, knowledge, "not-yet");
    const decision = decideFreshness(facts);
    const isFresh = decision.do === "fresh" && held !== undefined;
    return {
      tag,
      digest,
      held: held !== undefined,
      mediaType: held?.manifest.mediaType,
      ...(held === undefined ? NO_CONTENT : await this.#content(held.manifest, o)),
      checkedAtMs: checkedAtMs === 0 ? undefined : checkedAtMs,
      freshUntilMs: isFresh ? facts.nowMs + decision.ttlMs : undefined,
      freshness: told(decision, facts).why,
      rule,
      ruleKey: key,
      ttlMs,
      goneSinceMs,
      pinnedBy: pinnedBy(pinning(pins, repo, { tag, digest })),
    };
  }

  async #content(manifest: HeldManifest, o: CallOptions): Promise<Content> {
    const known = this.#contents.get(manifest.digest);
    if (known !== undefined) return known;
    const content = await this.#read(manifest, o);
    this.#contents.set(manifest.digest, content);
    return content;
  }

  async #read(manifest: HeldManifest, o: CallOptions): Promise<Content> {
    const { children, blobs } = parsed(manifest);
    const sizes = new Map<Digest, number>([[manifest.digest, manifest.bytes.length]]);
    const add = (descriptors: readonly Descriptor[]): void => {
      for (const { digest, size } of descriptors) sizes.set(digest, size);
    };
    add(blobs);
    const platforms: TagPlatform[] = [];
    for (const child of children.slice(0, MAX_PLATFORMS)) {
      const held = await this.#deps.manifests.read(child.digest, o);
      if (held !== undefined) {
        sizes.set(child.digest, held.bytes.length);
        add(parsed(held).blobs);
      }
      const platform = named(child.platform);
      if (platform !== NO_PLATFORM) platforms.push({ platform: platform ?? child.digest, held: held !== undefined });
    }
    const own = children.length === 0 ? await this.#ownPlatform(blobs[0], o) : undefined;
    if (own !== undefined) platforms.push({ platform: own, held: true });
    return { sizeBytes: [...sizes.values()].reduce((sum, size) => sum + size, 0), platforms };
  }

  async #ownPlatform(config: Descriptor | undefined, o: CallOptions): Promise<string | undefined> {
    const says = config !== undefined && IMAGE_CONFIGS.has(config.mediaType) && config.size <= MAX_CONFIG_BYTES;
    if (!says) return undefined;
    const bytes = await quietBytes(this.#deps.store, config.digest, o);
    return bytes && platformOf(bytes);
  }
}

/** What an image's configuration says that it runs on; undefined where it does not say, or is none. */
function platformOf(config: Uint8Array): string | undefined {
  try {
    return named(readPlatform(JSON.parse(Buffer.from(config).toString("utf8"))));
  } catch {
    return undefined;
  }
}

const NO_CONTENT: Content = { sizeBytes: undefined, platforms: [] };

export function pinnedBy(pin: NamedPin | undefined): PinnedBy | undefined {
  return pin && { pin: pin.text, from: pin.from };
}
