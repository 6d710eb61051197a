/**
 * Every key in the root or bucket, in one place. Pure.
 *
 *     docker/registry/v2/                            as the CNCF distribution registry lays it out
 *       blobs/<alg>/<2 hex>/<hex>/data               content
 *       repositories/<upstream>/<repository>/
 *         _layers/.weir                              makes the stock catalog list a repository that holds manifests only
 *         _layers/<alg>/<hex>/link                   the repository has this blob
 *         _manifests/revisions/<alg>/<hex>/link      the repository has this manifest
 *         _manifests/tags/<tag>/current/link         what the tag means
 *         _manifests/tags/<tag>/index/<alg>/<hex>/link   what it has meant
 *     weir/v1/                                       what that layout has no place for; JSON, unknown fields are ignored
 *       repositories/<upstream>/<repository>/
 *         _repository.json                           visibility, proof
 *         _tags/<tag>.json                           digest, when it was checked, since when it is gone
 *         _referrers/<alg>/<2 hex>/<hex>.json        what refers to the manifest, when it was checked, since when it is gone
 *       manifests/<alg>/<2 hex>/<hex>.json           media type, size
 *       blobs/<alg>/<2 hex>/<hex>.json               where the bytes came from
 *       tmp/                                         files that are not published yet (filesystem only)
 *       lock, holder                                 which process uses the root (filesystem only)
 *
 * `<upstream>` is the upstream's name with each `:` written `__`. Names under a repository that begin with `_` cannot be
 * part of a repository's name, so one repository may lie inside another (`a/b`, `a/b/c`).
 */
import { type Digest, digestAlgorithm, digestHex, isDigest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";

export const BLOBS_PREFIX = "docker/registry/v2/blobs/";
export const REPOSITORIES_PREFIX = "docker/registry/v2/repositories/";
export const TEMPORARY_FOLDER = "weir/v1/tmp";
export const LOCK_KEY = "weir/v1/lock";
export const HOLDER_KEY = "weir/v1/holder";

/** The folder that makes what is above it a repository. */
export const MANIFESTS_FOLDER = "_manifests";

export function blobKey(digest: Digest): string {
  return `${BLOBS_PREFIX}${sharded(digest)}/data`;
}

/** The folder of everything that a repository holds in the distribution layout; ends in `/`. */
export function repositoryPrefix(repo: RepoRef): string {
  return `${REPOSITORIES_PREFIX}${repositoryFolder(repo)}/`;
}

export function layersMarkKey(repo: RepoRef): string {
  return `${repositoryPrefix(repo)}_layers/.weir`;
}

export function layerLinkKey(repo: RepoRef, digest: Digest): string {
  return `${repositoryPrefix(repo)}_layers/${slashed(digest)}/link`;
}

export function revisionsPrefix(repo: RepoRef): string {
  return `${repositoryPrefix(repo)}${MANIFESTS_FOLDER}/revisions/`;
}

export function revisionLinkKey(repo: RepoRef, digest: Digest): string {
  return `${revisionsPrefix(repo)}${slashed(digest)}/link`;
}

export function tagsPrefix(repo: RepoRef): string {
  return `${repositoryPrefix(repo)}${MANIFESTS_FOLDER}/tags/`;
}

export function tagLinkKey(repo: RepoRef, tag: string): string {
  return `${tagsPrefix(repo)}${tag}/current/link`;
}

export function tagIndexPrefix(repo: RepoRef, tag: string): string {
  return `${tagsPrefix(repo)}${tag}/index/`;
}

export function tagIndexLinkKey(repo: RepoRef, tag: string, digest: Digest): string {
  return `${tagIndexPrefix(repo, tag)}${slashed(digest)}/link`;
}

export function repoRecordKey(repo: RepoRef): string {
  return `weir/v1/repositories/${repositoryFolder(repo)}/_repository.json`;
}

export function tagRecordKey(repo: RepoRef, tag: string): string {
  return `weir/v1/repositories/${repositoryFolder(repo)}/_tags/${tag}.json`;
}

export function referrersRecordKey(repo: RepoRef, subject: Digest): string {
  return `weir/v1/repositories/${repositoryFolder(repo)}/_referrers/${sharded(subject)}.json`;
}

export function manifestRecordKey(digest: Digest): string {
  return `weir/v1/manifests/${sharded(digest)}.json`;
}

export function blobRecordKey(digest: Digest): string {
  return `weir/v1/blobs/${sharded(digest)}.json`;
}

/**
 * The name of an upstream's folder. Throws a RangeError for a name that could not be told from another one's folder,
 * which no host name is.
 */
export function upstreamFolder(upstream: string): string {
  const folder = upstream.replaceAll(":", "__");
  if (folder === "" || folder.includes("/") || upstreamOfFolder(folder) !== upstream) {
    throw new RangeError(`the upstream name "${upstream}" cannot be written as a folder`);
  }
  return folder;
}

/** The upstream whose folder has this name; undefined when no upstream's has. */
export function upstreamOfFolder(folder: string): string | undefined {
  const upstream = folder.replaceAll("__", ":");
  return upstream.replaceAll(":", "__") === folder ? upstream : undefined;
}

/** Throws a RangeError for a key that is not made of plain names, and so might leave the root. */
export function checkKey(key: string): void {
  if (key.includes("\0") || key.split("/").some((name) => name === "" || name === "." || name === "..")) {
    throw new RangeError(`not a storage key: ${JSON.stringify(key)}`);
  }
}

/** What a link file holds: the bare digest. A newline at its end makes the stock registry answer 500. */
export function formatLink(digest: Digest): Uint8Array {
  return Buffer.from(digest, "latin1");
}

/** The digest in a link file; undefined when there is anything else in it. */
export function parseLinkFile(bytes: Uint8Array): Digest | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  return isDigest(text) ? text : undefined;
}

function repositoryFolder(repo: RepoRef): string {
  return `${upstreamFolder(repo.upstream)}/${repo.repository}`;
}

function slashed(digest: Digest): string {
  return `${digestAlgorithm(digest)}/${digestHex(digest)}`;
}

/** Two hex digits in between keep the folders small. */
function sharded(digest: Digest): string {
  const hex = digestHex(digest);
  return `${digestAlgorithm(digest)}/${hex.slice(0, 2)}/${hex}`;
}
