import { type IncomingMessage, type ServerResponse, STATUS_CODES, validateHeaderValue } from "node:http";
import type { Socket } from "node:net";
import type { Identity } from "../access/identity.ts";
import type { Clock } from "../base/clock.ts";
import type { CacheInfo, PullThrough, ReadyAnswer } from "../proxy/answers.ts";
import { type RequestRecord, requestSubject } from "./access-log.ts";
import type { Answer } from "./answer.ts";
import { formatCacheStatus } from "./cache-status.ts";
import { commonHeaders, requestHeaders } from "./common-headers.ts";
import { matchesEntityTag } from "./conditional.ts";
import { isReturned } from "./hand-over.ts";
import { type CallOf, readyAnswers } from "./handlers.ts";
import { Hit } from "./hit.ts";
import { http2Request } from "./http2.ts";
import type { Arrival, RequestRecords } from "./request-records.ts";
import type { RouteTable } from "./route.ts";
import { ClientStalledError } from "./send-bytes.ts";
import { judged, presentedBy, type SignInSource } from "./sign-in.ts";

export interface HotPathDeps {
  readonly proxy: Pick<PullThrough, "ready">;
  readonly signIn: SignInSource;
  routes(): RouteTable;
  readonly records: RequestRecords;
  readonly clock: Clock;
  /** For how long a connection is kept without a request, as clients are told. */
  readonly keepAliveMs: number;
  /** Whether connections are to end with their current answer. */
  closing(): boolean;
}

/** What can be answered ready-made. */
type ReadyOperation = CallOf<"manifest"> | CallOf<"blob">;

/**
 * Up to here a body is kept as text as well, which Node puts behind the headers in one piece and writes at once; larger ones
 * cost more to copy than a second piece does. Bytes.
 */
const MAX_TEXT_BYTES = 8 * 1024;

/**
 * Answers at once what the proxy has at hand, with nothing to wait for: no Koa, no promise. It decides nothing, and leaves
 * whatever is out of the ordinary to the long way, which gives the same answers.
 */
export class HotPath {
  readonly #deps: HotPathDeps;
  readonly #prepared = new WeakMap<ReadyAnswer, Prepared>();
  /** By the bytes, which several answers may share. */
  readonly #texts = new WeakMap<Uint8Array, string>();
  #endsAt = { seconds: Number.NaN, text: "" };

  constructor(deps: HotPathDeps) {
    this.#deps = deps;
  }

