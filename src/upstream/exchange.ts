import type { Readable } from "node:stream";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { quote } from "../base/quote.ts";
import { traceFields } from "../base/trail.ts";
import type { Breakers } from "./breakers.ts";
import type { HeaderView } from "./header-view.ts";
import type { Lane, Side, Transport, TransportResponse } from "./transport.ts";
import { UpstreamError, type UpstreamFault, type UpstreamKind, type UpstreamObserver } from "./upstream.ts";

/** As many as Go's clients follow. */
const MAX_REDIRECTS = 10;

/** Statuses that a GET or HEAD follows (distribution-spec, "Redirects"; upstreams.md rule 13). */
const REDIRECT_STATUSES: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Longer than a digest; a path segment beyond it is a token (Artifact Registry puts its signature into the path). */
const MAX_SHOWN_SEGMENT = 140;

/** One question to an upstream, before redirects. */
export interface Ask {
  readonly kind: UpstreamKind;
  /** A POST is sent to where it is meant for, and its redirect is handed out. */
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: URL;
  readonly side: Side;
  readonly lane: Lane;
  readonly headers: Readonly<Record<string, string>>;
  /** Of a POST. */
  readonly body?: string;
  /** As {@link TransportRequest.headersMs}. */
  readonly headersMs?: number;
  /** Sent until a redirect leads to another origin, and not again after that. */
  readonly authorization: string | undefined;
  /** `hand-out` gives the redirect itself to the caller; `same-origin` refuses to be led to another origin. */
  readonly redirects: "follow" | "hand-out" | "same-origin";
  /** Told of each answer of the origin that was asked, redirects included: what it says in its headers is its own word. */
  answered?(answer: Pick<Answer, "status" | "headers">): void;
}

export interface Answer {
  readonly status: number;
  readonly headers: HeaderView;
  readonly body: Readable;
  /** Where it came from, after redirects. */
  readonly url: URL;
  /** True where no redirect led away from the origin that was asked: only then is its word about access the registry's. */
  readonly direct: boolean;
  /** Reports the exchange to the observer; the first call counts. To be called for every answer. */
  settle(fault?: UpstreamFault): void;
  /** Throws the rest of the body away. Repeatable. */
  discard(): void;
}

export interface ExchangeDeps {
  /** The upstream's name. */
  readonly upstream: string;
  /** The registry's own address. */
  readonly registry: URL;
  readonly transport: Transport;
  readonly breakers: Breakers;
  readonly clock: Clock;
  readonly observer: UpstreamObserver;
}

/** Whether an answer is a redirect that a GET or HEAD follows. */
export function isRedirect(status: number): boolean {
  return REDIRECT_STATUSES.has(status);
}

/** Scheme, host and path, without what signs it: safe for messages, logs and metrics. */
export function shownUrl(url: URL): string {
  const path = url.pathname.split("/").map((segment) => (segment.length > MAX_SHOWN_SEGMENT ? "…" : segment));
  return `${url.origin}${path.join("/")}`;
}

/** Sends a question and follows redirects by hand, so that credentials and addresses are judged at each of them. */
export class Exchange {
  readonly #deps: ExchangeDeps;

  constructor(deps: ExchangeDeps) {
    this.#deps = deps;
  }

  /** Throws what {@link ask} would where the registry itself is known to be down: before anything is done for a request to it. */
  checkRegistry(): void {
    this.#deps.breakers.check(this.#deps.registry.origin);
  }

  /**
   * Resolves with the last answer, whatever its status; the caller settles it and owns its body. Rejects with
   * {@link UpstreamError}, at once where an origin is known to be down, or the signal's reason; what came before is settled
   * then.
   */
  async ask(ask: Ask, o: CallOptions): Promise<Answer> {
    const registry = this.#deps.registry.origin;
    let { url, side, authorization } = ask;
    for (let hop = 0; ; hop += 1) {
      const answer = await this.#once(ask, { url, side, authorization, hop }, o);
      if (answer.direct) {
        ask.answered?.(answer);
      }
      if (!isRedirect(answer.status) || ask.redirects === "hand-out" || ask.method === "POST") {
        return answer;
      }
      answer.discard();
      let next: URL;
      try {
        next = this.#follow(answer, ask, hop);
      } catch (error) {
        answer.settle(error instanceof UpstreamError ? error.fault : undefined);
        throw error;
      }
      answer.settle();
      if (next.origin !== url.origin) {
        authorization = undefined;
        side = next.origin === registry ? "own" : "foreign";
      }
      url = next;
    }
  }

