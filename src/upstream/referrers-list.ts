import type { Digest } from "../oci/digest.ts";
import { baseMediaType, OCI_INDEX } from "../oci/media-types.ts";
import { mergeReferrers, type Referrer } from "../oci/referrers.ts";
import type { Answer } from "./exchange.ts";
import { UpstreamError } from "./upstream.ts";

/** Registries that page put some hundred referrers on one; an image with more than a thousand is rare. */
const MAX_PAGES = 100;

/** What a browser would show: a login page, a captive portal, an error page with status 200. */
const PAGE_TYPES: ReadonlySet<string> = new Set(["text/html", "application/xhtml+xml"]);

export interface ReferrersPage {
  readonly referrers: readonly Referrer[];
  /** The page's size. */
  readonly bytes: number;
  /** The query of the next page; undefined at the end. */
  readonly next: Readonly<Record<string, string>> | undefined;
}

export interface ReferrersPageRequest {
  readonly query: Readonly<Record<string, string>>;
  readonly first: boolean;
  readonly maxBytes: number;
}

/** Whether an answer is meant for people. */
export function isWebPage(answer: Pick<Answer, "headers">): boolean {
  return PAGE_TYPES.has(baseMediaType(answer.headers.get("content-type") ?? ""));
}

/**
 * What an answer to a request for referrers means, as registries have it:
 * - `list`: 200 with the type of an OCI index, and nothing else
 * - `unsupported`: there is no such API. GHCR redirects to a page of github.com, which may answer anything (2026-04)
 * - `absent`: the error's code decides. A 400 is a word about the digest: Quay's MANIFEST_INVALID for one that it does not
 *   know. It must not pass for a word about the API, nor for an empty list: a signature may yet stand under a tag
 * - `failure`: the question was not answered
 */
export function referrersMeaning({
  status,
  headers,
  direct,
}: Pick<Answer, "status" | "headers" | "direct">): "list" | "unsupported" | "absent" | "failure" {
  if (status === 200) {
    return baseMediaType(headers.get("content-type") ?? "") === OCI_INDEX ? "list" : "unsupported";
  }
  if (status === 405 || status === 406 || (!direct && isWebPage({ headers }))) {
    return "unsupported";
  }
  return status === 400 || status === 404 ? "absent" : "failure";
}

/**
 * All pages as one list; undefined when there is no first one. Rejects with {@link UpstreamError} when they are too many, or
 * as `ask` does.
 */
export async function collectReferrers(
  upstream: string,
  digest: Digest,
  maxBytes: number,
  ask: (page: ReferrersPageRequest) => Promise<ReferrersPage | undefined>,
): Promise<readonly Referrer[] | undefined> {
  const pages: (readonly Referrer[])[] = [];
  let bytesLeft = maxBytes;
  let query: Readonly<Record<string, string>> | undefined = {};
  while (query !== undefined) {
    if (pages.length === MAX_PAGES) {
      const what = `spreads the referrers of ${digest} over more than ${MAX_PAGES} pages`;
      throw new UpstreamError(upstream, "bad-answer", `${upstream}: ${what}`);
    }
    const page = await ask({ query, first: pages.length === 0, maxBytes: bytesLeft });
    if (page === undefined) {
      return undefined;
    }
    pages.push(page.referrers);
    bytesLeft -= page.bytes;
    query = page.next;
  }
  return mergeReferrers(pages);
}
