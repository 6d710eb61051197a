import { once } from "node:events";
import http from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { ByteStream } from "../base/byte-stream.ts";
import type { Clock } from "../base/clock.ts";
import { DeadlineError, withDeadline } from "../base/deadline.ts";
import type { Log } from "../base/log.ts";
import type { Secret } from "../base/secret.ts";
import type { OpenStep, StepFields, TraceHeaders, TracePlace } from "../base/trail.ts";
import type { ListenAddress } from "../config/types.ts";
import { type Digest, isDigest } from "../oci/digest.ts";
import { DATE_HEADER, NONCE_HEADER, SIGNATURE_HEADER, SignatureCheck } from "./signature.ts";

/** Where a peer asks for a blob that is arriving: `?domain=`, `digest=`, `start=`. */
export const FILL_PATH = "/v1/fill";

/** On the answer: the blob's size in bytes, where an upstream has told it. */
export const TOTAL_HEADER = "weir-total";

/** A peer's request is a line and three headers. */
const MAX_HEADER_BYTES = 8 * 1024;
const HEADERS_MS = 5_000;

/** A peer that waits longer for an answer cannot tell this process from one that is frozen. */
const STARTING_MS = 2_000;

/** More than a fleet's processes ask of one another at once. */
const MAX_CONNECTIONS = 4_096;

/** A peer that takes nothing for so long is gone or frozen; it resumes from what it has. */
const STALLED_MS = 30_000;

/** What this process is downloading. */
export interface InFlight {
  /**
   * The blob's bytes from `start` on, following the download; undefined where it is not being downloaded. Resolves when its
   * size is known, or known not to be told; rejects with the signal's reason. The stream fails when the download does.
   */
  open(request: FillRequest, signal: AbortSignal): Promise<InFlightBody | undefined>;
}

export interface FillRequest {
  /** Whose bytes they are, as far as access goes; fills of one digest in two domains never meet. */
  readonly domain: string;
  readonly digest: Digest;
  /** Position of the first byte wanted. */
  readonly start: number;
}

export interface InFlightBody {
  /** Bytes. */
  readonly total: number | undefined;
  readonly body: ByteStream;
  /** Where in a trace the download is told of, if it is. */
  readonly place?: TracePlace | undefined;
}

/** Where what peers ask is taken down; telemetry/ implements it. */
export interface PeerTrails {
  /** @param from what the peer says of the trace that its request belongs to */
  asked(fields: StepFields, from: TraceHeaders): OpenStep;
}

/** What the streaming between processes reports; telemetry/ implements it. */
export interface PeerObserver {
  peerStream(result: PeerResult): void;
}

/**
 * How one stream between two processes ended.
 * - `served`, `broken`: given to a peer, to the end or not
 * - `unknown`: asked for what is not arriving here (any more)
 * - `starting`: asked for what will arrive, but whose upstream has yet to answer
 * - `refused`: not signed, or not by one of us
 * - `taken`, `lost`: received from a peer, to the end or not
 */
export type PeerResult = "served" | "broken" | "unknown" | "starting" | "refused" | "taken" | "lost";

export interface PeerServerDeps {
  readonly listen: ListenAddress;
  readonly secret: Secret;
  readonly inFlight: InFlight;
  readonly clock: Clock;
  readonly log: Log;
  readonly observer: PeerObserver;
  /** Undefined where nobody wants to know. */
  readonly trails?: PeerTrails | undefined;
}

/** The port where other processes of the fleet read what is arriving here: signed requests, blobs in flight, and nothing else. */
export interface PeerServer {
  listen(): Promise<ListenAddress>;
  /** Ends every stream; peers resume elsewhere. Repeatable. */
  stop(): Promise<void>;
}

export function createPeerServer(deps: PeerServerDeps): PeerServer {
  return new NodePeerServer(deps);
}

class NodePeerServer implements PeerServer {
  readonly #deps: PeerServerDeps;
  readonly #check: SignatureCheck;
  readonly #server: http.Server;
  readonly #sockets = new Set<Socket>();
  readonly #stopped = new AbortController();

