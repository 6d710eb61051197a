/**
 * The JSON of the records under `weir/v1`. Reading is tolerant of fields that it does not know; a record whose known fields
 * are not what they should be is no record (undefined).
 */
import { isDigest } from "../oci/digest.ts";
import { isReferrer } from "../oci/referrers.ts";
import type { ParkedState } from "../upstream/credentials/parked.ts";
import type { BlobRecord, ManifestRecord, ReferrersRecord, RepoRecord, TagEntry } from "./repositories.ts";

export function formatRecord(
  record: TagEntry | ReferrersRecord | ManifestRecord | BlobRecord | RepoRecord | ParkedState,
): Uint8Array {
  return Buffer.from(JSON.stringify(record));
}

export function parseTagRecord(bytes: Uint8Array): TagEntry | undefined {
  const { digest, checkedAtMs, goneSinceMs, etag } = parseObject(bytes);
  if (typeof digest !== "string" || !isDigest(digest) || !isCount(checkedAtMs)) return undefined;
  if (goneSinceMs !== undefined && !isCount(goneSinceMs)) return undefined;
  if (etag !== undefined && typeof etag !== "string") return undefined;
  return {
    digest,
    checkedAtMs,
    ...(goneSinceMs === undefined ? {} : { goneSinceMs }),
    ...(etag === undefined ? {} : { etag }),
  };
}

export function parseReferrersRecord(bytes: Uint8Array): ReferrersRecord | undefined {
  const { referrers, checkedAtMs, goneSinceMs } = parseObject(bytes);
  if (!Array.isArray(referrers) || !referrers.every(isReferrer) || !isCount(checkedAtMs)) return undefined;
  if (goneSinceMs !== undefined && !isCount(goneSinceMs)) return undefined;
  return { referrers, checkedAtMs, ...(goneSinceMs === undefined ? {} : { goneSinceMs }) };
}

export function parseManifestRecord(bytes: Uint8Array): ManifestRecord | undefined {
  const { mediaType, size } = parseObject(bytes);
  if (typeof mediaType !== "string" || mediaType === "" || !isCount(size)) return undefined;
  return { mediaType, size };
}

export function parseBlobRecord(bytes: Uint8Array): BlobRecord | undefined {
  const { public: isPublic, upstreams } = parseObject(bytes);
  if (typeof isPublic !== "boolean" || !Array.isArray(upstreams)) return undefined;
  if (!upstreams.every((upstream) => typeof upstream === "string")) return undefined;
  return { public: isPublic, upstreams };
}

export function parseRepoRecord(bytes: Uint8Array): RepoRecord | undefined {
  const { visibility, visibilityAtMs, provedAtMs } = parseObject(bytes);
  if (visibility !== "public" && visibility !== "private") return undefined;
  if (!isCount(visibilityAtMs) || !isCount(provedAtMs)) return undefined;
  return { visibility, visibilityAtMs, provedAtMs };
}

export function parseParkedRecord(bytes: Uint8Array): ParkedState | undefined {
  const { untilMs, failures } = parseObject(bytes);
  return isCount(untilMs) && isCount(failures) ? { untilMs, failures } : undefined;
}

/** The fields of a JSON object; none where it is not one. */
function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0;
}
