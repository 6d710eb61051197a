import type { IncomingMessage, ServerResponse } from "node:http";
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
import { http2Request } from "./http2.ts";
import type { RequestRecords } from "./request-records.ts";
import type { RouteTable } from "./route.ts";
import { ClientStalledError } from "./send-bytes.ts";
import { judged, presentedBy, type SignInSource } from "./sign-in.ts";

export interface HotPathDeps {
  readonly proxy: Pick<PullThrough, "ready">;
  readonly signIn: SignInSource;
  routes(): RouteTable;
  readonly records: RequestRecords;
  readonly clock: Clock;
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

  constructor(deps: HotPathDeps) {
    this.#deps = deps;
  }

  /** False where nothing was done: the request has to go the long way. */
  answers(req: IncomingMessage, res: ServerResponse, record: RequestRecord): boolean {
    const { proxy, routes, records, closing } = this.#deps;
    const { headers, url: target = "", method = "" } = req;
    const { host } = headers;
    if (!isPlain(req) || record.trail.detail !== undefined) return false;
    const line = { method, target, host };
    const call = routes().remembered.get(line);
    if (call === undefined || (call.op !== "manifest" && call.op !== "blob")) return false;
    const identity = this.#identityOf(req, record, call);
    if (identity === undefined) return false;
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
    if (ready === undefined) return false;
    const unchanged = matchesEntityTag(ifNoneMatch, ready.digest);
    const bytes = head || unchanged ? undefined : ready.bytes;
    if (bytes?.length !== (head || unchanged ? undefined : ready.size)) return false;
    const prepared = this.#preparedOf(ready, call);
    const top = unchanged ? prepared.unchanged : prepared.whole;
    const cache = this.#cacheOf(ready, prepared);
    try {
      res.writeHead(top.status, top.fill(record.requestId, prepared.cacheStatus, requestHeaders(call, closing())));
    } catch {
      // A media type that is not text, for one.
      return false;
    }
    record.call = call;
    record.account = identity.account;
    record.cache = cache;
    record.trail.routed(() => requestSubject(line, call));
    // As for the long way's bytes: whoever takes nothing for that long is cut off.
    res.on("timeout", () => records.cutOff(req, record, new ClientStalledError()));
    res.once("close", () => {
      if (res.writableFinished) record.bytesSent = bytes?.length ?? 0;
      records.ended(req, res, record);
    });
    if (bytes?.length !== 0) records.firstByte(record);
    if (bytes === undefined) res.end();
    else if (bytes.length > MAX_TEXT_BYTES) res.end(bytes);
    else res.end(this.#textOf(bytes), "latin1");
    return true;
  }

  /** Who asks; undefined where that has to be found out, or they are to be refused. */
  #identityOf(req: IncomingMessage, record: RequestRecord, call: ReadyOperation): Identity | undefined {
    const { signIn } = this.#deps;
    const { from } = record;
    try {
      from.admit();
    } catch {
      return undefined;
    }
    const access = signIn.access();
    if (access === undefined) return signIn.anonymous(from.address);
    const identity = access.authenticator.known(presentedBy(req, record));
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
  #cacheOf({ freshUntilMs }: ReadyAnswer, prepared: Prepared): CacheInfo {
    if (freshUntilMs === undefined) return prepared.cache;
    const ttlS = Math.max(0, Math.floor((freshUntilMs - this.#deps.clock.now()) / 1000));
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

  constructor(answer: Answer) {
    this.status = answer.status;
    const headers = Object.entries({ ...answer.headers, ...commonHeaders(answer, "") });
    const at = (name: string): number => headers.findIndex(([known]) => known === name) * 2 + 1;
    this.#requestIdAt = at("X-Request-Id");
    this.#cacheStatusAt = at("Cache-Status");
    this.#headers = headers.flat();
  }

  /** Good until the next call. */
  fill(requestId: string, cacheStatus: string, more: Readonly<Record<string, string>>): string[] {
    this.#headers[this.#requestIdAt] = requestId;
    this.#headers[this.#cacheStatusAt] = cacheStatus;
    const others = Object.entries(more);
    return others.length === 0 ? this.#headers : [...this.#headers, ...others.flat()];
  }
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
