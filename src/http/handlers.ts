import type { IncomingHttpHeaders } from "node:http";
import { OciError } from "../oci/errors.ts";
import { formatNextLink } from "../oci/link.ts";
import { OCI_INDEX } from "../oci/media-types.ts";
import { formatContentRange, parseRange } from "../oci/range.ts";
import { formatReferrers } from "../oci/referrers.ts";
import type { BlobAnswer, CacheInfo, ManifestAnswer, ProxyCall, PullThrough, ReadyAnswer } from "../proxy/answers.ts";
import { type Answer, jsonAnswer, NO_CACHE_INFO } from "./answer.ts";
import { entityTag, matchesEntityTag, rangeApplies } from "./conditional.ts";
import { filePlace, suitsHandOver } from "./hand-over.ts";
import type { RoutedCall } from "./route.ts";

/** A GET or HEAD that has been routed. */
export interface PullRequest {
  readonly call: RoutedCall;
  readonly head: boolean;
  readonly headers: IncomingHttpHeaders;
  /** Whether a body can be sent in chunks (HTTP/1.1). */
  readonly takesChunks: boolean;
  /** Whether the client may be sent to where a blob's bytes are. */
  readonly mayRedirect: boolean;
  /** Where the web server in front, which asks on the client's behalf, has the files of blobs; undefined where it wants bytes. */
  readonly accelRedirect: string | undefined;
  /** On whose behalf the proxy is asked, and until when. */
  readonly by: ProxyCall;
}

const BLOB_TYPE = "application/octet-stream";

export type CallOf<Op extends RoutedCall["op"]> = Extract<RoutedCall, { op: Op }>;

/** Asks the proxy what the client asked, and puts its answer into HTTP. Rejects with whatever the proxy rejects with. */
export async function answerPull(proxy: PullThrough, request: PullRequest): Promise<Answer> {
  const { call } = request;
  switch (call.op) {
    case "ping":
      return jsonAnswer(200, {}, NO_CACHE_INFO);
    case "manifest":
      return await manifest(proxy, request, call);
    case "blob":
      return await blob(proxy, request, call);
    case "tags":
      return await tags(proxy, request, call);
    case "catalog":
      return await catalog(proxy, request, call);
    case "referrers":
      return await referrers(proxy, request, call);
    case "write":
      throw methodRefused();
  }
}

/** For everything that is neither GET nor HEAD: nothing that a client sends can write into a proxied namespace. */
export function methodRefused(): OciError {
  return new OciError(
    "UNSUPPORTED",
    "Weir is a cache in front of other registries: nothing can be pushed to it or deleted from it",
    {
      headers: { allow: "GET, HEAD" },
    },
  );
}

async function manifest(proxy: PullThrough, request: PullRequest, call: CallOf<"manifest">): Promise<Answer> {
  const { by, head, headers } = request;
  const found = await proxy.manifest({
    ...by,
    repo: call.repo,
    reference: call.reference,
    head,
    accept: headers.accept,
  });
  const caching = cachingOf(call, found);
  if (matchesEntityTag(headers["if-none-match"], found.digest)) {
    return notModified(found, caching);
  }
  return {
    status: 200,
    headers: manifestHeaders(found, caching),
    cache: found.cache,
    body: head ? undefined : manifestBytes(found),
  };
}

function manifestBytes(found: ManifestAnswer): Uint8Array {
  if (found.bytes?.length !== found.size) {
    throw new Error(
      `the proxy gave ${found.bytes?.length ?? "no"} bytes for the ${found.size} bytes of ${found.digest}`,
    );
  }
  return found.bytes;
}

async function blob(proxy: PullThrough, request: PullRequest, call: CallOf<"blob">): Promise<Answer> {
  const { by, head, headers } = request;
  const known = matchesEntityTag(headers["if-none-match"], call.digest);
  const range = !head && rangeApplies(headers["if-range"], call.digest) ? parseRange(headers.range) : undefined;
  const found = await proxy.blob({
    ...by,
    repo: call.repo,
    digest: call.digest,
    head: head || known,
    range: known ? undefined : range,
    needsLength: !request.takesChunks,
    mayRedirect: request.mayRedirect,
    mayHandOver: request.accelRedirect !== undefined && suitsHandOver(headers, range),
  });
  const release = (): Promise<void> => found.release();
  const caching = cachingOf(call, found);
  if (known) {
    return { ...notModified(found, caching), release };
  }
  if (found.location !== undefined) {
    return redirect(found, found.location, release);
  }
  const { part } = found;
  const length = lengthOf(found);
  if (found.local !== undefined && request.accelRedirect !== undefined) {
    return {
      status: 200,
      headers: {
        "Content-Type": BLOB_TYPE,
        "Content-Length": "0",
        ...identity(found, caching),
        // nginx says so by itself with the whole, and would say it twice.
        ...(part === undefined ? {} : { "Accept-Ranges": "bytes" }),
        "X-Accel-Redirect": filePlace(request.accelRedirect, found.local),
      },
      cache: found.cache,
      body: undefined,
      handedOver: length ?? 0,
      release,
    };
  }
  return {
    status: part === undefined ? 200 : 206,
    headers: blobHeaders(found, caching),
    cache: found.cache,
    body: found.body === undefined ? undefined : { stream: found.body, length },
    release,
  };
}

