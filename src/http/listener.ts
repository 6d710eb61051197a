import http from "node:http";
import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Seldom } from "../base/seldom.ts";
import type { ListenAddress } from "../config/types.ts";
import { OciError } from "../oci/errors.ts";
import { commonHeaders } from "./common-headers.ts";
import { type Connection, type ConnectionLimits, Connections } from "./connections.ts";
import { errorAnswer } from "./errors.ts";
import { HTTP2_OPTIONS, headerBytes, http2Request, limitSession, limitStream, resetStream } from "./http2.ts";
import type { ConnectionEnd, ConnectionObserver } from "./observer.ts";
import { rawAnswer } from "./raw-answer.ts";
import { ClientStalledError } from "./send-bytes.ts";
import { readTlsSettings, type TlsFiles, type WatchTlsFiles } from "./tls.ts";

/** How long a connection may take over what is the client's business; all in milliseconds. */
export interface ListenerTimeouts {
  /** From the connection (or the request's first byte) to the end of its headers, and for the TLS handshake: ends slow-header attacks. */
  readonly headersMs: number;
  /** To the end of the request's body. */
  readonly requestMs: number;
  /** How often the two above are looked at. */
  readonly checkMs: number;
  /** How long an idle connection is kept: longer than a balancer's usual 60 s, so that the balancer closes first. */
  readonly keepAliveMs: number;
  /** How long a client may leave waiting bytes untaken. Container engines give a pull without progress up after 5 minutes. */
  readonly stalledMs: number;
}

export const LISTENER_TIMEOUTS: ListenerTimeouts = {
  headersMs: 20_000,
  requestMs: 60_000,
  checkMs: 5_000,
  keepAliveMs: 75_000,
  stalledMs: 300_000,
};

/** How often the log tells of the same cause of ended connections. */
const TELL_EVERY_MS = 60_000;

/** After a forced end, how long handlers get to notice that their clients are gone. */
const SETTLE_MS = 5_000;

/** Gives `sent` where the operating system has the whole answer, and `sending` where the response's end is all that is to come. */
export type RequestHandler = (
  req: http.IncomingMessage,
  res: http.ServerResponse,
) => Promise<void> | "sending" | "sent";

export interface ListenerOptions {
  readonly listen: ListenAddress;
  readonly tls: TlsFiles | undefined;
  readonly watchTlsFiles: WatchTlsFiles;
  /** Bytes of a request line and headers together. */
  readonly maxHeaderBytes: number;
  readonly timeouts: ListenerTimeouts;
  readonly connections: ConnectionLimits;
  readonly observer: ConnectionObserver;
  readonly newRequestId: () => string;
  readonly clock: Clock;
  readonly log: Log;
}

/** A listening port and the connections that came in by it. */
export interface Listener {
  /** True once {@link stop} was called: answers should say `Connection: close`. */
  readonly stopping: boolean;
  /** Starts to listen; rejects when the address cannot be had or the TLS files cannot be used. */
  listen(handler: RequestHandler): Promise<ListenAddress>;
  /**
   * Ends a request so that no client takes it for the end of a body: its connection by a TCP reset, under TLS as well, or its
   * stream of HTTP/2.
   *
   * @param cause what went wrong; counted where it is the client's doing
   */
  reset(req: http.IncomingMessage, cause: unknown): void;
  /** Takes the certificate and key from their files again. A pair that does not fit together leaves the old one in force and is logged. */
  reloadTls(): Promise<void>;
  /** Stops listening, ends idle connections, and resets what is still busy after `graceMs`. Resolves when no handler is running. */
  stop(graceMs: number): Promise<void>;
}

export function createListener(options: ListenerOptions): Listener {
  return new NodeListener(options);
}

