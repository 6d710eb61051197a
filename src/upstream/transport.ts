import { promises as dns } from "node:dns";
import { readFileSync } from "node:fs";
import { isIP, type LookupFunction } from "node:net";
import type { Readable } from "node:stream";
import { getCACertificates } from "node:tls";
import { Agent, buildConnector, Dispatcher } from "undici";
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import type { UpstreamConfig } from "../config/types.ts";
import type { ConnectRule, ConnectRules } from "./connect-rule.ts";
import { type HeaderView, headerView } from "./header-view.ts";
import { AddressRefusedError, HeadersLateError, TooManyHeadersError, transportError } from "./transport-error.ts";

/** Real registries send under 60; parsing and keeping thousands serves nobody but an attacker. */
const MAX_HEADER_LINES = 512;

/** Node kills an attempt at one of several addresses after 250 ms, which is less than a far registry's handshake takes. */
const ADDRESS_ATTEMPT_MS = 500;

/** Idle connections outlive the gap between two pulls of one image, but not a balancer's usual 60 s. */
const KEEP_ALIVE_MS = 30_000;

/** A body that nobody wants is worth reading to its end only while that is cheaper than a new connection. */
const DISCARD_BYTES = 64 * 1024;
const DISCARD_MS = 5_000;

/** `documents` are small and wait for nobody; `bodies` carry blobs, so that these never queue a HEAD. */
export type Lane = "documents" | "bodies";

/** Which rule about addresses holds for a connection; a connection made under one is never used under the other. */
export type Side = "own" | "foreign";

export interface TransportRequest {
  readonly method: "GET" | "HEAD";
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
  readonly clock: Clock;
  readonly rules: ConnectRules;
  /** Bytes of a response's headers. */
  readonly maxHeaderBytes: number;
  readonly lookup?: Lookup | undefined;
}

/** Reads the TLS files that the configuration names; throws with the key when one cannot be read. */
export function createTransport(options: TransportOptions): Transport {
  return new UndiciTransport(options);
}

class UndiciTransport implements Transport {
  readonly #options: TransportOptions;
  readonly #agents: Readonly<Record<Side, Readonly<Record<Lane, Agent>>>>;

  constructor(options: TransportOptions) {
    this.#options = options;
    const { timeouts, maxConnections } = options.upstream;
    const agent = (connect: buildConnector.connector): Agent =>
      new Agent({
        connect,
        connections: maxConnections,
        pipelining: 1,
        allowH2: false,
        maxHeaderSize: options.maxHeaderBytes,
        // undici starts this one anew with every 1xx answer; the deadline in `send` does not.
        headersTimeout: 0,
        bodyTimeout: timeouts.bodyMs,
        keepAliveTimeout: KEEP_ALIVE_MS,
      });
    const own = ruledConnector(options, options.rules.own, readTls(options.upstream, "own"));
    const foreign = ruledConnector(options, options.rules.foreign, readTls(options.upstream, "foreign"));
    this.#agents = {
      own: { documents: agent(own), bodies: agent(own) },
      foreign: { documents: agent(foreign), bodies: agent(foreign) },
    };
  }

  send(request: TransportRequest): Promise<TransportResponse> {
    const { signal, url } = request;
    const { name, timeouts } = this.#options.upstream;
    const fail = (error: unknown): unknown => (signal.aborted ? signal.reason : transportError(name, url, error));
    const dispatcher = new WatchedDispatcher(this.#agents[request.side][request.lane], {
      clock: this.#options.clock,
      headersMs: timeouts.headersMs,
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
          path: `${url.pathname}${url.search}`,
          method: request.method,
          headers: request.headers,
          signal,
        })
        .finally(() => signal.removeEventListener("abort", onAbort))
        .then(
          ({ statusCode, headers, body }) =>
            resolve({
              status: statusCode,
              headers: headerView(headers),
              body,
              discard: () => discard(body, this.#options.clock),
            }),
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

/**
 * A connector that asks `rule` about each address at the moment of connecting, so that a name that resolves differently from
 * one look-up to the next gains nothing. One forbidden address among several is enough to refuse the host.
 */
function ruledConnector(
  options: TransportOptions,
  rule: ConnectRule,
  tls: buildConnector.BuildOptions,
): buildConnector.connector {
  const resolve = options.lookup ?? ((hostname) => dns.lookup(hostname, { all: true }));
  const lookup: LookupFunction = (hostname, wanted, callback) => {
    const failed = (error: unknown): void => callback(error instanceof Error ? error : new Error(String(error)), "", 0);
    resolve(hostname).then((addresses) => {
      for (const { address } of addresses) {
        const refusal = rule({ host: hostname, address });
        if (refusal !== undefined) {
          failed(new AddressRefusedError(refusal));
          return;
        }
      }
      const [first] = addresses;
      if (first === undefined) {
        failed(new Error(`${hostname} has no address`));
      } else if (wanted.all === true) {
        callback(null, [...addresses]);
      } else {
        callback(null, first.address, first.family);
      }
    }, failed);
  };
  const connect = buildConnector({
    ...tls,
    allowH2: false,
    timeout: options.upstream.timeouts.connectMs,
    lookup,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_MS,
  });
  return (target, callback) => {
    const literal = target.hostname.replace(/^\[(.*)\]$/, "$1");
    const refusal = isIP(literal) === 0 ? undefined : rule({ host: literal, address: literal });
    if (refusal === undefined) {
      connect(target, callback);
    } else {
      queueMicrotask(() => callback(new AddressRefusedError(refusal), null));
    }
  };
}

/** The operator's CAs count beside the usual ones, and everywhere; the client certificate is shown to the registry alone. */
function readTls(upstream: UpstreamConfig, side: Side): buildConnector.BuildOptions {
  const { tls } = upstream;
  const read = (key: "ca" | "cert" | "key"): string | undefined => {
    const path = tls[key];
    if (path === undefined) {
      return undefined;
    }
    try {
      return readFileSync(path, "utf8");
    } catch (cause) {
      throw new Error(`upstreams.${upstream.name}.tls.${key}: cannot read ${path}`, { cause });
    }
  };
  const ca = read("ca");
  const cert = side === "own" ? read("cert") : undefined;
  const key = side === "own" ? read("key") : undefined;
  return {
    rejectUnauthorized: !tls.insecureSkipVerify,
    ...(ca === undefined ? {} : { ca: [...getCACertificates("default"), ca] }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
}
