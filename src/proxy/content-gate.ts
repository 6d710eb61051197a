import type { ContentRules } from "../access/content-rules.ts";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Digest } from "../oci/digest.ts";
import { formatReference, formatRepo, type Reference, type RepoRef } from "../oci/reference.ts";

/** Keeps from clients, whoever they are, what the upstream's `allow` and `deny` forbid, before anybody is asked for it. */
export class ContentGate {
  readonly #rulesOf: (upstream: string) => ContentRules;

  /** @param rulesOf asked for each request, so that a reload counts at once */
  constructor(rulesOf: (upstream: string) => ContentRules) {
    this.#rulesOf = rulesOf;
  }

  /** @throws AccessDeniedError */
  manifest(repo: RepoRef, reference: Reference): void {
    refuse(repo, formatReference(reference), this.#rulesOf(repo.upstream).manifest(repo.repository, reference));
  }

  /** For a blob, and for the manifest that a tag has led to. @throws AccessDeniedError */
  content(repo: RepoRef, digest: Digest): void {
    refuse(repo, digest, this.#rulesOf(repo.upstream).content(repo.repository, digest));
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
