import { promises as dns } from "node:dns";
import type { Readable } from "node:stream";
import { Agent, type buildConnector, Dispatcher } from "undici";
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import type { EnvironmentProxies, UpstreamConfig } from "../config/types.ts";
import type { ConnectRules } from "./connect-rule.ts";
import { createEgress, type Egress } from "./egress.ts";
import { type HeaderView, headerView } from "./header-view.ts";
import { createConnector } from "./transport-connect.ts";
import { HeadersLateError, TooManyHeadersError, transportError } from "./transport-error.ts";
import { proxyAuthorization, refusal } from "./tunnel.ts";

/** Real registries send under 60; parsing and keeping thousands serves nobody but an attacker. */
const MAX_HEADER_LINES = 512;

/** Idle connections outlive the gap between two pulls of one image, but not a balancer's usual 60 s. */
const KEEP_ALIVE_MS = 30_000;

/** What only a proxy answers: it wants to know who asks, and a registry would never. */
const PROXY_REFUSES = 407;

/** A body that nobody wants is worth reading to its end only while that is cheaper than a new connection. */
const DISCARD_BYTES = 64 * 1024;
const DISCARD_MS = 5_000;

/** `documents` are small and wait for nobody; `bodies` carry blobs, so that these never queue a HEAD. */
export type Lane = "documents" | "bodies";

/** Which rule about addresses holds for a connection; a connection made under one is never used under the other. */
export type Side = "own" | "foreign";

export interface TransportRequest {
  readonly method: "GET" | "HEAD" | "POST";
  /** Of a POST. */
  readonly body?: string;
  /** For the headers of an answer that is known to take longer than `timeouts.headers`, milliseconds. */
  readonly headersMs?: number;
  /** `http:` or `https:`; user info and fragment are not sent. */
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly lane: Lane;
  readonly side: Side;
  readonly signal: AbortSignal;
  /** Told of every piece of the body as it arrives, in bytes on the wire. */
  received(bytes: number): void;
}

export interface TransportResponse {
  readonly status: number;
  readonly headers: HeaderView;
  /** Raw bytes, never decompressed; fails with {@link UpstreamError}. Whoever gets the response consumes, destroys or discards it. */
  readonly body: Readable;
  /** Throws the rest of the body away: read to its end if that is near, so that the connection can be used again. Repeatable. */
  discard(): void;
}

/** Sends single requests; follows nothing, retries nothing, knows no credentials. */
export interface Transport {
  /** Resolves when the response's headers are there. Rejects with {@link UpstreamError}, or with the signal's reason. */
  send(request: TransportRequest): Promise<TransportResponse>;
  close(): Promise<void>;
}

export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}

/** Every address of a host name; rejects when there is none. */
export type Lookup = (hostname: string) => Promise<readonly ResolvedAddress[]>;

export interface TransportOptions {
  readonly upstream: UpstreamConfig;
  /** Origin that the client certificate is for. */
  readonly registry: string;
  readonly clock: Clock;
  readonly rules: ConnectRules;
  /** Bytes of a response's headers. */
  readonly maxHeaderBytes: number;
  readonly lookup?: Lookup | undefined;
  /** Counts where the upstream has no proxy of its own. */
  readonly proxies?: EnvironmentProxies | undefined;
}

const systemLookup: Lookup = (hostname) => dns.lookup(hostname, { all: true });

/** Reads the TLS files that the configuration names; throws with the key when one cannot be read. */
export function createTransport(options: TransportOptions): Transport {
  return new UndiciTransport(options);
}

class UndiciTransport implements Transport {
  readonly #options: TransportOptions;
  readonly #egress: Egress;
  readonly #agents: Readonly<Record<Side, Readonly<Record<Lane, Agent>>>>;

  constructor(options: TransportOptions) {
    this.#options = options;
    const { timeouts, maxConnections } = options.upstream;
    const agent = (connect: buildConnector.connector): Agent =>
      new Agent({
        connect,
        connections: maxConnections,
        pipelining: 1,
        // undici's window for a stream of HTTP/2 is too small for blobs from far away: scripts/bench/http2.ts --rtt 40.
        allowH2: false,
        maxHeaderSize: options.maxHeaderBytes,
        // undici starts this one anew with every 1xx answer; the deadline in `send` does not.
        headersTimeout: 0,
        bodyTimeout: timeouts.bodyMs,
        keepAliveTimeout: KEEP_ALIVE_MS,
      });
    this.#egress = createEgress(options.upstream.proxy, options.proxies);
    const connecting = { ...options, egress: this.#egress, resolve: options.lookup ?? systemLookup };
    const own = createConnector(connecting, "own");
    const foreign = createConnector(connecting, "foreign");
    this.#agents = {
      own: { documents: agent(own), bodies: agent(own) },
      foreign: { documents: agent(foreign), bodies: agent(foreign) },
    };
  }

