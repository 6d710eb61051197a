import { quote } from "../base/quote.ts";
import { type Digest, parseDigest } from "./digest.ts";
import { OciError } from "./errors.ts";

/** A repository of an upstream. */
export interface RepoRef {
  /** The upstream's name: lower case, with the port if it has one. */
  readonly upstream: string;
  /** The name that the upstream knows, without a host. */
  readonly repository: string;
}

/** What stands behind `manifests/`. */
export type Reference =
  | { readonly kind: "tag"; readonly tag: string }
  | { readonly kind: "digest"; readonly digest: Digest };

/** The limit that clients and registries agree on, though the spec leaves it open (distribution-spec, "Pulling manifests"). */
const MAX_REPOSITORY_LENGTH = 255;

const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;

const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

/** @throws OciError NAME_INVALID */
export function parseRepository(text: string): string {
  if (text.length > MAX_REPOSITORY_LENGTH) {
    throw new OciError(
      "NAME_INVALID",
      `the repository name ${quote(text)} has ${text.length} characters, of ${MAX_REPOSITORY_LENGTH} at most`,
    );
  }
  if (!REPOSITORY.test(text)) {
    throw new OciError(
      "NAME_INVALID",
      `${quote(text)} is not a repository name: expected lower-case letters and digits, parted by ".", "_", "__", "-" or "/"`,
    );
  }
  return text;
}

/** @throws OciError TAG_INVALID */
export function parseTag(text: string): string {
  if (!TAG.test(text)) {
    throw new OciError(
      "TAG_INVALID",
      `${quote(text)} is not a tag: expected up to 128 letters, digits, "_", "." and "-", the first not "." or "-"`,
    );
  }
  return text;
}

/** A digest where there is a colon, since no tag can hold one; else a tag. @throws OciError DIGEST_INVALID or TAG_INVALID */
export function parseReference(text: string): Reference {
  return text.includes(":") ? { kind: "digest", digest: parseDigest(text) } : { kind: "tag", tag: parseTag(text) };
}

/** As it stands in a request's path. */
export function formatReference(reference: Reference): string {
  return reference.kind === "tag" ? reference.tag : reference.digest;
}

/** `docker.io/library/nginx`. */
export function formatRepo(repo: RepoRef): string {
  return `${repo.upstream}/${repo.repository}`;
}