  async #once(
    ask: Ask,
    step: { url: URL; side: Side; authorization: string | undefined; hop: number },
    o: CallOptions,
  ): Promise<Answer> {
    const { upstream, registry, transport, breakers, clock, observer } = this.#deps;
    const { url, side, authorization, hop } = step;
    const watch = breakers.admit(url.origin, ask);
    const startedMs = clock.now();
    const told = o.trail?.begin("exchange", {
      upstream,
      kind: ask.kind,
      method: ask.method,
      url: shownUrl(url),
      range: ask.headers.range,
      hop,
    });
    const place = told?.trail.place;
    let receivedBytes = 0;
    let settled = false;
    let closed = false;
    const over = (): void => {
      if (settled && closed) told?.end({ bytes: receivedBytes });
    };
    const report = (
      status: number | undefined,
      fault: UpstreamFault | undefined,
      durationMs: number,
      detail?: string,
    ): void => {
      if (!settled) {
        settled = true;
        told?.add({ fault });
        observer.exchange({
          upstream,
          kind: ask.kind,
          method: ask.method,
          url: shownUrl(url),
          status,
          fault,
          ...(detail === undefined ? {} : { detail }),
          durationMs,
          requestId: o.requestId,
          ...traceFields(place),
          hop,
        });
        over();
      }
    };
    let response: TransportResponse;
    try {
      response = await transport.send({
        method: ask.method,
        url,
        headers: {
          ...ask.headers,
          ...(authorization === undefined ? {} : { authorization }),
          // Where a redirect or a realm leads elsewhere, nobody needs to know which request it is for.
          ...(url.origin === registry.origin ? place?.headers() : {}),
        },
        ...(ask.body === undefined ? {} : { body: ask.body }),
        ...(ask.headersMs === undefined ? {} : { headersMs: ask.headersMs }),
        lane: ask.lane,
        side,
        signal: o.signal,
        received: (bytes) => {
          observer.received(upstream, ask.kind, bytes);
          receivedBytes += bytes;
          watch.received();
        },
      });
    } catch (error) {
      watch.failed(error);
      const failure = error instanceof UpstreamError ? error : undefined;
      report(undefined, failure?.fault, clock.now() - startedMs, failure?.message);
      told?.end({});
      throw error;
    }
    const durationMs = clock.now() - startedMs;
    watch.responded(response);
    told?.add({ status: response.status, answeredMs: durationMs });
    if (told !== undefined) {
      response.body.once("close", () => {
        closed = true;
        over();
      });
    }
    return {
      status: response.status,
      headers: response.headers,
      body: response.body,
      url,
      direct: url.origin === ask.url.origin,
      settle: (fault) => report(response.status, fault, durationMs),
      discard: () => response.discard(),
    };
  }

  #follow(answer: Answer, ask: Ask, hop: number): URL {
    const { upstream: name, registry } = this.#deps;
    const location = answer.headers.get("location");
    const from = shownUrl(answer.url);
    if (location === undefined || !URL.canParse(location, answer.url.href)) {
      throw new UpstreamError(name, "bad-answer", `${name}: ${from} redirects without a usable Location`, {
        status: answer.status,
      });
    }
    if (hop === MAX_REDIRECTS) {
      throw new UpstreamError(
        name,
        "bad-answer",
        `${name}: more than ${MAX_REDIRECTS} redirects, the last from ${from}`,
      );
    }
    const next = new URL(location, answer.url);
    const refuse = (why: string): UpstreamError =>
      new UpstreamError(name, "refused", `${name}: a redirect from ${from} to ${quote(next.host)} is refused: ${why}`);
    if (next.protocol !== "https:" && next.protocol !== "http:") {
      throw refuse(`${next.protocol} is not followed`);
    }
    if (next.protocol === "http:" && (registry.protocol === "https:" || ask.url.protocol === "https:")) {
      throw refuse("it leads from https to plain http");
    }
    if (ask.redirects === "same-origin" && next.origin !== ask.url.origin) {
      throw refuse("credentials do not go to another origin");
    }
    return next;
  }
}
