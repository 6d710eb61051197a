import type { ContentRules } from "../access/content-rules.ts";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import { formatReference, formatRepo, type Reference, type RepoRef } from "../oci/reference.ts";
import type { Listings } from "./listings.ts";

/**
 * Keeps from clients, whoever they are, what the upstream's `allow`, `deny` and `platforms` forbid, before anybody is asked for
 * it.
 */
export class ContentGate {
  readonly #rulesOf: (upstream: string) => ContentRules;
  readonly #listings: Pick<Listings, "platformsOf" | "listedBy">;

  /** @param rulesOf asked for each request, so that a reload counts at once */
  constructor(rulesOf: (upstream: string) => ContentRules, listings: Pick<Listings, "platformsOf" | "listedBy">) {
    this.#rulesOf = rulesOf;
    this.#listings = listings;
  }

  /** @throws AccessDeniedError */
  manifest(repo: RepoRef, reference: Reference): void {
    refuse(repo, formatReference(reference), this.#rulesOf(repo.upstream).manifest(repo.repository, reference));
  }

  /** For a blob, and for the manifest that a tag has led to. @throws AccessDeniedError */
  content(repo: RepoRef, digest: Digest): void {
    refuse(repo, digest, this.#rulesOf(repo.upstream).content(repo.repository, digest));
  }

  /**
   * Why a manifest is kept back that held indexes of the repository list for other platforms only. What none lists passes: that
   * it is for a platform is what indexes say. To be told to who may read the repository, since it tells what is held.
   */
  async manifestPlatform(repo: RepoRef, digest: Digest, o: CallOptions): Promise<AccessDeniedError | undefined> {
    return platformDenial(repo, digest, await this.#platformKey(repo, digest, o));
  }

  /** The same of a blob that only such manifests list. */
  async blobPlatform(repo: RepoRef, digest: Digest, o: CallOptions): Promise<AccessDeniedError | undefined> {
    if (this.#rulesOf(repo.upstream).platform === undefined) {
      return undefined;
    }
    let key: string | undefined;
    for (const manifest of await this.#listings.listedBy(repo, digest, o)) {
      key = await this.#platformKey(repo, manifest, o);
      if (key === undefined) {
        return undefined;
      }
    }
    return platformDenial(repo, digest, key);
  }

  async #platformKey(repo: RepoRef, digest: Digest, o: CallOptions): Promise<string | undefined> {
    const { platform: forbids } = this.#rulesOf(repo.upstream);
    if (forbids === undefined) {
      return undefined;
    }
    const keys = (await this.#listings.platformsOf(repo, digest, o)).map((its) => its && forbids(its));
    return keys.every((key) => key !== undefined) ? keys[0] : undefined;
  }

  /** @throws AccessDeniedError */
  repository(repo: RepoRef): void {
    refuse(repo, undefined, this.#rulesOf(repo.upstream).repository(repo.repository));
  }

  /** Whether a list of repositories may name it. */
  lists(repo: RepoRef): boolean {
    return this.#rulesOf(repo.upstream).repository(repo.repository) === undefined;
  }

  /** What of a list may be named. */
  filter<T>(repo: RepoRef, entries: readonly T[], referenceOf: (entry: T) => Reference): readonly T[] {
    const rules = this.#rulesOf(repo.upstream);
    return entries.filter((entry) => rules.manifest(repo.repository, referenceOf(entry)) === undefined);
  }
}

function refuse(repo: RepoRef, reference: string | undefined, key: string | undefined): void {
  if (key !== undefined) {
    const name = formatRepo(repo);
    const what = reference === undefined ? name : `${name}${reference.includes(":") ? "@" : ":"}${reference}`;
    throw new AccessDeniedError("content", key, `Weir does not serve ${what}: ${key} decides so`, { repository: name });
  }
}

function platformDenial(repo: RepoRef, digest: Digest, key: string | undefined): AccessDeniedError | undefined {
  if (key === undefined) {
    return undefined;
  }
  const name = formatRepo(repo);
  const message = `${name}@${digest} belongs to a platform that Weir does not serve: ${key} does not list it`;
  return new AccessDeniedError("platform", key, message, { repository: name });
}