  constructor(deps: PeerServerDeps) {
    this.#deps = deps;
    this.#check = new SignatureCheck(deps.secret, deps.clock);
    this.#server = http.createServer(
      { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: HEADERS_MS, requestTimeout: HEADERS_MS },
      (req, res) => {
        this.#answer(req, res).catch((err: unknown) => {
          deps.log.debug({ err }, "a stream to a peer broke off");
          req.socket.resetAndDestroy();
        });
      },
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    this.#server.on("clientError", (_, socket) => socket.destroy());
  }

  async listen(): Promise<ListenAddress> {
    const { host, port } = this.#deps.listen;
    // Of this process alone: what workers listen to is otherwise shared out among them.
    this.#server.listen({ port, host, exclusive: true });
    await once(this.#server, "listening");
    return { host, port: (this.#server.address() as AddressInfo).port };
  }

  async stop(): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    this.#stopped.abort(new Error("Weir is stopping"));
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #answer(req: http.IncomingMessage, res: http.ServerResponse): Promise<void> {
    const { observer, log } = this.#deps;
    const path = req.url ?? "";
    const header = (name: string): string | undefined => {
      const value = req.headers[name];
      return typeof value === "string" ? value : undefined;
    };
    const fault = this.#check.fault(
      { method: req.method ?? "", path },
      { date: header(DATE_HEADER), nonce: header(NONCE_HEADER), signature: header(SIGNATURE_HEADER) },
    );
    if (fault !== undefined) {
      observer.peerStream("refused");
      log.warn({ client: req.socket.remoteAddress, fault }, "a request to the cluster port is refused");
      end(res, 403);
      return;
    }
    const wanted = req.method === "GET" ? parseFillRequest(path) : undefined;
    if (wanted === undefined) {
      end(res, 400);
      return;
    }
    const step = this.#deps.trails?.asked({ digest: wanted.digest, start: wanted.start }, req.headers);
    try {
      await this.#serve(wanted, req, res, step);
    } finally {
      step?.end({ status: res.statusCode, broken: !res.writableEnded });
    }
  }

  async #serve(
    wanted: FillRequest,
    req: http.IncomingMessage,
    res: http.ServerResponse,
    step: OpenStep | undefined,
  ): Promise<void> {
    const { observer } = this.#deps;
    const left = new AbortController();
    const onClose = (): void => left.abort(new Error("the peer has left"));
    res.on("close", onClose);
    const signal = AbortSignal.any([left.signal, this.#stopped.signal]);
    const found = await this.#open(wanted, signal);
    if (found === undefined || found === "starting") {
      observer.peerStream(found ?? "unknown");
      end(res, found === undefined ? 404 : 503);
      return;
    }
    step?.joins(found.place);
    try {
      res.writeHead(200, {
        "content-type": "application/octet-stream",
        ...(found.total === undefined ? {} : { [TOTAL_HEADER]: String(found.total) }),
      });
      res.flushHeaders();
      res.setTimeout(STALLED_MS, () => req.socket.destroy());
      for await (const chunk of found.body) {
        // The chunk's memory is used again for the next one.
        if (!(await written(res, chunk))) throw new Error("the peer has left");
      }
      res.end();
      observer.peerStream("served");
    } catch (error) {
      observer.peerStream("broken");
      throw error;
    }
  }

  async #open(wanted: FillRequest, signal: AbortSignal): Promise<InFlightBody | "starting" | undefined> {
    const late = withDeadline(signal, STARTING_MS, this.#deps.clock);
    try {
      return await this.#deps.inFlight.open(wanted, late.signal);
    } catch (error) {
      if (error instanceof DeadlineError) return "starting";
      throw error;
    } finally {
      late.clear();
    }
  }
}

/** Resolves when the system has taken the bytes, with false where the peer has left. */
function written(res: http.ServerResponse, chunk: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => {
    const onClose = (): void => resolve(false);
    if (res.closed) {
      onClose();
      return;
    }
    res.once("close", onClose);
    res.write(chunk, (err) => {
      res.off("close", onClose);
      resolve(err === null || err === undefined);
    });
  });
}

function end(res: http.ServerResponse, status: number): void {
  res.writeHead(status, { "content-length": 0 });
  res.end();
}

/** The path of a request, as {@link parseFillRequest} reads it. */
export function formatFillRequest({ domain, digest, start }: FillRequest): string {
  return `${FILL_PATH}?${new URLSearchParams({ domain, digest, start: String(start) })}`;
}

function parseFillRequest(path: string): FillRequest | undefined {
  if (!URL.canParse(path, "http://peer")) return undefined;
  const { pathname, searchParams } = new URL(path, "http://peer");
  const domain = searchParams.get("domain") ?? "";
  const digest = searchParams.get("digest") ?? "";
  const start = searchParams.get("start") ?? "";
  if (pathname !== FILL_PATH || domain === "" || !isDigest(digest) || !/^\d{1,15}$/.test(start)) return undefined;
  return { domain, digest, start: Number(start) };
}
