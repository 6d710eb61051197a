import http from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { ListenAddress } from "../config/types.ts";
import { OciError } from "../oci/errors.ts";
import { errorAnswer } from "./errors.ts";
import { rawAnswer } from "./raw-answer.ts";
import { readTlsPair, type TlsFiles, type WatchTlsFiles } from "./tls.ts";

/** How long a connection may take over what is the client's business; all in milliseconds. */
export interface ListenerTimeouts {
  /** From the connection (or the request's first byte) to the end of its headers: ends slow-header attacks. */
  readonly headersMs: number;
  /** To the end of the request's body, of which only refused writes have one. */
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

/** After a forced end, how long handlers get to notice that their clients are gone. */
const SETTLE_MS = 5_000;

export type RequestHandler = (req: http.IncomingMessage, res: http.ServerResponse) => Promise<void>;

export interface ListenerOptions {
  readonly listen: ListenAddress;
  readonly tls: TlsFiles | undefined;
  readonly watchTlsFiles: WatchTlsFiles;
  /** Bytes of a request line and headers together. */
  readonly maxHeaderBytes: number;
  readonly timeouts: ListenerTimeouts;
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
  /** Ends a request's connection by a TCP reset, which no client takes for the end of a body; under TLS as well. */
  reset(req: http.IncomingMessage): void;
  /** Takes the certificate and key from their files again. A pair that does not fit together leaves the old one in force and is logged. */
  reloadTls(): Promise<void>;
  /** Stops listening, ends idle connections, and resets what is still busy after `graceMs`. Resolves when no handler is running. */
  stop(graceMs: number): Promise<void>;
}

export function createListener(options: ListenerOptions): Listener {
  return new NodeListener(options);
}

interface Connection {
  /** The TCP connection; under TLS not the socket that requests know. */
  readonly raw: Socket;
  readonly responses: Set<http.ServerResponse>;
}

class NodeListener implements Listener {
  readonly #options: ListenerOptions;
  readonly #connections = new Map<string, Connection>();
  readonly #bySocket = new WeakMap<Duplex, Connection>();
  readonly #handling = new Set<Promise<void>>();
  #server: http.Server | https.Server | undefined;
  #stopWatching: (() => void) | undefined;
  #stopping = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  async listen(handler: RequestHandler): Promise<ListenAddress> {
    const { listen, tls, timeouts, log } = this.#options;
    const server = await this.#createServer();
    this.#server = server;
    server.timeout = timeouts.stalledMs;
    server.on("connection", (socket: Socket) => this.#onConnection(socket));
    server.on("secureConnection", (socket: Socket) => this.#onSecureConnection(socket));
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

  reset(req: http.IncomingMessage): void {
    // A connection that is no longer known is closed already.
    this.#bySocket.get(req.socket)?.raw.resetAndDestroy();
  }

  async reloadTls(): Promise<void> {
    const { tls, log } = this.#options;
    if (tls === undefined || !(this.#server instanceof https.Server)) {
      return;
    }
    try {
      this.#server.setSecureContext({ ...TLS_FLOOR, ...(await readTlsPair(tls)) });
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
    for (const { raw, responses } of this.#connections.values()) {
      if (responses.size === 0) {
        raw.destroySoon();
      }
    }
    await this.#within(graceMs, closed);
    for (const { raw } of this.#connections.values()) {
      raw.resetAndDestroy();
    }
    await closed;
    await this.#within(SETTLE_MS, Promise.allSettled(this.#handling));
  }

  async #createServer(): Promise<http.Server | https.Server> {
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
    };
    return tls === undefined
      ? http.createServer(settings)
      : https.createServer({ ...settings, ...TLS_FLOOR, ...(await readTlsPair(tls)) });
  }

  #onConnection(raw: Socket): void {
    const address = addressOf(raw);
    const connection: Connection = { raw, responses: new Set() };
    this.#connections.set(address, connection);
    this.#bySocket.set(raw, connection);
    raw.once("close", () => {
      this.#connections.delete(address);
      for (const res of connection.responses) {
        // Node 22 tells only the response that has the socket; those queued behind it (pipelining) would wait for ever.
        if (res.socket === null) {
          res.emit("close");
        }
      }
    });
  }

  #onSecureConnection(socket: Socket): void {
    const connection = this.#connections.get(addressOf(socket));
    if (connection !== undefined) {
      this.#bySocket.set(socket, connection);
    }
  }

  #onRequest(req: http.IncomingMessage, res: http.ServerResponse, handler: RequestHandler): void {
    const connection = this.#bySocket.get(req.socket);
    connection?.responses.add(res);
    res.once("close", () => {
      connection?.responses.delete(res);
      if (this.#stopping && connection?.responses.size === 0) {
        // Its headers may have gone out before the stop, promising to keep the connection.
        req.socket.destroySoon();
      }
    });
    const handling = handler(req, res).catch((err: unknown) => {
      this.#options.log.error({ err }, "a request handler has failed");
      this.reset(req);
    });
    this.#handling.add(handling);
    void handling.finally(() => this.#handling.delete(handling));
  }

  /** Garbage, a TLS hello on the plain port, headers that are too large or too slow: ends that connection only. */
  #onClientError(err: NodeJS.ErrnoException, socket: Duplex): void {
    const { log, newRequestId, maxHeaderBytes } = this.#options;
    const connection = this.#bySocket.get(socket);
    const refusal = refusalOf(err, maxHeaderBytes);
    log.debug({ err, client: connection?.raw.remoteAddress }, "a connection was refused");
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

  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    const timer = new AbortController();
    const expired = this.#options.clock.sleep(ms, timer.signal).catch(() => {}); // cleared below
    await Promise.race([work, expired]);
    timer.abort();
  }
}

const TLS_FLOOR = { minVersion: "TLSv1.2" } as const;

/** The same for the TCP socket and the TLS socket on top of it, which Node does not otherwise relate. */
function addressOf(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}|${socket.localAddress}|${socket.localPort}`;
}

/** What to say to a peer whose bytes are not a request; undefined where it does not speak HTTP, or is gone. */
function refusalOf(err: NodeJS.ErrnoException, maxHeaderBytes: number): OciError | undefined {
  switch (err.code) {
    case "HPE_HEADER_OVERFLOW":
      return new OciError("UNSUPPORTED", `the request line and headers exceed ${maxHeaderBytes} bytes`, {
        status: 431,
      });
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new OciError("UNSUPPORTED", "the request took too long to arrive", { status: 408 });
    default:
      return err.code?.startsWith("HPE_")
        ? new OciError("UNSUPPORTED", "this is not an HTTP/1.1 request", { status: 400 })
        : undefined;
  }
}
