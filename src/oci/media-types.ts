import { splitUnquoted } from "./quoted-text.ts";

export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
export const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
export const SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
export const SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/** What Weir always asks an upstream with, whatever its client accepts: registries convert or refuse when a type is missing. */
export const MANIFEST_ACCEPT: string = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"].join(", ");

/** Whether a manifest of this type points at manifests of several platforms. */
export function isIndex(mediaType: string): boolean {
  return mediaType === OCI_INDEX || mediaType === DOCKER_LIST;
}

export function isSchema1(mediaType: string): boolean {
  return mediaType === SCHEMA1 || mediaType === SCHEMA1_SIGNED;
}

/** A `Content-Type` without its parameters, in lower case; empty for an empty one. */
export function baseMediaType(contentType: string): string {
  const end = contentType.indexOf(";");
  return (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}

/**
 * Whether an `Accept` header (RFC 9110 12.5.1; repeated lines joined with a comma) lets the media type through. The most
 * specific range decides, `q=0` refuses, and a header that names nothing accepts everything. Never throws.
 */
export function acceptsType(accept: string | undefined, mediaType: string): boolean {
  const ranges = splitUnquoted(accept ?? "", ",");
  if (ranges.length === 0) {
    return true;
  }
  const wanted = baseMediaType(mediaType);
  const accepted = new Map<string, boolean>();
  for (const range of ranges) {
    const name = baseMediaType(range);
    // A range that stands there twice is accepted if either is: the client named it.
    accepted.set(name, accepted.get(name) === true || quality(range) > 0);
  }
  const family = `${wanted.slice(0, wanted.indexOf("/"))}/*`;
  return accepted.get(wanted) ?? accepted.get(family) ?? accepted.get("*/*") ?? false;
}

/** A weight that cannot be read counts as none, which means 1. */
function quality(range: string): number {
  for (const parameter of splitUnquoted(range, ";").slice(1)) {
    const match = /^q\s*=\s*([01](?:\.\d*)?)$/i.exec(parameter);
    if (match !== null) {
      return Number(match[1]);
    }
  }
  return 1;
}