  send(request: TransportRequest): Promise<TransportResponse> {
    const { signal, url } = request;
    const { name, timeouts } = this.#options.upstream;
    // In the clear a proxy is asked for the whole URL on each connection; behind TLS it was asked for the connection.
    const proxy = url.protocol === "http:" ? this.#egress.proxyFor(url) : undefined;
    const target = `${url.pathname}${url.search}`;
    const fail = (error: unknown): unknown => (signal.aborted ? signal.reason : transportError(name, url, error));
    const dispatcher = new WatchedDispatcher(this.#agents[request.side][request.lane], {
      clock: this.#options.clock,
      headersMs: Math.max(timeouts.headersMs, request.headersMs ?? 0),
      received: (bytes) => request.received(bytes),
      fail,
    });
    return new Promise((resolve, reject) => {
      // undici looks at the signal only once the request has a connection; who waits for one must be able to leave.
      const onAbort = (): void => reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) {
        onAbort();
        return;
      }
      dispatcher
        .request({
          origin: url.origin,
          path: proxy === undefined ? target : `${url.origin}${target}`,
          method: request.method,
          headers: proxy === undefined ? request.headers : { ...request.headers, ...proxyAuthorization(proxy) },
          body: request.body ?? null,
          signal,
        })
        .finally(() => signal.removeEventListener("abort", onAbort))
        .then(
          ({ statusCode, headers, body }) => {
            if (proxy !== undefined && statusCode === PROXY_REFUSES) {
              discard(body, this.#options.clock);
              reject(fail(refusal(proxy.url.host, url.host, statusCode)));
              return;
            }
            resolve({
              status: statusCode,
              headers: headerView(headers),
              body,
              discard: () => discard(body, this.#options.clock),
            });
          },
          (error) => reject(fail(error)),
        );
    });
  }

  async close(): Promise<void> {
    const agents = Object.values(this.#agents).flatMap((lanes) => Object.values(lanes));
    await Promise.all(agents.map((agent) => agent.destroy()));
  }
}

function discard(body: Dispatcher.ResponseData["body"], clock: Clock): void {
  const late = withDeadline(new AbortController().signal, DISCARD_MS, clock);
  body.on("error", () => {});
  body
    .dump({ limit: DISCARD_BYTES, signal: late.signal })
    .catch(() => {})
    .finally(() => late.clear());
}

interface Watch {
  readonly clock: Clock;
  readonly headersMs: number;
  received(bytes: number): void;
  /** What the reader of the body is told instead of undici's error. */
  fail(error: unknown): unknown;
}

/** Lets one request go through an agent under a {@link WatchedHandler}. */
class WatchedDispatcher extends Dispatcher {
  readonly #agent: Agent;
  readonly #watch: Watch;

  constructor(agent: Agent, watch: Watch) {
    super();
    this.#agent = agent;
    this.#watch = watch;
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.#agent.dispatch(options, new WatchedHandler(handler, this.#watch));
  }
}

/** Adds to a request: a deadline for the headers as a whole, a bound on their number, a count of the body's bytes. */
class WatchedHandler implements Dispatcher.DispatchHandler {
  readonly #handler: Dispatcher.DispatchHandler;
  readonly #watch: Watch;
  #stopWaiting = (): void => {};

  constructor(handler: Dispatcher.DispatchHandler, watch: Watch) {
    this.#handler = handler;
    this.#watch = watch;
  }

  // Called when the request goes out on a connection: waiting for one is not the upstream's slowness.
  onRequestStart(controller: Dispatcher.DispatchController, context: unknown): void {
    this.#stopWaiting();
    const late = withDeadline(new AbortController().signal, this.#watch.headersMs, this.#watch.clock);
    const onLate = (): void => controller.abort(new HeadersLateError());
    late.signal.addEventListener("abort", onLate, { once: true });
    this.#stopWaiting = () => {
      late.signal.removeEventListener("abort", onLate);
      late.clear();
    };
    this.#handler.onRequestStart?.(controller, context);
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Dispatcher.ResponseData["headers"],
    message?: string,
  ): void {
    if (status < 200) {
      return;
    }
    this.#stopWaiting();
    let lines = 0;
    for (const value of Object.values(headers)) {
      lines += Array.isArray(value) ? value.length : 1;
    }
    if (lines > MAX_HEADER_LINES) {
      controller.abort(new TooManyHeadersError(MAX_HEADER_LINES));
      return;
    }
    this.#handler.onResponseStart?.(controller, status, headers, message);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#watch.received(chunk.byteLength);
    this.#handler.onResponseData?.(controller, chunk);
  }

  onResponseEnd(...args: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseEnd"]>>): void {
    this.#handler.onResponseEnd?.(...args);
  }

  onResponseError(controller: Dispatcher.DispatchController, error: Error): void {
    this.#stopWaiting();
    const told = this.#watch.fail(error);
    this.#handler.onResponseError?.(controller, told instanceof Error ? told : error);
  }
}
