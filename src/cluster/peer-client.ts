import type { Readable } from "node:stream";
import { Agent } from "undici";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Secret } from "../base/secret.ts";
import type { OpenStep } from "../base/trail.ts";
import { type FillRequest, formatFillRequest, type PeerObserver, TOTAL_HEADER } from "./peer-server.ts";
import { signRequest } from "./signature.ts";

/** A peer is near, or it is gone. */
const CONNECT_MS = 2_000;
/** A process that is not frozen answers at once, if only that its own upstream has yet to tell a size. */
const HEADERS_MS = 5_000;
/** Without a byte for so long it is asked again, which shows whether it lives. */
const IDLE_MS = 5_000;
const KEEP_ALIVE_MS = 10_000;
/** Blobs that one process reads from one other at once. */
const MAX_CONNECTIONS = 256;

/** What a peer has of a blob: the bytes from where it was asked, following its download. */
export interface PeerBody {
  /** Bytes of the whole blob; undefined where no upstream has told. */
  readonly total: number | undefined;
  /** The caller owns it. An error or an early end is the peer's, and says nothing about the blob. */
  readonly body: Readable;
}

/** A peer could not be asked or did not answer as one of us. */
export class PeerError extends Error {
  override readonly name = "PeerError";
}

/** Reads from other processes of the fleet what is arriving there. */
export interface PeerClient {
  /**
   * Undefined where the peer is not downloading the blob (any more), `starting` where it has just begun. Rejects with a {@link PeerError}, or the signal's reason.
   *
   * @param address `host:port` of the peer's cluster port
   */
  open(address: string, request: FillRequest, o: CallOptions): Promise<PeerBody | "starting" | undefined>;
  close(): Promise<void>;
}

export interface PeerClientDeps {
  readonly secret: Secret;
  readonly clock: Clock;
  readonly observer: PeerObserver;
  newNonce(): string;
}

export function createPeerClient(deps: PeerClientDeps): PeerClient {
  const agent = new Agent({
    connect: { timeout: CONNECT_MS },
    connections: MAX_CONNECTIONS,
    pipelining: 1,
    headersTimeout: HEADERS_MS,
    bodyTimeout: IDLE_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
  });
  return {
    async open(address, request, o) {
      const { secret, clock, observer, newNonce } = deps;
      const path = formatFillRequest(request);
      const signed = signRequest({ method: "GET", path }, { secret, nowMs: clock.now(), nonce: newNonce() });
      const step = o.trail?.detail?.begin("peer-stream", { peer: address, start: request.start });
      try {
        const answer = await agent.request({
          origin: `http://${address}`,
          path,
          method: "GET",
          headers: { ...signed, ...step?.trail.place?.headers() },
          signal: o.signal,
        });
        step?.add({ status: answer.statusCode });
        if (answer.statusCode === 200) {
          watch(answer.body, observer, step);
          return { total: totalIn(answer.headers[TOTAL_HEADER]), body: answer.body };
        }
        await answer.body.dump();
        step?.end({});
        if (answer.statusCode === 404) {
          return undefined;
        }
        if (answer.statusCode === 503) {
          return "starting";
        }
        throw new PeerError(
          `the peer ${address} answered ${answer.statusCode}: the replicas need one cluster.secret, and clocks that agree`,
        );
      } catch (error) {
        step?.end({ result: "lost" });
        o.signal.throwIfAborted();
        observer.peerStream("lost");
        throw error instanceof PeerError
          ? error
          : new PeerError(`the peer ${address} cannot be asked: ${describe(error)}`, { cause: error });
      }
    },
    close: () => agent.destroy(),
  };
}

function watch(body: Readable, observer: PeerObserver, step: OpenStep | undefined): void {
  body.once("close", () => {
    const result = body.readableEnded ? "taken" : "lost";
    observer.peerStream(result);
    step?.end({ result });
  });
}

function totalIn(header: string | string[] | undefined): number | undefined {
  return typeof header === "string" && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
