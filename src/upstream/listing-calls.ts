import type { CallOptions } from "../base/call.ts";
import type { Digest } from "../oci/digest.ts";
import { OCI_INDEX } from "../oci/media-types.ts";
import { type Referrer, readReferrers } from "../oci/referrers.ts";
import { parseJson } from "./document.ts";
import { collectReferrers, type ReferrersPage, type ReferrersPageRequest, referrersMeaning } from "./referrers-list.ts";
import type { Call, RegistryCalls } from "./registry-calls.ts";
import type { TagPage, TagPageRequest } from "./upstream.ts";

/** As {@link Upstream.listTags}. */
export function listTags(
  calls: RegistryCalls,
  repository: string,
  page: TagPageRequest,
  o: CallOptions,
): Promise<TagPage> {
  const { maxTags = Number.POSITIVE_INFINITY } = calls.adapter;
  const call: Call = {
    kind: "tags",
    method: "GET",
    repository,
    path: "tags/list",
    query: {
      ...page.cursor,
      ...(page.n === undefined ? {} : { n: String(Math.min(page.n, maxTags)) }),
      ...(page.last === undefined ? {} : { last: page.last }),
    },
    headers: { accept: "application/json" },
    access: "tags",
    lane: "documents",
    redirects: "follow",
    missing: "repository",
    retried: true,
  };
  return calls.run(call, o, async (reply) => {
    await reply.expect(200, o);
    reply.refusePage();
    const tags = readTags(await reply.document(o));
    if (tags === undefined) {
      throw reply.badAnswer("sends something else than a list of tags");
    }
    return { tags, next: reply.nextPage };
  });
}

/** As {@link Upstream.listReferrers}. */
export function listReferrers(
  calls: RegistryCalls,
  repository: string,
  digest: Digest,
  o: CallOptions,
): Promise<readonly Referrer[] | undefined> {
  const call: Call = {
    kind: "referrers",
    method: "GET",
    repository,
    path: `referrers/${digest}`,
    headers: { accept: OCI_INDEX },
    access: "pull",
    lane: "documents",
    redirects: calls.adapter.redirectsReferrersToPages ? "hand-out" : "follow",
    missing: undefined,
    retried: true,
  };
  return collectReferrers(calls.upstream, digest, calls.limits.manifestSize, (page) =>
    referrersPage(calls, { ...call, query: page.query }, page, o),
  );
}

function referrersPage(
  calls: RegistryCalls,
  call: Call,
  { first, maxBytes }: ReferrersPageRequest,
  o: CallOptions,
): Promise<ReferrersPage | undefined> {
  return calls.run(call, o, async (reply) => {
    const meaning = reply.redirects ? "unsupported" : referrersMeaning(reply.answer);
    if (meaning === "failure") {
      await reply.expect(200, o);
    }
    if (meaning === "list") {
      const bytes = await reply.document(o, maxBytes);
      const referrers = readReferrers(parseJson(bytes));
      if (referrers === undefined) {
        throw reply.badAnswer("sends something else than an index");
      }
      return { referrers, bytes: bytes.length, next: reply.nextPage };
    }
    if (!first) {
      // Half a list might lack the very signature that is looked for.
      throw reply.badAnswer("does not give the next page of its list of referrers");
    }
    if (meaning === "absent") {
      const error = await reply.error(o, { absent: reply.status === 400 ? "manifest" : undefined });
      if (error.absent !== undefined) {
        throw error;
      }
    }
    return undefined;
  });
}

/** The names of a tag list; registries add members of their own, and `null` where there are none. */
function readTags(bytes: Uint8Array): readonly string[] | undefined {
  const document = parseJson(bytes);
  if (typeof document !== "object" || document === null || !("tags" in document)) {
    return undefined;
  }
  const { tags } = document;
  if (tags === null) {
    return [];
  }
  return Array.isArray(tags) && tags.every((tag) => typeof tag === "string") ? tags : undefined;
}
