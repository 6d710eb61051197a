import { promises as dns } from "node:dns";
import type { Readable } from "node:stream";
import { Agent, type buildConnector, type Dispatcher } from "undici";
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import type { EnvironmentProxies, UpstreamConfig } from "../config/types.ts";
import type { ConnectRules } from "./connect-rule.ts";
import { createEgress, type Egress } from "./egress.ts";
import { type HeaderView, headerView } from "./header-view.ts";
import { type BodyOnItsWay, LargeReads } from "./large-reads.ts";
import { ReceiveMemory } from "./receive-memory.ts";
import { ResponseBody } from "./response-body.ts";
import { createConnector } from "./transport-connect.ts";
import { asError, HeadersLateError, TooManyHeadersError, transportError } from "./transport-error.ts";
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
  /**
   * Raw bytes, never decompressed; fails with {@link UpstreamError}. **A piece is valid until the next is asked for.** Whoever
   * gets the response consumes, destroys or discards it.
   */
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
  /** What all transports of a process should share; one of its own if left out. */
  readonly memory?: ReceiveMemory | undefined;
}

const systemLookup: Lookup = (hostname) => dns.lookup(hostname, { all: true });

/** Reads the TLS files that the configuration names; throws with the key when one cannot be read. */
export function createTransport(options: TransportOptions): Transport {
  return new UndiciTransport(options);
}

class UndiciTransport implements Transport {
  readonly #options: TransportOptions;
  readonly #egress: Egress;
  readonly #memory: ReceiveMemory;
  readonly #reads: LargeReads;
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
    this.#memory = options.memory ?? new ReceiveMemory();
    this.#reads = new LargeReads(this.#memory);
    const connecting = {
      ...options,
      reads: this.#reads,
      egress: this.#egress,
      resolve: options.lookup ?? systemLookup,
    };
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
    return new Promise((resolve, reject) => {
      // undici knows no signal, and who waits for a connection must be able to leave.
      const onAbort = (): void => {
        reception.abort(signal.reason);
        reject(signal.reason);
      };
      const reception = new Reception({
        clock: this.#options.clock,
        memory: this.#memory,
        reads: this.#reads,
        headersMs: Math.max(timeouts.headersMs, request.headersMs ?? 0),
        received: (bytes) => request.received(bytes),
        fail,
        failed: reject,
        over: () => signal.removeEventListener("abort", onAbort),
        method: request.method,
        answered: ({ status, headers, body }) => {
          const throwAway = (): void => discard(body, this.#options.clock);
          if (proxy !== undefined && status === PROXY_REFUSES) {
            throwAway();
            reject(fail(refusal(proxy.url.host, url.host, status)));
            return;
          }
          resolve({ status, headers, body, discard: throwAway });
        },
      });
      signal.addEventListener("abort", onAbort, { once: true });
      if (signal.aborted) {
        onAbort();
        return;
      }
      this.#agents[request.side][request.lane].dispatch(
        {
          origin: url.origin,
          path: proxy === undefined ? target : `${url.origin}${target}`,
          method: request.method,
          headers: proxy === undefined ? request.headers : { ...request.headers, ...proxyAuthorization(proxy) },
          body: request.body ?? null,
        },
        reception,
      );
    });
  }

  async close(): Promise<void> {
    const agents = Object.values(this.#agents).flatMap((lanes) => Object.values(lanes));
    await Promise.all(agents.map((agent) => agent.destroy()));
  }
}

/** Throws the rest of a body away: read to its end if that is near, so that the connection can be used again. */
function discard(body: ResponseBody, clock: Clock): void {
  if (body.destroyed || body.readableFlowing === true) {
    return;
  }
  if ((body.length ?? 0) > DISCARD_BYTES) {
    body.destroy();
    return;
  }
  const late = withDeadline(new AbortController().signal, DISCARD_MS, clock);
  const end = (): void => void body.destroy();
  late.signal.addEventListener("abort", end, { once: true });
  let bytes = 0;
  body.on("data", (piece: Uint8Array) => {
    bytes += piece.length;
    if (bytes > DISCARD_BYTES) {
      body.destroy();
    }
  });
  body.once("close", () => {
    // A signal with a listener is kept, and what the listener knows.
    late.signal.removeEventListener("abort", end);
    late.clear();
    body.release();
  });
}

interface ReceptionOptions {
  readonly clock: Clock;
  readonly memory: ReceiveMemory;
  readonly reads: LargeReads;
  readonly method: TransportRequest["method"];
  /** For the headers as a whole, milliseconds. */
  readonly headersMs: number;
  received(bytes: number): void;
  /** What is told instead of undici's error. */
  fail(error: unknown): unknown;
  answered(response: Omit<TransportResponse, "body" | "discard"> & { readonly body: ResponseBody }): void;
  /** There will be no answer. */
  failed(error: unknown): void;
  /** Nothing is left that an abort could end. Called once. */
  over(): void;
}

/**
 * Takes one response from undici: with a deadline for the headers as a whole, a bound on their number and a count of the
 * body's bytes. undici's own `request` makes a body that keeps the connection's memory, which is used again here.
 */
class Reception implements Dispatcher.DispatchHandler {
  readonly #o: ReceptionOptions;
  #controller: Dispatcher.DispatchController | undefined;
  #body: ResponseBody | undefined;
  #onItsWay: BodyOnItsWay | undefined;
  #aborted: { readonly reason: unknown } | undefined;
  #stopWaiting = (): void => {};

  constructor(o: ReceptionOptions) {
    this.#o = o;
  }

  /** The body, if there is one already, fails with the reason. */
  abort(reason: unknown): void {
    this.#aborted = { reason };
    if (this.#body === undefined) this.#controller?.abort(asError(reason));
    else this.#body.destroy(asError(reason));
  }

  // Called when the request goes out on a connection: waiting for one is not the upstream's slowness.
  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#aborted !== undefined) {
      controller.abort(asError(this.#aborted.reason));
      return;
    }
    this.#stopWaiting();
    const late = withDeadline(new AbortController().signal, this.#o.headersMs, this.#o.clock);
    const onLate = (): void => controller.abort(new HeadersLateError());
    late.signal.addEventListener("abort", onLate, { once: true });
    this.#stopWaiting = () => {
      late.signal.removeEventListener("abort", onLate);
      late.clear();
    };
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Dispatcher.ResponseData["headers"],
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
    const view = headerView(headers);
    const length = this.#o.method === "HEAD" ? 0 : lengthIn(view);
    this.#onItsWay = this.#o.reads.bodyBegins(length, () => controller.paused);
    const body = new ResponseBody(controller, length, this.#o.memory);
    body.once("close", () => this.#o.over());
    this.#body = body;
    this.#o.answered({ status, headers: view, body });
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#o.received(chunk.byteLength);
    this.#onItsWay?.took(chunk.byteLength);
    this.#body?.gather(chunk);
  }

  onResponseEnd(): void {
    this.#onItsWay?.ended();
    this.#body?.complete();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#stopWaiting();
    const told = this.#o.fail(error);
    if (this.#body !== undefined) {
      this.#body.destroy(told instanceof Error ? told : error);
    } else {
      this.#o.over();
      this.#o.failed(told);
    }
  }
}

function lengthIn(headers: HeaderView): number | undefined {
  const header = headers.get("content-length") ?? "";
  return /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}
