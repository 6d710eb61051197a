import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { LimitsConfig } from "../config/types.ts";
import { parseChallenges } from "../oci/challenge.ts";
import { parseLink } from "../oci/link.ts";
import type { Adapter } from "./adapters/adapter.ts";
import { answerError, type ErrorContext } from "./answer-error.ts";
import type { Grant } from "./auth.ts";
import { readDocument } from "./document.ts";
import { type Answer, isRedirect, shownUrl } from "./exchange.ts";
import { faultOfRefusal } from "./fault.ts";
import type { HeaderView } from "./header-view.ts";
import { isWebPage } from "./referrers-list.ts";
import { UpstreamError, type UpstreamFault } from "./upstream.ts";

/** What a plain 404 says is absent. */
export type Missing = "repository" | "manifest" | "blob";

export interface ReplyContext {
  readonly upstream: string;
  readonly adapter: Adapter;
  readonly clock: Clock;
  readonly limits: LimitsConfig;
  readonly grant: Grant;
  /** The label of the credential in use; undefined where the registry was asked anonymously. */
  readonly credential: string | undefined;
  /** Undefined where a 404 does not tell. */
  readonly missing: Missing | undefined;
  /** Told of the body of a 429 that is the registry's own. */
  throttled(bodyText: string): void;
}

/** A registry's last word on one call, read by whoever made the call. */
export class RegistryReply {
  readonly answer: Answer;
  readonly #context: ReplyContext;

  constructor(answer: Answer, context: ReplyContext) {
    this.answer = answer;
    this.#context = context;
  }

  get status(): number {
    return this.answer.status;
  }

  get headers(): HeaderView {
    return this.answer.headers;
  }

  get redirects(): boolean {
    return isRedirect(this.answer.status);
  }

  /** Bytes. */
  get contentLength(): number | undefined {
    const header = this.headers.get("content-length") ?? "";
    return /^\d{1,15}$/.test(header) ? Number(header) : undefined;
  }

  /** The query of the `Link` to the next page. Its host and path are not used: some registries get them wrong (Artifactory). */
  get nextPage(): Readonly<Record<string, string>> | undefined {
    const links = this.headers.lines("link").flatMap(parseLink);
    const next = links.find(({ rel }) => rel?.toLowerCase().split(/\s+/).includes("next"));
    if (next === undefined || !URL.canParse(next.url, this.answer.url.href)) {
      return undefined;
    }
    const query = Object.fromEntries(new URL(next.url, this.answer.url).searchParams);
    delete query.ns;
    return Object.keys(query).length === 0 ? undefined : query;
  }

  /** Rejects with what the reply means unless it has the status that makes sense here. */
  async expect(status: number, o: CallOptions): Promise<void> {
    if (this.status !== status) {
      throw await this.error(o);
    }
  }

  /** What the reply means, which is no success; `known` where the caller knows better that it is about an absence, and of what. */
  error(o: CallOptions, known?: { readonly absent: Missing | undefined }): Promise<UpstreamError> {
    const { upstream, clock, credential, missing, adapter } = this.#context;
    const anonymousAdvice =
      adapter.basicOnly && credential === undefined && (this.status === 401 || this.status === 403)
        ? `it lets nobody pull anonymously: configure upstreams.${upstream}.credentials`
        : undefined;
    const context: ErrorContext = {
      upstream,
      clock,
      faultOf: (body) => (known === undefined ? this.#faultOf(body) : "absent"),
      missing: known === undefined ? missing : known.absent,
      credential,
      advice: anonymousAdvice,
      throttled: (bodyText) => {
        if (this.answer.direct) this.#context.throttled(bodyText);
      },
    };
    return answerError(this.answer, context, o);
  }

  /** The whole body of something that is no blob. `maxBytes` is what is left of `limits.manifestSize` where several count together. */
  document(o: CallOptions, maxBytes?: number): Promise<Uint8Array> {
    const { upstream, clock, limits } = this.#context;
    const bound =
      maxBytes === undefined
        ? { bytes: limits.manifestSize, name: "limits.manifestSize" }
        : { bytes: maxBytes, name: "what limits.manifestSize leaves for this page" };
    return readDocument(upstream, this.answer, bound, clock, o);
  }

  refusePage(): void {
    if (isWebPage(this.answer)) {
      throw this.badAnswer("sends an HTML page");
    }
  }

  /** @param what goes on from the address: "sends an HTML page" */
  badAnswer(what: string): UpstreamError {
    const { upstream } = this.#context;
    const { url, status } = this.answer;
    return new UpstreamError(upstream, "bad-answer", `${upstream}: ${shownUrl(url)} ${what}`, { status });
  }

  #faultOf({ code, message }: { readonly code: string | undefined; readonly message: string }): UpstreamFault {
    const { adapter, grant } = this.#context;
    const { status, direct } = this.answer;
    if (status === 404) {
      return "absent";
    }
    if (status === 429) {
      return "quota";
    }
    // From where a redirect led it is no word of the registry's: a 403 there is a signature that has expired.
    if (!direct && (status === 401 || status === 403)) {
      return "status";
    }
    const challengeError = this.#challengeError();
    return faultOfRefusal(adapter, { status, from: "registry", scheme: grant.scheme, challengeError, code, message });
  }

  #challengeError(): string | undefined {
    const challenges = parseChallenges(this.headers.lines("www-authenticate"));
    return challenges.find(({ scheme }) => scheme === "bearer")?.parameters.get("error");
  }
}