  /** Undefined where nothing was done: the request has to go the long way. */
  answers(req: IncomingMessage, res: ServerResponse): "sent" | "sending" | undefined {
    const { proxy, routes, records, closing, clock } = this.#deps;
    const { headers, url: target = "", method = "" } = req;
    if (!isPlain(req)) return undefined;
    const line = { method, target, host: headers.host };
    const call = routes().remembered.get(line);
    if (call === undefined || (call.op !== "manifest" && call.op !== "blob")) return undefined;
    const startedAtMs = clock.now();
    const arrival = records.arrival(req);
    const identity = this.#identityOf(req, arrival, call);
    if (identity === undefined) return undefined;
    const ifNoneMatch = headers["if-none-match"];
    const head = method === "HEAD";
    const ready = proxy.ready(
      call.op === "manifest"
        ? {
            repo: call.repo,
            asked: { kind: "manifest", reference: call.reference },
            head,
            accept: headers.accept,
            identity,
          }
        : {
            repo: call.repo,
            asked: { kind: "blob", digest: call.digest },
            head: head || matchesEntityTag(ifNoneMatch, call.digest),
            accept: undefined,
            identity,
          },
    );
    if (ready === undefined) return undefined;
    const unchanged = matchesEntityTag(ifNoneMatch, ready.digest);
    const bytes = head || unchanged ? undefined : ready.bytes;
    if (bytes?.length !== (head || unchanged ? undefined : ready.size)) return undefined;
    const prepared = this.#preparedOf(ready, call);
    const cache = this.#cacheOf(ready, prepared, startedAtMs);
    const top = unchanged ? prepared.unchanged : prepared.whole;
    const hit = { arrival, startedAtMs, call, account: identity.account, cache, bytes };
    const close = closing();
    const more = requestHeaders(call, close);
    const socket = close || unchanged ? undefined : plainSocketOf(req, res, arrival);
    const text = socket && top.text(arrival.requestId, prepared.cacheStatus, more, this.#endOfHead(startedAtMs));
    if (socket !== undefined && text !== undefined) return this.#sendDirectly(req, res, socket, text, hit);
    try {
      res.writeHead(top.status, top.fill(arrival.requestId, prepared.cacheStatus, more));
    } catch {
      // A media type that is not text, for one.
      return undefined;
    }
    const record = this.#recordOf(req, res, hit);
    res.once("close", () => {
      if (res.writableFinished) record.bytesSent = bytes?.length ?? 0;
      records.ended(req, res, record);
    });
    if (bytes?.length !== 0) records.firstByte(record);
    if (bytes === undefined) res.end();
    else if (bytes.length > MAX_TEXT_BYTES) res.end(bytes);
    else res.end(this.#textOf(bytes), "latin1");
    return "sending";
  }

  /**
   * Writes the whole answer to the connection. Node's response, which would take half as long again, is told only that it is
   * over: what it does then, for the next request and for the connection's timeouts, is as ever.
   */
  #sendDirectly(
    req: IncomingMessage,
    res: ServerResponse,
    socket: Socket,
    head: string,
    found: Found,
  ): "sent" | "sending" {
    const { records } = this.#deps;
    const { arrival, bytes } = found;
    if (bytes === undefined || bytes.length <= MAX_TEXT_BYTES) {
      socket.write(bytes === undefined ? head : head + this.#textOf(bytes), "latin1");
    } else {
      socket.cork();
      socket.write(head, "latin1");
      socket.write(bytes);
      socket.uncork();
    }
    if (socket.writableLength === 0 && socket.errored === null) {
      const { method = "", url: target = "", httpVersion, headers } = req;
      const { requestId, from } = arrival;
      const { startedAtMs, call, account, cache } = found;
      res.emit("finish");
      const totalMs = records.since(arrival);
      const hit = new Hit({
        requestId,
        startedAtMs,
        // With the last.
        firstByteMs: bytes?.length === 0 ? undefined : totalMs,
        totalMs,
        account,
        call,
        cache,
        bytesSent: bytes?.length ?? 0,
        method,
        target,
        client: from.shown,
        status: res.statusCode,
        agent: headers["user-agent"],
        scheme: from.scheme,
        httpVersion,
      });
      records.endedAtOnce(req, hit);
      return "sent";
    }
    const direct = { complete: false };
    const record = this.#recordOf(req, res, found);
    record.direct = direct;
    if (bytes?.length !== 0) records.firstByte(record);
    res.once("close", () => {
      if (direct.complete) record.bytesSent = bytes?.length ?? 0;
      records.ended(req, res, record);
    });
    // Called when all that was written before is with the operating system.
    socket.write("", (err) => {
      if (err) return;
      direct.complete = true;
      res.emit("finish");
    });
    return "sending";
  }

  /** Of an answer whose end is still to come. */
  #recordOf(req: IncomingMessage, res: ServerResponse, { arrival, call, account, cache }: Found): RequestRecord {
    const { records } = this.#deps;
    const { method = "", url: target = "", headers } = req;
    const record = records.begin(req, arrival);
    record.call = call;
    record.account = account;
    record.cache = cache;
    record.trail.routed(() => requestSubject({ method, target, host: headers.host }, call));
    // As for the long way's bytes: whoever takes nothing for that long is cut off.
    res.on("timeout", () => records.cutOff(req, record, new ClientStalledError()));
    return record;
  }

  /** What Node itself puts behind the headers, the same for a second. */
  #endOfHead(nowMs: number): string {
    const { keepAliveMs } = this.#deps;
    const seconds = Math.floor(nowMs / 1000);
    if (seconds !== this.#endsAt.seconds) {
      const date = new Date(seconds * 1000).toUTCString();
      const keepAlive = `Keep-Alive: timeout=${Math.floor(keepAliveMs / 1000)}`;
      this.#endsAt = { seconds, text: `Date: ${date}\r\nConnection: keep-alive\r\n${keepAlive}\r\n\r\n` };
    }
    return this.#endsAt.text;
  }

