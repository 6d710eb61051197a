import type { CallOptions } from "../base/call.ts";
import { type Digest, digestAlgorithm, digestOf, isDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { inferMediaType, type ParsedManifest, parseManifest } from "../oci/manifest.ts";
import { baseMediaType, isSchema1, MANIFEST_ACCEPT } from "../oci/media-types.ts";
import { formatReference, type Reference } from "../oci/reference.ts";
import type { Call, Identity, RegistryCalls } from "./registry-calls.ts";
import type { RegistryReply } from "./registry-reply.ts";
import type { ManifestBody, ManifestGetOptions, ManifestHead } from "./upstream.ts";

/** As {@link Upstream.headManifest}. */
export function headManifest(
  calls: RegistryCalls,
  repository: string,
  reference: Reference,
  o: CallOptions,
  as?: Identity,
): Promise<ManifestHead> {
  const call: Call = {
    ...manifestCall("HEAD", repository, reference),
    headers: { accept: MANIFEST_ACCEPT },
    ...(as === undefined ? {} : { as }),
    headersMs: calls.adapter.manifestHeadMs,
  };
  return calls.run(call, o, async (reply) => {
    await reply.expect(200, o);
    reply.refusePage();
    const mediaType = baseMediaType(reply.headers.get("content-type") ?? "");
    refuseSchema1(reply, mediaType);
    const told = toldDigest(reply);
    if (reference.kind === "digest" && told !== undefined && told !== reference.digest) {
      throw reply.badAnswer(`names ${told} when asked for ${reference.digest}`);
    }
    return {
      mediaType: mediaType === "" ? undefined : mediaType,
      digest: reference.kind === "digest" ? reference.digest : told,
      size: reply.contentLength,
      etag: reply.headers.get("etag"),
    };
  });
}

/** As {@link Upstream.getManifest}. */
export function getManifest(
  calls: RegistryCalls,
  repository: string,
  reference: Reference,
  o: ManifestGetOptions,
): Promise<ManifestBody | "not-modified"> {
  const call: Call = {
    ...manifestCall("GET", repository, reference),
    headers: { accept: MANIFEST_ACCEPT, ...(o.etag === undefined ? {} : { "if-none-match": o.etag }) },
  };
  return calls.run(call, o, async (reply) => {
    if (reply.status === 304 && o.etag !== undefined) {
      return "not-modified";
    }
    await reply.expect(200, o);
    reply.refusePage();
    const bytes = await reply.document(o);
    const mediaType = inferMediaType(parse(reply, bytes), reply.headers.get("content-type"));
    refuseSchema1(reply, mediaType);
    return { mediaType, digest: verify(reply, reference, bytes), bytes, etag: reply.headers.get("etag") };
  });
}

function manifestCall(method: "GET" | "HEAD", repository: string, reference: Reference): Call {
  return {
    kind: "manifest",
    method,
    repository,
    path: `manifests/${formatReference(reference)}`,
    access: "pull",
    lane: "documents",
    redirects: "follow",
    missing: "manifest",
    retried: true,
  };
}

function refuseSchema1(reply: RegistryReply, mediaType: string): void {
  if (isSchema1(mediaType)) {
    throw reply.badAnswer("has a Docker schema1 manifest, a format that is not supported any more");
  }
}

function parse(reply: RegistryReply, bytes: Uint8Array): ParsedManifest {
  try {
    return parseManifest(bytes);
  } catch (error) {
    if (error instanceof OciError) {
      throw reply.badAnswer(`does not send a manifest: ${error.message}`);
    }
    throw error;
  }
}

/** The digest of what was sent, in the algorithm of what was asked for or else of what the registry says it is. */
function verify(reply: RegistryReply, reference: Reference, bytes: Uint8Array): Digest {
  const expected = reference.kind === "digest" ? reference.digest : toldDigest(reply);
  const actual = digestOf(bytes, expected === undefined ? "sha256" : digestAlgorithm(expected));
  if (expected !== undefined && actual !== expected) {
    throw reply.badAnswer(`sends content with the digest ${actual} instead of ${expected}`);
  }
  return actual;
}

function toldDigest({ headers }: RegistryReply): Digest | undefined {
  const header = headers.get("docker-content-digest")?.trim() ?? "";
  return isDigest(header) ? header : undefined;
}
