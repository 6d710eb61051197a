import type { CallOptions } from "../base/call.ts";
import { quote } from "../base/quote.ts";
import type { Digest } from "../oci/digest.ts";
import { parseContentRange } from "../oci/range.ts";
import type { Call, RegistryCalls } from "./registry-calls.ts";
import type { BlobBody, BlobGetOptions, BlobHead } from "./upstream.ts";

/** As {@link Upstream.headBlob}. */
export async function headBlob(
  calls: RegistryCalls,
  repository: string,
  digest: Digest,
  o: CallOptions,
): Promise<BlobHead> {
  if (calls.adapter.blobProof === "first-byte") {
    return { size: await blobSize(calls, repository, digest, o) };
  }
  const call: Call = {
    ...blobCall("HEAD", repository, digest),
    lane: "documents",
    redirects: "hand-out",
    retried: true,
  };
  return await calls.run(call, o, async (reply) => {
    if (reply.redirects) {
      return { size: undefined };
    }
    await reply.expect(200, o);
    return { size: reply.contentLength };
  });
}

/** As {@link Upstream.blobSize}. */
export function blobSize(
  calls: RegistryCalls,
  repository: string,
  digest: Digest,
  o: CallOptions,
): Promise<number | undefined> {
  const call: Call = {
    ...blobCall("GET", repository, digest),
    headers: { range: "bytes=0-0" },
    // Somebody waits for it, as for a HEAD: bodies under way must not delay it.
    lane: "documents",
    retried: true,
  };
  return calls.run(call, o, async (reply) => {
    const range = reply.headers.get("content-range");
    if (reply.status === 206) {
      const span = parseContentRange(range);
      if (span?.start !== 0) {
        throw reply.badAnswer("answered a range request without the range that was asked for");
      }
      return span.total;
    }
    // The first byte of an empty blob cannot be had, which is how its size shows.
    if (reply.status === 416 && range?.trim() === "bytes */0") {
      return 0;
    }
    await reply.expect(200, o);
    return reply.contentLength;
  });
}

/** As {@link Upstream.getBlob}. */
export function getBlob(
  calls: RegistryCalls,
  repository: string,
  digest: Digest,
  o: BlobGetOptions,
): Promise<BlobBody> {
  const { start, end } = o;
  const ranged = start > 0 || end !== undefined;
  const call: Call = {
    ...blobCall("GET", repository, digest),
    ...(ranged ? { headers: { range: `bytes=${start}-${end ?? ""}` } } : {}),
    handsOutBody: true,
  };
  return calls.run(call, o, async (reply) => {
    if (reply.status === 416) {
      throw reply.badAnswer(`has nothing at byte ${start}`);
    }
    await reply.expect(ranged && reply.status === 206 ? 206 : 200, o);
    const encoding = reply.headers.get("content-encoding")?.toLowerCase() ?? "identity";
    if (encoding !== "identity") {
      throw reply.badAnswer(`sends the blob content-encoded (${quote(encoding)}), so that its digest cannot hold`);
    }
    const { contentLength: length } = reply;
    const { body } = reply.answer;
    if (reply.status === 200) {
      return { start: 0, total: length, body };
    }
    const header = reply.headers.get("content-range");
    const span = parseContentRange(header);
    const wantedEnd = end === undefined ? undefined : Math.min(end, (span?.total ?? Number.POSITIVE_INFINITY) - 1);
    if (
      span?.start !== start ||
      (wantedEnd !== undefined && span.end !== wantedEnd) ||
      (length !== undefined && length !== span.end - span.start + 1)
    ) {
      throw reply.badAnswer(`answered a range request with Content-Range ${quote(header ?? "")}`);
    }
    return { start, total: span.total, body };
  });
}

function blobCall(method: "GET" | "HEAD", repository: string, digest: Digest): Call {
  return {
    kind: "blob",
    method,
    repository,
    path: `blobs/${digest}`,
    access: "pull",
    lane: "bodies",
    redirects: "follow",
    missing: "blob",
    retried: false,
  };
}
