import { finished } from "node:stream";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { FairSemaphore } from "../base/fair-semaphore.ts";
import type { Log } from "../base/log.ts";
import { quote } from "../base/quote.ts";
import type { CredentialConfig, LimitsConfig, UpstreamConfig } from "../config/types.ts";
import { parseChallenges } from "../oci/challenge.ts";
import { type Digest, digestAlgorithm, digestOf, isDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { parseLink } from "../oci/link.ts";
import { inferMediaType, type ParsedManifest, parseManifest } from "../oci/manifest.ts";
import { baseMediaType, isSchema1, MANIFEST_ACCEPT, OCI_INDEX } from "../oci/media-types.ts";
import { parseContentRange } from "../oci/range.ts";
import { formatReference, type Reference } from "../oci/reference.ts";
import { type Referrer, readReferrers } from "../oci/referrers.ts";
import type { Adapter } from "./adapters/adapter.ts";
import { answerError, type ErrorContext } from "./answer-error.ts";
import type { Access, Authenticator, Grant, Subject } from "./auth.ts";
import { parseJson, readDocument } from "./document.ts";
import { type Answer, type Exchange, isRedirect, shownUrl } from "./exchange.ts";
import {
  collectReferrers,
  isWebPage,
  type ReferrersPage,
  type ReferrersPageRequest,
  referrersMeaning,
} from "./referrers-list.ts";
import { withRetries } from "./retry.ts";
import type { Lane } from "./transport.ts";
import {
  type BlobBody,
  type BlobGetOptions,
  type BlobHead,
  type ManifestBody,
  type ManifestGetOptions,
  type ManifestHead,
  type TagPage,
  type TagPageRequest,
  type Upstream,
  UpstreamError,
  type UpstreamFault,
  type UpstreamKind,
} from "./upstream.ts";

/** A stale token, then a bare request for an honest challenge: whoever refuses after that means it. */
const MAX_RENEWALS = 2;

/** One request to the registry, before authorisation. */
interface Call {
  readonly kind: UpstreamKind;
  readonly method: "GET" | "HEAD";
  /** Behind `/v2/<repository>/`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly subject: Subject;
  readonly lane: Lane;
  readonly redirects: "follow" | "hand-out";
  /** What a plain 404 means; undefined where it does not tell. */
  readonly missing: "repository" | "manifest" | "blob" | undefined;
  readonly retried: boolean;
  /** The body goes to the caller, who owns it; otherwise what is left of it is thrown away. */
  readonly handsOutBody?: true;
}

export interface ClientDeps {
  readonly upstream: UpstreamConfig;
  readonly adapter: Adapter;
  readonly credentialFor: (repository: string) => CredentialConfig | undefined;
  readonly exchange: Exchange;
  readonly auth: Authenticator;
  /**
   * Places for exchanges of the lane `bodies`, as many as connections: where the lane's own queue would serve whoever comes
   * first, here the repositories take turns.
   */
  readonly bodies: FairSemaphore;
  readonly clock: Clock;
  random(): number;
  readonly log: Log;
  readonly limits: LimitsConfig;
  /** As {@link Upstream.retire}. */
  retire(): void;
  /** Ends every connection. */
  close(): Promise<void>;
}

/** The distribution client (distribution-spec, "Pull" and "Content Discovery") over one registry. */
export class DistributionClient implements Upstream {
  readonly name: string;
  readonly #deps: ClientDeps;

  constructor(deps: ClientDeps) {
    this.name = deps.upstream.name;
    this.#deps = deps;
  }

  hasCredential(repository: string): boolean {
    return this.#deps.credentialFor(repository) !== undefined;
  }

  headManifest(repository: string, reference: Reference, o: CallOptions): Promise<ManifestHead> {
    return this.#headManifest(this.#subject(repository, "pull"), reference, o);
  }

  getManifest(repository: string, reference: Reference, o: ManifestGetOptions): Promise<ManifestBody | "not-modified"> {
    const call: Call = {
      ...this.#manifestCall("GET", this.#subject(repository, "pull"), reference),
      headers: { accept: MANIFEST_ACCEPT, ...(o.etag === undefined ? {} : { "if-none-match": o.etag }) },
    };
    return this.#call(call, o, async (answer, grant) => {
      if (answer.status === 304 && o.etag !== undefined) {
        return "not-modified";
      }
      await this.#expect(answer, call, grant, 200, o);
      this.#refusePage(answer);
      const { limits, clock } = this.#deps;
      const bound = { bytes: limits.manifestSize, name: "limits.manifestSize" };
      const bytes = await readDocument(this.name, answer, bound, clock, o);
      const contentType = answer.headers.get("content-type");
      const mediaType = inferMediaType(this.#parse(answer, bytes), contentType);
      this.#refuseSchema1(answer, mediaType);
      return { mediaType, digest: this.#verify(answer, reference, bytes), bytes, etag: answer.headers.get("etag") };
    });
  }

  headBlob(repository: string, digest: Digest, o: CallOptions): Promise<BlobHead> {
    const call: Call = {
      ...this.#blobCall("HEAD", repository, digest),
      lane: "documents",
      redirects: "hand-out",
      retried: true,
    };
    return this.#call(call, o, async (answer, grant) => {
      if (isRedirect(answer.status)) {
        return { size: undefined };
      }
      await this.#expect(answer, call, grant, 200, o);
      return { size: contentLength(answer) };
    });
  }

  blobSize(repository: string, digest: Digest, o: CallOptions): Promise<number | undefined> {
    const call: Call = {
      ...this.#blobCall("GET", repository, digest),
      headers: { range: "bytes=0-0" },
      retried: true,
    };
    return this.#call(call, o, async (answer, grant) => {
      const range = answer.headers.get("content-range");
      if (answer.status === 206) {
        const span = parseContentRange(range);
        if (span?.start !== 0) {
          throw this.#badAnswer(answer, "answered a range request without the range that was asked for");
        }
        return span.total;
      }
      // The first byte of an empty blob cannot be had, which is how its size shows.
      if (answer.status === 416 && range?.trim() === "bytes */0") {
        return 0;
      }
      await this.#expect(answer, call, grant, 200, o);
      return contentLength(answer);
    });
  }

  getBlob(repository: string, digest: Digest, o: BlobGetOptions): Promise<BlobBody> {
    const { start, end } = o;
    const ranged = start > 0 || end !== undefined;
    const call: Call = {
      ...this.#blobCall("GET", repository, digest),
      ...(ranged ? { headers: { range: `bytes=${start}-${end ?? ""}` } } : {}),
      handsOutBody: true,
    };
    return this.#call(call, o, async (answer, grant) => {
      if (answer.status === 416) {
        throw this.#badAnswer(answer, `has nothing at byte ${start}`);
      }
      await this.#expect(answer, call, grant, ranged && answer.status === 206 ? 206 : 200, o);
      const encoding = answer.headers.get("content-encoding")?.toLowerCase() ?? "identity";
      if (encoding !== "identity") {
        throw this.#badAnswer(
          answer,
          `sends the blob content-encoded (${quote(encoding)}), so that its digest cannot hold`,
        );
      }
      const length = contentLength(answer);
      if (answer.status === 200) {
        return { start: 0, total: length, body: answer.body };
      }
      const header = answer.headers.get("content-range");
      const span = parseContentRange(header);
      const wantedEnd = end === undefined ? undefined : Math.min(end, (span?.total ?? Number.POSITIVE_INFINITY) - 1);
      if (
        span?.start !== start ||
        (wantedEnd !== undefined && span.end !== wantedEnd) ||
        (length !== undefined && length !== span.end - span.start + 1)
      ) {
        throw this.#badAnswer(answer, `answered a range request with Content-Range ${quote(header ?? "")}`);
      }
      return { start, total: span.total, body: answer.body };
    });
  }

  listTags(repository: string, page: TagPageRequest, o: CallOptions): Promise<TagPage> {
    const call: Call = {
      kind: "tags",
      method: "GET",
      path: "tags/list",
      query: {
        ...page.cursor,
        ...(page.n === undefined ? {} : { n: String(page.n) }),
        ...(page.last === undefined ? {} : { last: page.last }),
      },
      headers: { accept: "application/json" },
      subject: this.#subject(repository, "tags"),
      lane: "documents",
      redirects: "follow",
      missing: "repository",
      retried: true,
    };
    return this.#call(call, o, async (answer, grant) => {
      await this.#expect(answer, call, grant, 200, o);
      this.#refusePage(answer);
      const { limits, clock } = this.#deps;
      const bound = { bytes: limits.manifestSize, name: "limits.manifestSize" };
      const tags = readTags(await readDocument(this.name, answer, bound, clock, o));
      if (tags === undefined) {
        throw this.#badAnswer(answer, "sends something else than a list of tags");
      }
      return { tags, next: nextPage(answer) };
    });
  }

  listReferrers(repository: string, digest: Digest, o: CallOptions): Promise<readonly Referrer[] | undefined> {
    const call: Call = {
      kind: "referrers",
      method: "GET",
      path: `referrers/${digest}`,
      headers: { accept: OCI_INDEX },
      subject: this.#subject(repository, "pull"),
      lane: "documents",
      redirects: "follow",
      missing: undefined,
      retried: true,
    };
    return collectReferrers(this.name, digest, this.#deps.limits.manifestSize, (page) =>
      this.#referrersPage({ ...call, query: page.query }, page, o),
    );
  }

  async isPublic(repository: string, reference: Reference, o: CallOptions): Promise<boolean> {
    try {
      await this.#headManifest({ repository, access: "pull", credential: undefined }, reference, o);
      return true;
    } catch (error) {
      // A 404 says nothing: the reference may be absent from a public repository.
      const isNo = error instanceof UpstreamError && (error.fault === "denied" || error.fault === "credential");
      if (isNo) {
        return false;
      }
      throw error;
    }
  }

  retire(): void {
    this.#deps.retire();
  }

  close(): Promise<void> {
    return this.#deps.close();
  }

  #headManifest(subject: Subject, reference: Reference, o: CallOptions): Promise<ManifestHead> {
    const call: Call = {
      ...this.#manifestCall("HEAD", subject, reference),
      headers: { accept: MANIFEST_ACCEPT },
    };
    return this.#call(call, o, async (answer, grant) => {
      await this.#expect(answer, call, grant, 200, o);
      this.#refusePage(answer);
      const mediaType = baseMediaType(answer.headers.get("content-type") ?? "");
      this.#refuseSchema1(answer, mediaType);
      const told = toldDigest(answer);
      if (reference.kind === "digest" && told !== undefined && told !== reference.digest) {
        throw this.#badAnswer(answer, `names ${told} when asked for ${reference.digest}`);
      }
      return {
        mediaType: mediaType === "" ? undefined : mediaType,
        digest: reference.kind === "digest" ? reference.digest : told,
        size: contentLength(answer),
        etag: answer.headers.get("etag"),
      };
    });
  }

  #subject(repository: string, access: Access): Subject {
    return { repository, access, credential: this.#deps.credentialFor(repository) };
  }

  #manifestCall(method: "GET" | "HEAD", subject: Subject, reference: Reference): Call {
    return {
      kind: "manifest",
      method,
      path: `manifests/${formatReference(reference)}`,
      subject,
      lane: "documents",
      redirects: "follow",
      missing: "manifest",
      retried: true,
    };
  }

  #blobCall(method: "GET" | "HEAD", repository: string, digest: Digest): Call {
    return {
      kind: "blob",
      method,
      path: `blobs/${digest}`,
      subject: this.#subject(repository, "pull"),
      lane: "bodies",
      redirects: "follow",
      missing: "blob",
      retried: false,
    };
  }

  #referrersPage(
    call: Call,
    { first, maxBytes }: ReferrersPageRequest,
    o: CallOptions,
  ): Promise<ReferrersPage | undefined> {
    return this.#call(call, o, async (answer, grant) => {
      const meaning = referrersMeaning(answer);
      if (meaning === "failure") {
        await this.#expect(answer, call, grant, 200, o);
      }
      if (meaning === "list") {
        const bound = { bytes: maxBytes, name: "what limits.manifestSize leaves for this page" };
        const bytes = await readDocument(this.name, answer, bound, this.#deps.clock, o);
        const referrers = readReferrers(parseJson(bytes));
        if (referrers === undefined) {
          throw this.#badAnswer(answer, "sends something else than an index");
        }
        return { referrers, bytes: bytes.length, next: nextPage(answer) };
      }
      if (!first) {
        // Half a list might lack the very signature that is looked for.
        throw this.#badAnswer(answer, "does not give the next page of its list of referrers");
      }
      if (meaning === "absent") {
        const missing = answer.status === 400 ? "manifest" : undefined;
        const error = await answerError(answer, this.#errorContext({ ...call, missing }, "absent"), o);
        if (error.absent !== undefined) {
          throw error;
        }
      }
      return undefined;
    });
  }

  /**
   * Asks, with retries where the call may have them, and lets `read` make of the answer what it is worth.
   */
  async #call<T>(call: Call, o: CallOptions, read: (answer: Answer, grant: Grant) => Promise<T>): Promise<T> {
    const { exchange, bodies } = this.#deps;
    const attempt = async (): Promise<T> => {
      // Before waiting for a place or for a token, which would be for nothing.
      exchange.checkRegistry();
      if (call.lane !== "bodies") {
        return (await this.#attempt(call, o, read)).result;
      }
      const leave = await bodies.acquire(call.subject.repository, o);
      try {
        const { result, answer } = await this.#attempt(call, o, read);
        finished(answer.body, leave);
        return result;
      } catch (error) {
        leave();
        throw error;
      }
    };
    try {
      return await (call.retried ? withRetries(this.#deps, o.signal, attempt) : attempt());
    } catch (error) {
      o.signal.throwIfAborted();
      if (error instanceof UpstreamError && (error.fault === "credential" || error.fault === "refused")) {
        const { fault, credential } = error;
        this.#deps.log.warn({ upstream: this.name, fault, credential, requestId: o.requestId }, error.message);
      }
      throw error;
    }
  }

  /** Asks once. The answer's body belongs to the caller where the call hands it out, and is thrown away otherwise. */
  async #attempt<T>(
    call: Call,
    o: CallOptions,
    read: (answer: Answer, grant: Grant) => Promise<T>,
  ): Promise<{ result: T; answer: Answer }> {
    const { answer, grant } = await this.#authorised(call, o);
    try {
      const result = await read(answer, grant);
      answer.settle();
      if (call.handsOutBody !== true) {
        answer.discard();
      }
      return { result, answer };
    } catch (error) {
      answer.settle(error instanceof UpstreamError ? error.fault : undefined);
      answer.discard();
      throw error;
    }
  }

  /** Sends the call, answering challenges until the registry has made up its mind. */
  async #authorised(call: Call, o: CallOptions): Promise<{ answer: Answer; grant: Grant }> {
    const { auth } = this.#deps;
    let grant = await auth.prepare(call.subject, o);
    for (let renewals = 0; ; renewals += 1) {
      const answer = await this.#send(call, grant, o);
      if (answer.status !== 401 || !answer.direct || renewals === MAX_RENEWALS) {
        return { answer, grant };
      }
      let renewal: ReturnType<Authenticator["renewal"]>;
      try {
        renewal = auth.renewal(answer, grant, call.subject);
      } catch (error) {
        answer.settle(error instanceof UpstreamError ? error.fault : undefined);
        answer.discard();
        throw error;
      }
      if (renewal === undefined) {
        return { answer, grant };
      }
      answer.settle();
      answer.discard();
      grant = await renewal(o);
    }
  }

  #send(call: Call, grant: Grant, o: CallOptions): Promise<Answer> {
    const { upstream, exchange } = this.#deps;
    const url = new URL(`/v2/${call.subject.repository}/${call.path}`, upstream.endpoint);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      url.searchParams.set(name, value);
    }
    if (upstream.sendNs) {
      url.searchParams.set("ns", upstream.name);
    }
    return exchange.ask(
      {
        kind: call.kind,
        method: call.method,
        url,
        side: "own",
        lane: call.lane,
        headers: { ...call.headers, "accept-encoding": "identity", "user-agent": "weir" },
        authorization: grant.authorization,
        redirects: call.redirects,
      },
      o,
    );
  }

  /** Rejects with what the answer means unless it has the status that makes sense here. */
  async #expect(answer: Answer, call: Call, grant: Grant, status: number, o: CallOptions): Promise<void> {
    if (answer.status !== status) {
      throw await answerError(answer, this.#errorContext(call, this.#faultOf(answer, grant)), o);
    }
  }

  #errorContext(call: Call, fault: UpstreamFault): ErrorContext {
    const credential = call.subject.credential?.label;
    return { upstream: this.name, clock: this.#deps.clock, fault, missing: call.missing, credential };
  }

  #faultOf(answer: Answer, grant: Grant): UpstreamFault {
    switch (answer.status) {
      case 401:
        if (!answer.direct) {
          return "status";
        }
        if (grant.scheme === "basic") {
          return "credential";
        }
        return this.#deps.adapter.denies(challengeError(answer)) ? "denied" : "status";
      case 403:
        // From where a redirect led it is a signature that has expired: asking the registry again gets a new one.
        return answer.direct ? "denied" : "status";
      case 404:
        return "absent";
      case 429:
        return "quota";
      default:
        return answer.status < 400 ? "bad-answer" : "status";
    }
  }

  #refusePage(answer: Answer): void {
    if (isWebPage(answer)) {
      throw this.#badAnswer(answer, "sends an HTML page");
    }
  }

  #refuseSchema1(answer: Answer, mediaType: string): void {
    if (isSchema1(mediaType)) {
      throw this.#badAnswer(answer, "has a Docker schema1 manifest, a format that is not supported any more");
    }
  }

  #parse(answer: Answer, bytes: Uint8Array): ParsedManifest {
    try {
      return parseManifest(bytes);
    } catch (error) {
      if (error instanceof OciError) {
        throw this.#badAnswer(answer, `does not send a manifest: ${error.message}`);
      }
      throw error;
    }
  }

  /** The digest of what was sent, in the algorithm of what was asked for or else of what the registry says it is. */
  #verify(answer: Answer, reference: Reference, bytes: Uint8Array): Digest {
    const expected = reference.kind === "digest" ? reference.digest : toldDigest(answer);
    const actual = digestOf(bytes, expected === undefined ? "sha256" : digestAlgorithm(expected));
    if (expected !== undefined && actual !== expected) {
      throw this.#badAnswer(answer, `sends content with the digest ${actual} instead of ${expected}`);
    }
    return actual;
  }

  #badAnswer(answer: Answer, what: string): UpstreamError {
    return new UpstreamError(this.name, "bad-answer", `${this.name}: ${shownUrl(answer.url)} ${what}`, {
      status: answer.status,
    });
  }
}

function challengeError(answer: Answer): string | undefined {
  const challenges = parseChallenges(answer.headers.lines("www-authenticate"));
  return challenges.find(({ scheme }) => scheme === "bearer")?.parameters.get("error");
}

function contentLength(answer: Answer): number | undefined {
  const header = answer.headers.get("content-length") ?? "";
  return /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

function toldDigest(answer: Answer): Digest | undefined {
  const header = answer.headers.get("docker-content-digest")?.trim() ?? "";
  return isDigest(header) ? header : undefined;
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

/** The query of the `Link` to the next page. Its host and path are not used: some registries get them wrong (Artifactory). */
function nextPage(answer: Answer): Readonly<Record<string, string>> | undefined {
  const links = answer.headers.lines("link").flatMap(parseLink);
  const next = links.find(({ rel }) => rel?.toLowerCase().split(/\s+/).includes("next"));
  if (next === undefined || !URL.canParse(next.url, answer.url.href)) {
    return undefined;
  }
  const query = Object.fromEntries(new URL(next.url, answer.url).searchParams);
  delete query.ns;
  return Object.keys(query).length === 0 ? undefined : query;
}