class NodeListener implements Listener {
  readonly #options: ListenerOptions;
  readonly #connections: Connections;
  readonly #told: Seldom<ConnectionEnd | "certificate">;
  readonly #handling = new Set<Promise<void>>();
  #server: http.Server | Http2SecureServer | undefined;
  #stopWatching: (() => void) | undefined;
  #stopping = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#connections = new Connections(options.connections);
    this.#told = new Seldom({ clock: options.clock, everyMs: TELL_EVERY_MS });
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  async listen(handler: RequestHandler): Promise<ListenAddress> {
    const { listen, tls, timeouts, log } = this.#options;
    const server = await this.#createServer();
    this.#server = server;
    Object.assign(server, { timeout: timeouts.stalledMs });
    const taken = server.listeners("connection");
    server.removeAllListeners("connection");
    server.on("connection", (socket: Socket) => {
      if (this.#takeIn(socket)) {
        for (const listener of taken) listener.call(server, socket);
      } else {
        socket.resetAndDestroy();
      }
    });
    server.prependListener("secureConnection", (socket: TLSSocket) => this.#onSecureConnection(socket));
    server.on("session", (session: ServerHttp2Session) => this.#onSession(session));
    server.on("clientError", (err: NodeJS.ErrnoException, socket: Duplex) => this.#onClientError(err, socket));
    const onRequest = (req: http.IncomingMessage, res: http.ServerResponse): void => this.#onRequest(req, res, handler);
    server.on("request", onRequest);
    // Without a 100 a client keeps the body of a write that is about to be refused.
    server.on("checkContinue", onRequest);
    server.on("checkExpectation", onRequest);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: listen.host, port: listen.port }, () => {
        server.off("error", reject);
        resolve();
      });
    });
    server.on("error", (err) => log.error({ err }, "the listener has failed"));
    if (tls !== undefined) {
      this.#stopWatching = this.#options.watchTlsFiles(tls, () => void this.reloadTls());
    }
    const bound = server.address() as AddressInfo;
    return { host: bound.address, port: bound.port };
  }

  reset(req: http.IncomingMessage, cause: unknown): void {
    if (cause instanceof ClientStalledError) {
      this.#ended("stalled", req.socket.remoteAddress);
    }
    const request = http2Request(req);
    if (request !== undefined) {
      resetStream(request);
    } else {
      // A connection that is no longer known is closed already.
      this.#connections.of(req.socket)?.raw.resetAndDestroy();
    }
  }

  async reloadTls(): Promise<void> {
    const { tls, log } = this.#options;
    const server = this.#server;
    if (tls === undefined || server === undefined || !("setSecureContext" in server)) {
      return;
    }
    try {
      // With it go the keys of session tickets: nobody resumes what an authority of before has vouched for.
      server.setSecureContext(await readTlsSettings(tls));
      log.info({ cert: tls.certFile }, "the TLS certificate was read again");
    } catch (err) {
      log.warn({ err, cert: tls.certFile }, "the new TLS certificate cannot be used; the old one stays in force");
    }
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#stopWatching?.();
    const server = this.#server;
    if (server === undefined) {
      return;
    }
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    for (const { raw, responses } of this.#connections) {
      if (responses.size === 0) {
        raw.destroySoon();
      }
    }
    await this.#within(graceMs, closed);
    for (const { raw } of this.#connections) {
      raw.resetAndDestroy();
    }
    await closed;
    await this.#within(SETTLE_MS, Promise.allSettled([...this.#handling, ...this.#unfinished()]));
  }

  /** Of responses that have not come to their end: the server is closed before its connections have said that they are. */
  #unfinished(): readonly Promise<void>[] {
    return [...this.#connections].flatMap(({ responses }) =>
      [...responses].map((res) => new Promise<void>((resolve) => res.once("close", resolve))),
    );
  }

  async #createServer(): Promise<http.Server | Http2SecureServer> {
    const { maxHeaderBytes, timeouts, tls } = this.#options;
    const settings: http.ServerOptions = {
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: timeouts.headersMs,
      requestTimeout: timeouts.requestMs,
      connectionsCheckingInterval: timeouts.checkMs,
      keepAliveTimeout: timeouts.keepAliveMs,
      // The handler refuses a missing Host itself, with the headers that stand on every answer.
      requireHostHeader: false,
      // Finds out that a peer has vanished without a word.
      keepAlive: true,
      // Nearly no request has a body; a stream for none is not free of charge. Node 22 has no such option.
      optimizeEmptyRequests: true,
    };
    if (tls === undefined) {
      return http.createServer(settings);
    }
    const server = createSecureServer({
      ...(await readTlsSettings(tls)),
      ...HTTP2_OPTIONS,
      ...CLIENT_CERTIFICATES[tls.clientCaFile === undefined ? "unwanted" : "wanted"],
      handshakeTimeout: timeouts.headersMs,
    });
    // Of HTTP/1.1 beside it. As options, Node 22 would not hear of them.
    return Object.assign(server, settings);
  }

  /** False where there is no place for one more connection. */
  #takeIn(raw: Socket): boolean {
    const { observer } = this.#options;
    if (!this.#connections.admit(raw, (limit) => this.#ended(limit, raw.remoteAddress))) {
      return false;
    }
    observer.connectionOpened();
    raw.once("close", () => {
      observer.connectionClosed();
      for (const res of this.#connections.of(raw)?.responses ?? []) {
        // Node 22 tells only the response that has the socket; those queued behind it (pipelining) would wait for ever.
        if (res.socket === null) {
          res.emit("close");
        }
      }
    });
    return true;
  }

  #onSecureConnection(socket: TLSSocket): void {
    this.#connections.recognise(socket, socket);
    const { log, tls } = this.#options;
    if (tls?.clientCaFile !== undefined && !socket.authorized && socket.getPeerX509Certificate() !== undefined) {
      const { authorizationError: reason, remoteAddress: client } = socket;
      this.#told.tell("certificate", (times) =>
        log.warn(
          { client, reason: String(reason), times },
          "a client's certificate could not be verified: it counts as none",
        ),
      );
    }
  }

  #onSession(session: ServerHttp2Session): void {
    if (!this.#connections.recognise(session, session.socket)) {
      session.destroy();
      return;
    }
    limitSession(session, this.#options.timeouts, () => !this.#connections.of(session)?.responses.size);
  }

  #onRequest(req: http.IncomingMessage, res: http.ServerResponse, handler: RequestHandler): void {
    const request = http2Request(req);
    const connection = this.#connections.of(request?.stream.session ?? req.socket);
    if (request !== undefined) {
      limitStream(request, res, this.#options.timeouts, () =>
        this.#ended("slow-request", connection?.raw.remoteAddress),
      );
    }
    if (request !== undefined && headerBytes(request) > this.#options.maxHeaderBytes) {
      this.#underWay(req, res, connection);
      // HTTP/1.1 has its limit in Node's parser.
      this.#ended("large-headers", connection?.raw.remoteAddress);
      const answer = errorAnswer(headersTooLarge(this.#options.maxHeaderBytes));
      res.writeHead(answer.status, { ...answer.headers, ...commonHeaders(answer, this.#options.newRequestId()) });
      res.end(answer.body);
      return;
    }
    const begun = begin(handler, req, res);
    if (begun === "sent") {
      if (connection !== undefined) this.#connections.used(connection);
      return;
    }
    this.#underWay(req, res, connection);
    if (begun === "sending") {
      return;
    }
    const handling = begun.catch((err: unknown) => {
      this.#options.log.error({ err }, "a request handler has failed");
      this.reset(req, err);
    });
    this.#handling.add(handling);
    void handling.finally(() => this.#handling.delete(handling));
  }

  #underWay(req: http.IncomingMessage, res: http.ServerResponse, connection: Connection | undefined): void {
    if (connection === undefined) {
      return;
    }
    this.#connections.began(connection, res);
    res.once("close", () => {
      this.#connections.finished(connection, res);
      if (this.#stopping && http2Request(req) === undefined && connection.responses.size === 0) {
        // Its headers may have gone out before the stop, promising to keep the connection.
        req.socket.destroySoon();
      }
    });
  }

  /** Garbage, a TLS hello on the plain port, headers that are too large or too slow: ends that connection only. */
  #onClientError(err: NodeJS.ErrnoException, socket: Duplex): void {
    const { log, newRequestId, maxHeaderBytes } = this.#options;
    const connection = this.#connections.of(socket);
    const client = connection?.raw.remoteAddress;
    const refusal = refusalOf(err, maxHeaderBytes);
    log.debug({ err, client }, "a connection was refused");
    const end = endOf(err);
    if (end !== undefined) {
      this.#ended(end, client);
    }
    if (refusal === undefined || !socket.writable) {
      socket.destroy();
    } else if (connection !== undefined && connection.responses.size > 0) {
      // An answer is under way: more bytes would pass for a part of it.
      connection.raw.resetAndDestroy();
    } else {
      // Starts with "HTTP/": by this dockerd and podman see that a port which they greet with TLS is a plain one.
      socket.end(rawAnswer(errorAnswer(refusal), newRequestId()), () => socket.destroy());
    }
  }

  #ended(why: ConnectionEnd, client: string | undefined): void {
    const { observer, log } = this.#options;
    observer.connectionEnded(why);
    this.#told.tell(why, (times) => log.warn({ why, client, times }, ENDED[why]));
  }

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    const timer = new AbortController();
    const expired = this.#options.clock.sleep(ms, timer.signal).catch(() => {}); // cleared below
    await Promise.race([work, expired]);
    timer.abort();
  }
}

