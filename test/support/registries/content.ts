/** What a registry's double holds, and how it lists it. */
import type { Content, Image } from "../images.ts";

export interface Repository {
  readonly name: string;
  /** In the order in which they were first pushed. */
  readonly tags: Map<string, string>;
  readonly manifests: Map<string, Content>;
  readonly blobs: Map<string, Content>;
  readonly private: boolean;
}

export type Visibility = "public" | "private";

export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
export const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
const SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";

export function newRepository(name: string, visibility: Visibility): Repository {
  return { name, tags: new Map(), manifests: new Map(), blobs: new Map(), private: visibility === "private" };
}

export function addImage(to: Repository, image: Image, tags: readonly string[]): void {
  for (const manifest of image.manifests) to.manifests.set(manifest.digest, manifest);
  for (const blob of image.blobs) to.blobs.set(blob.digest, blob);
  for (const tag of tags) to.tags.set(tag, image.root.digest);
}

/** The manifest of a tag or digest. */
export function manifestOf(repository: Repository, reference: string): Content | undefined {
  const digest = reference.includes(":") ? reference : repository.tags.get(reference);
  return digest === undefined ? undefined : repository.manifests.get(digest);
}

/** Whether an Accept header names the type; `wildcard` says whether a wildcard counts. Without the header everything goes. */
export function accepts(accept: string | undefined, mediaType: string, wildcard = true): boolean {
  if (accept === undefined) return true;
  const types = accept.split(",").map((part) => part.split(";")[0]?.trim());
  return types.includes(mediaType) || (wildcard && types.includes("*/*"));
}

/** What registries make of an index for a client that does not know indexes: the linux/amd64 child. */
export function amd64Child(repository: Repository, index: Content): Content | undefined {
  const { manifests } = JSON.parse(Buffer.from(index.bytes).toString()) as {
    manifests?: readonly { digest: string; platform?: { architecture?: string } }[];
  };
  const child = manifests?.find(({ platform }) => platform?.architecture === "amd64");
  return child === undefined ? undefined : repository.manifests.get(child.digest);
}

/** What registries make of an image for a client that sends no Accept: Docker's schema 1, with a digest of its own. */
export function schema1Of(repository: Repository, tag: string): { mediaType: string; bytes: Buffer } {
  const document = { schemaVersion: 1, name: repository.name, tag, architecture: "amd64", fsLayers: [], history: [] };
  return { mediaType: SCHEMA1, bytes: Buffer.from(JSON.stringify(document, undefined, 3)) };
}

/** Descriptors of the manifests whose subject this digest is (distribution-spec end-12). */
export function referrersOf(repository: Repository, subject: string): readonly Record<string, unknown>[] {
  return [...repository.manifests.values()].flatMap((manifest) => {
    const document = JSON.parse(Buffer.from(manifest.bytes).toString()) as {
      subject?: { digest?: string };
      artifactType?: string;
      config?: { mediaType?: string };
      annotations?: unknown;
    };
    if (document.subject?.digest !== subject) return [];
    const artifactType = document.artifactType ?? document.config?.mediaType;
    const { mediaType, digest, bytes } = manifest;
    const annotations = document.annotations === undefined ? {} : { annotations: document.annotations };
    return [{ mediaType, digest, size: bytes.length, artifactType, ...annotations }];
  });
}

export interface Page<T> {
  readonly items: readonly T[];
  /** The last of them, where more follow. */
  readonly last: T | undefined;
}

/** The first `n` of what comes after `last`; all that is left where `n` is undefined. */
export function pageAfter(
  all: readonly string[],
  last: string | undefined,
  n: number | undefined,
  order: "lexical" | "creation" = "lexical",
): Page<string> {
  const left =
    last === undefined
      ? all
      : order === "lexical"
        ? all.filter((item) => item > last)
        : all.slice(all.indexOf(last) + 1);
  const items = n === undefined ? left : left.slice(0, n);
  return { items, last: items.length < left.length ? items.at(-1) : undefined };
}