  /** Who asks; undefined where that has to be found out, or they are to be refused. */
  #identityOf(req: IncomingMessage, arrival: Arrival, call: ReadyOperation): Identity | undefined {
    const { signIn } = this.#deps;
    const { from } = arrival;
    try {
      from.admit();
    } catch {
      return undefined;
    }
    const access = signIn.access();
    if (access === undefined) return signIn.anonymous(from.address);
    const identity = access.authenticator.known(presentedBy(req, arrival));
    return identity && judged(identity, call, access);
  }

  #preparedOf(ready: ReadyAnswer, call: ReadyOperation): Prepared {
    let prepared = this.#prepared.get(ready);
    if (prepared === undefined) {
      const { whole, unchanged } = readyAnswers(call, ready);
      prepared = {
        whole: new Top(whole),
        unchanged: new Top(unchanged),
        cache: whole.cache,
        cacheStatus: formatCacheStatus(whole.cache),
      };
      this.#prepared.set(ready, prepared);
    }
    return prepared;
  }

  /** The same for a whole second. */
  #cacheOf({ freshUntilMs }: ReadyAnswer, prepared: Prepared, nowMs: number): CacheInfo {
    if (freshUntilMs === undefined) return prepared.cache;
    const ttlS = Math.max(0, Math.floor((freshUntilMs - nowMs) / 1000));
    if (prepared.cache.ttlS !== ttlS) {
      prepared.cache = { ...prepared.cache, ttlS };
      prepared.cacheStatus = formatCacheStatus(prepared.cache);
    }
    return prepared.cache;
  }

  #textOf(bytes: Uint8Array): string {
    let text = this.#texts.get(bytes);
    if (text === undefined) {
      text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
      this.#texts.set(bytes, text);
    }
    return text;
  }
}

/** What the request is answered with, and what of it has to be told. */
interface Found {
  readonly arrival: Arrival;
  readonly startedAtMs: number;
  readonly call: ReadyOperation;
  readonly account: string | undefined;
  readonly cache: CacheInfo;
  readonly bytes: Uint8Array | undefined;
}

/** What is made of an answer once, for as long as it holds. */
interface Prepared {
  readonly whole: Top;
  readonly unchanged: Top;
  cache: CacheInfo;
  cacheStatus: string;
}

/** Status and headers, names and values by turns as Node writes them fastest, with places for what differs. */
class Top {
  readonly status: number;
  readonly #headers: string[];
  readonly #requestIdAt: number;
  readonly #cacheStatusAt: number;
  /** The status line and all headers before the two that differ, which are the last; undefined where Node would not write them. */
  readonly #start: string | undefined;

  constructor(answer: Answer) {
    this.status = answer.status;
    const headers = Object.entries({ ...answer.headers, ...commonHeaders(answer, "") });
    const at = (name: string): number => headers.findIndex(([known]) => known === name) * 2 + 1;
    this.#requestIdAt = at("X-Request-Id");
    this.#cacheStatusAt = at("Cache-Status");
    this.#headers = headers.flat();
    this.#start = startOf(this.status, headers);
  }

  /** The same as Node would make of {@link fill}; undefined where it would refuse to. */
  text(
    requestId: string,
    cacheStatus: string,
    more: Readonly<Record<string, string>>,
    end: string,
  ): string | undefined {
    if (this.#start === undefined) return undefined;
    let text = `${this.#start}Cache-Status: ${cacheStatus}\r\nX-Request-Id: ${requestId}\r\n`;
    for (const name in more) text += `${name}: ${more[name]}\r\n`;
    return text + end;
  }

  /** Good until the next call. */
  fill(requestId: string, cacheStatus: string, more: Readonly<Record<string, string>>): string[] {
    this.#headers[this.#requestIdAt] = requestId;
    this.#headers[this.#cacheStatusAt] = cacheStatus;
    const others = Object.entries(more);
    return others.length === 0 ? this.#headers : [...this.#headers, ...others.flat()];
  }
}

function startOf(status: number, headers: readonly (readonly [string, string])[]): string | undefined {
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n`;
  for (const [name, value] of headers) {
    if (name === "Cache-Status") break;
    try {
      validateHeaderValue(name, value);
    } catch {
      return undefined;
    }
    text += `${name}: ${value}\r\n`;
  }
  return text;
}

/** The connection, where a whole answer may be written to it here and now: it is kept, and none of its answers is under way. */
function plainSocketOf(req: IncomingMessage, res: ServerResponse, { from }: Arrival): Socket | undefined {
  const { socket } = res;
  const isFree = socket !== null && socket.writableLength === 0 && socket.writable;
  return isFree && res.shouldKeepAlive && req.httpVersion === "1.1" && from.scheme === "http" ? socket : undefined;
}

/** Whether there is nothing to it but its path and who sends it. */
function isPlain(req: IncomingMessage): boolean {
  const { method, headers } = req;
  return (
    (method === "GET" || method === "HEAD") &&
    headers.range === undefined &&
    headers["if-range"] === undefined &&
    headers["content-length"] === undefined &&
    headers["transfer-encoding"] === undefined &&
    headers.expect === undefined &&
    !isReturned(headers) &&
    http2Request(req) === undefined
  );
}