/** The address is good for minutes, and for whoever has it. */
function redirect({ digest, cache }: BlobAnswer, location: string, release: () => Promise<void>): Answer {
  return {
    status: 307,
    headers: {
      Location: location,
      "Content-Length": "0",
      "Docker-Content-Digest": digest,
      "Cache-Control": "no-store",
    },
    cache,
    body: undefined,
    release,
  };
}

/** How the content is told of that is at hand: whole, and to who has it already. */
export function readyAnswers(
  call: CallOf<"manifest"> | CallOf<"blob">,
  ready: ReadyAnswer,
): Readonly<Record<"whole" | "unchanged", Answer>> {
  const caching = cachingOf(call, ready);
  const found = { ...ready, cache: READY, part: undefined };
  const headers = call.op === "manifest" ? manifestHeaders(found, caching) : blobHeaders(found, caching);
  return { whole: { status: 200, headers, cache: READY, body: ready.bytes }, unchanged: notModified(found, caching) };
}

const READY: CacheInfo = { outcome: "hit" };

async function tags(proxy: PullThrough, request: PullRequest, call: CallOf<"tags">): Promise<Answer> {
  const { repo, n, last, cursor } = call;
  const page = await proxy.tags({ ...request.by, repo, n, last, cursor });
  return listing(call, { name: askedName(call.linkPath), tags: page.tags }, page.next, page.cache);
}

/** In one page, whatever the upstream's were. */
async function referrers(proxy: PullThrough, request: PullRequest, call: CallOf<"referrers">): Promise<Answer> {
  const { repo, digest, artifactType } = call;
  const found = await proxy.referrers({ ...request.by, repo, digest, artifactType });
  const body = formatReferrers(found.referrers);
  return {
    status: 200,
    headers: {
      // Clients take any other type, or one with parameters, for a registry without this API.
      "Content-Type": OCI_INDEX,
      "Content-Length": String(body.length),
      "Cache-Control": "no-cache",
      ...(artifactType === undefined ? {} : { "OCI-Filters-Applied": "artifactType" }),
    },
    cache: found.cache,
    body,
  };
}

async function catalog(proxy: PullThrough, request: PullRequest, call: CallOf<"catalog">): Promise<Answer> {
  const { upstream, n, last } = call;
  const page = await proxy.catalog({ ...request.by, upstream, n, last });
  return listing(call, { repositories: page.repositories }, page.next, { outcome: "hit" });
}

function listing(
  call: RoutedCall,
  document: unknown,
  next: Readonly<Record<string, string>> | undefined,
  cache: CacheInfo,
): Answer {
  if (next === undefined) {
    return jsonAnswer(200, document, cache);
  }
  const query = new URLSearchParams({ ...next, ...call.linkQuery });
  return jsonAnswer(200, document, cache, { Link: formatNextLink(`${call.linkPath}?${query}`) });
}

/** The repository as the client wrote it: `/docker.io/v2/library/nginx/tags/list` asks for `library/nginx`. */
function askedName(linkPath: string): string {
  const components = linkPath.split("/").map(decodeURIComponent);
  return components.slice(components.indexOf("v2") + 1, -2).join("/");
}

/** What a digest names never changes; whether shared caches may keep it is the repository's matter. */
function cachingOf(call: CallOf<"manifest"> | CallOf<"blob">, { visibility }: Pick<Shown, "visibility">): string {
  return call.op === "manifest" && call.reference.kind === "tag"
    ? "no-cache"
    : `${visibility}, max-age=31536000, immutable`;
}

/** What every answer about content says of it. */
type Shown = Pick<ManifestAnswer & BlobAnswer, "digest" | "visibility" | "cache">;

function manifestHeaders(found: Shown & Pick<ManifestAnswer, "mediaType" | "size">, caching: string) {
  return {
    "Content-Type": found.mediaType,
    "Content-Length": String(found.size),
    ...identity(found, caching),
  };
}

function blobHeaders(found: Shown & Pick<BlobAnswer, "size" | "part">, caching: string) {
  const { part, size } = found;
  const length = lengthOf(found);
  return {
    "Content-Type": BLOB_TYPE,
    ...(length === undefined ? {} : { "Content-Length": String(length) }),
    ...(part === undefined ? {} : { "Content-Range": formatContentRange(part, size) }),
    ...identity(found, caching),
    "Accept-Ranges": "bytes",
  };
}

/** Of the body, bytes; undefined where it is not known. */
function lengthOf({ part, size }: Pick<BlobAnswer, "size" | "part">): number | undefined {
  return part === undefined ? size : part.end - part.start + 1;
}

function identity(found: Pick<Shown, "digest">, caching: string): Record<string, string> {
  return { "Docker-Content-Digest": found.digest, ETag: entityTag(found.digest), "Cache-Control": caching };
}

function notModified(found: Pick<Shown, "digest" | "cache">, caching: string): Answer {
  return { status: 304, headers: identity(found, caching), cache: found.cache, body: undefined };
}
