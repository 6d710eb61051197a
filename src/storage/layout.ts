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
 *       credentials/<fingerprint>.json               until when a refused credential is kept from its registry
 *       recency/<hex digit>                          when blobs were used; binary
 *       pins.json                                    what an operator has said is to stay, and since when
 *       room/uses/<id>.json                          what each process on a bucket has used lately (buckets only)
 *       room/marks/<id>.json                         blobs that go from the bucket unless they are used
 *       room/seat.json                               which process lets them go
 *       room/usage.json                              how much is held
 *       room/clock                                   written to learn the time by the server's clock
 *       savings.json                                 what was served without the upstreams, and since when
 *       uploads/<sha256 of the key>.json             what a disk in front of a bucket has and the bucket has not (tiered only)
 *       quarantine/                                  damaged files under the keys that they had
 *       tmp/                                         files that are not published yet; in a bucket, what a start tries out
 *       token-key.pem                                signs the tokens of the built-in token service (filesystem only)
 *       lock, holder                                 which process uses the root (filesystem only)
 *
 * `<upstream>` is the upstream's name with each `:` written `__`. Names under a repository that begin with `_` cannot be
 * part of a repository's name, so one repository may lie inside another (`a/b`, `a/b/c`).
 */
import { createHash } from "node:crypto";
import { type Digest, digestAlgorithm, digestHex, isDigest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";

export const BLOBS_PREFIX = "docker/registry/v2/blobs/";
export const REPOSITORIES_PREFIX = "docker/registry/v2/repositories/";
/** Everything that the distribution layout has no place for; ends in `/`. */
export const RECORDS_PREFIX = "weir/v1/";
export const TEMPORARY_FOLDER = "weir/v1/tmp";
export const LOCK_KEY = "weir/v1/lock";
export const TOKEN_KEY_KEY = `${RECORDS_PREFIX}token-key.pem`;
export const HOLDER_KEY = "weir/v1/holder";

/** Damaged files, out of everybody's way; ends in `/`. */
export const QUARANTINE_PREFIX = "weir/v1/quarantine/";
/** What the cache has saved, counted since it was first started. */
export const SAVINGS_KEY = "weir/v1/savings.json";
/** What an operator has said is to stay. */
export const PINS_KEY = "weir/v1/pins.json";

const FINGERPRINT = /^[0-9a-f]{64}$/;

/** The folder that makes what is above it a repository. */
export const MANIFESTS_FOLDER = "_manifests";
export const LAYERS_FOLDER = "_layers";

export function blobKey(digest: Digest): string {
  return `${BLOBS_PREFIX}${sharded(digest)}/data`;
}

/** The folder of everything that a repository holds in the distribution layout; ends in `/`. */
export function repositoryPrefix(repo: RepoRef): string {
  return placePrefix(repositoryFolder(repo));
}

/** The same for a repository's folder, which in a stock registry lies below no upstream's. */
export function placePrefix(place: string): string {
  return `${REPOSITORIES_PREFIX}${place}/`;
}

export function layersPrefix(repo: RepoRef): string {
  return `${repositoryPrefix(repo)}${LAYERS_FOLDER}/`;
}

export function layersMarkKey(repo: RepoRef): string {
  return `${layersPrefix(repo)}.weir`;
}

export function layerLinkKey(repo: RepoRef, digest: Digest): string {
  return `${layersPrefix(repo)}${slashed(digest)}/link`;
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

export function referrersPrefix(repo: RepoRef): string {
  return `weir/v1/repositories/${repositoryFolder(repo)}/_referrers/`;
}

export function referrersRecordKey(repo: RepoRef, subject: Digest): string {
  return `${referrersPrefix(repo)}${sharded(subject)}.json`;
}

export function manifestRecordKey(digest: Digest): string {
  return `weir/v1/manifests/${sharded(digest)}.json`;
}

export function blobRecordKey(digest: Digest): string {
  return `weir/v1/blobs/${sharded(digest)}.json`;
}

export const MANIFEST_RECORDS_PREFIX = `${RECORDS_PREFIX}manifests/`;
export const BLOB_RECORDS_PREFIX = `${RECORDS_PREFIX}blobs/`;

/** What is on the disk and not yet in the bucket behind it; ends in `/`. */
export const UPLOADS_PREFIX = `${RECORDS_PREFIX}uploads/`;

/** The note that what lies under `key` has to be sent to the bucket. */
export function uploadNoteKey(key: string): string {
  return `${UPLOADS_PREFIX}${createHash("sha256").update(key).digest("hex")}.json`;
}

/** What the processes on one bucket tell each other of its room; those that are folders end in `/`. */
export const ROOM_USES_PREFIX = `${RECORDS_PREFIX}room/uses/`;
export const ROOM_MARKS_PREFIX = `${RECORDS_PREFIX}room/marks/`;
export const ROOM_SEAT_KEY = `${RECORDS_PREFIX}room/seat.json`;
export const ROOM_USAGE_KEY = `${RECORDS_PREFIX}room/usage.json`;
export const ROOM_CLOCK_KEY = `${RECORDS_PREFIX}room/clock`;

/** When the blobs of one of the parts were used; binary. */
export function recencyKey(part: number): string {
  return `${RECORDS_PREFIX}recency/${part.toString(16)}`;
}

/** What a key of the distribution layout, or of the records beside it, is the key of; `place` is a repository's folder. */
export type LayoutKey =
  | { readonly kind: "blob" | "manifest-record" | "blob-record"; readonly digest: Digest }
  | { readonly kind: "layer" | "revision" | "referrers-record"; readonly place: string; readonly digest: Digest }
  | { readonly kind: "tag" | "tag-record"; readonly place: string; readonly tag: string }
  | { readonly kind: "tag-index"; readonly place: string; readonly tag: string; readonly digest: Digest }
  | { readonly kind: "mark" | "repository-record"; readonly place: string };

const PLACE = "(?<place>[a-z0-9][^/]*(?:/[a-z0-9][^/]*)*)";
const TAG = "(?<tag>[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})";
const SLASHED = "(?<algorithm>sha256|sha512)/(?<hex>[0-9a-f]+)";
const SHARDED = "(?<algorithm>sha256|sha512)/(?<shard>[0-9a-f]{2})/(?<hex>[0-9a-f]+)";

const KEYS: readonly (readonly [LayoutKey["kind"], RegExp])[] = [
  ["blob", new RegExp(`^${BLOBS_PREFIX}${SHARDED}/data$`)],
  ["layer", new RegExp(`^${REPOSITORIES_PREFIX}${PLACE}/${LAYERS_FOLDER}/${SLASHED}/link$`)],
  ["mark", new RegExp(`^${REPOSITORIES_PREFIX}${PLACE}/${LAYERS_FOLDER}/\\.weir$`)],
  ["revision", new RegExp(`^${REPOSITORIES_PREFIX}${PLACE}/${MANIFESTS_FOLDER}/revisions/${SLASHED}/link$`)],
  ["tag", new RegExp(`^${REPOSITORIES_PREFIX}${PLACE}/${MANIFESTS_FOLDER}/tags/${TAG}/current/link$`)],
  ["tag-index", new RegExp(`^${REPOSITORIES_PREFIX}${PLACE}/${MANIFESTS_FOLDER}/tags/${TAG}/index/${SLASHED}/link$`)],
  ["repository-record", new RegExp(`^${RECORDS_PREFIX}repositories/${PLACE}/_repository\\.json$`)],
  ["tag-record", new RegExp(`^${RECORDS_PREFIX}repositories/${PLACE}/_tags/${TAG}\\.json$`)],
  ["referrers-record", new RegExp(`^${RECORDS_PREFIX}repositories/${PLACE}/_referrers/${SHARDED}\\.json$`)],
  ["manifest-record", new RegExp(`^${RECORDS_PREFIX}manifests/${SHARDED}\\.json$`)],
  ["blob-record", new RegExp(`^${RECORDS_PREFIX}blobs/${SHARDED}\\.json$`)],
];

/** Where the links and records stand that {@link parseKey} knows; what else is below `weir/v1/` belongs to whoever wrote it. */
export const LINK_PREFIXES: readonly string[] = [
  REPOSITORIES_PREFIX,
  `${RECORDS_PREFIX}repositories/`,
  `${RECORDS_PREFIX}manifests/`,
  `${RECORDS_PREFIX}blobs/`,
];

/** Undefined for a key that no function above makes. */
export function parseKey(key: string): LayoutKey | undefined {
  for (const [kind, pattern] of KEYS) {
    const groups = pattern.exec(key)?.groups;
    if (groups === undefined) continue;
    const { place, tag, algorithm, shard, hex = "" } = groups;
    const digest = `${algorithm}:${hex}`;
    if (algorithm !== undefined && (!isDigest(digest) || !hex.startsWith(shard ?? ""))) return undefined;
    const parts = { place, tag, digest: algorithm === undefined ? undefined : digest };
    return { kind, ...Object.fromEntries(Object.entries(parts).filter(([, part]) => part !== undefined)) } as LayoutKey;
  }
  return undefined;
}

/** The repository whose folder this is; undefined for one that lies below no upstream, as a stock registry's own do. */
export function repoOfPlace(place: string): RepoRef | undefined {
  const repo = repoAt(place);
  return repo !== undefined && /[.:]/.test(repo.upstream) ? repo : undefined;
}

function repoAt(place: string): RepoRef | undefined {
  const [folder = "", ...names] = place.split("/");
  const upstream = upstreamOfFolder(folder);
  return upstream === undefined || names.length === 0 ? undefined : { upstream, repository: names.join("/") };
}

/** What of a repository lies there: a tag, the link to a digest, or with neither what is known of it as a whole. */
export interface RepositoryPart {
  readonly repo: RepoRef;
  readonly tag?: string;
  readonly digest?: Digest;
}

/** Undefined for a key at which nothing lies that says what a repository has, or who may have it. */
export function repositoryPart(key: string): RepositoryPart | undefined {
  const parsed = parseKey(key);
  const repo = parsed !== undefined && "place" in parsed ? repoAt(parsed.place) : undefined;
  if (parsed === undefined || repo === undefined) return undefined;
  switch (parsed.kind) {
    case "layer":
    case "revision":
      return { repo, digest: parsed.digest };
    case "tag":
    case "tag-record":
      return { repo, tag: parsed.tag };
    case "repository-record":
      return { repo };
    default:
      return undefined;
  }
}

/** A damaged file's key from now on. Deleted and damaged anew, another one. */
export function quarantineKey(key: string, atMs: number): string {
  return `${QUARANTINE_PREFIX}${atMs}/${key}`;
}

/** When the file came there, in milliseconds since the epoch, and what its key was; undefined for what is none of them. */
export function parseQuarantineKey(key: string): { readonly atMs: number; readonly key: string } | undefined {
  const [, at, was] = key.startsWith(QUARANTINE_PREFIX)
    ? (/^(\d+)\/(.+)$/.exec(key.slice(QUARANTINE_PREFIX.length)) ?? [])
    : [];
  return was === undefined ? undefined : { atMs: Number(at), key: was };
}

/** @param fingerprint 64 hex digits */
export function parkedCredentialKey(fingerprint: string): string {
  if (!FINGERPRINT.test(fingerprint)) {
    throw new RangeError(`not a credential's fingerprint: ${JSON.stringify(fingerprint)}`);
  }
  return `weir/v1/credentials/${fingerprint}.json`;
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