/** What fails at once fails as what fails later. */
function begin(
  handler: RequestHandler,
  req: http.IncomingMessage,
  res: http.ServerResponse,
): ReturnType<RequestHandler> {
  try {
    return handler(req, res);
  } catch (err) {
    return Promise.reject(err);
  }
}

/** Whether clients are asked for a certificate. One that cannot be verified is looked past: what is served to whom is decided later. */
const CLIENT_CERTIFICATES = {
  wanted: { requestCert: true, rejectUnauthorized: false },
  unwanted: {},
} as const;

const ENDED: Readonly<Record<ConnectionEnd, string>> = {
  connections:
    "there are as many connections as limits.connections allows: newcomers take the place of idle ones, or are reset",
  "connections-per-client":
    "a client has as many connections as limits.connectionsPerClient allows: its newest take the place of idle ones, or are reset",
  "slow-request": "a request took too long to arrive: its connection was ended",
  "large-headers": "a request's headers are larger than limits.requestHeaders allows: its connection was ended",
  malformed: "what came on a connection is not a request: it was ended",
  stalled: "a client has stopped taking its answer: its connection was ended",
};

/** Why a peer's connection ends; undefined where the peer itself has ended it. */
function endOf(err: NodeJS.ErrnoException): ConnectionEnd | undefined {
  switch (err.code) {
    case "HPE_HEADER_OVERFLOW":
      return "large-headers";
    case "ERR_HTTP_REQUEST_TIMEOUT":
    case "ERR_TLS_HANDSHAKE_TIMEOUT":
      return "slow-request";
    default:
      return /^(?:HPE|ERR_SSL)_/.test(err.code ?? "") ? "malformed" : undefined;
  }
}

/** What to say to a peer whose bytes are not a request; undefined where it does not speak HTTP, or is gone. */
function refusalOf(err: NodeJS.ErrnoException, maxHeaderBytes: number): OciError | undefined {
  switch (err.code) {
    case "HPE_HEADER_OVERFLOW":
      return headersTooLarge(maxHeaderBytes);
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new OciError("UNSUPPORTED", "the request took too long to arrive", { status: 408 });
    default:
      return err.code?.startsWith("HPE_")
        ? new OciError("UNSUPPORTED", "this is not an HTTP/1.1 request", { status: 400 })
        : undefined;
  }
}

function headersTooLarge(maxHeaderBytes: number): OciError {
  return new OciError("UNSUPPORTED", `the request line and headers exceed ${maxHeaderBytes} bytes`, { status: 431 });
}
