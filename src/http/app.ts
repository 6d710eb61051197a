import type { IncomingMessage } from "node:http";
import Koa from "koa";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Log } from "../base/log.ts";
import { OciError } from "../oci/errors.ts";
import type { PullThrough } from "../proxy/answers.ts";
import { finishedRequest, type RequestRecord } from "./access-log.ts";
import { type Answer, NO_CACHE_INFO } from "./answer.ts";
import { commonHeaders } from "./common-headers.ts";
import { cacheInfoOf, errorAnswer, toOciError } from "./errors.ts";
import { answerPull, methodRefused } from "./handlers.ts";
import type { RequestHandler } from "./listener.ts";
import type { HttpObserver, RequestTrails } from "./observer.ts";
import { discardBody } from "./request-body.ts";
import { requestIdOf } from "./request-id.ts";
import { type RouteTable, routeRequest } from "./route.ts";
import { endWith, sendBytes } from "./send-bytes.ts";

/** Who a request is from, and whether they may come in at all. */
export interface ClientGate {
  /** The client's address, behind trusted proxies too; undefined where it cannot be known. */
  addressOf(peer: string | undefined, forwardedFor: string | undefined): string | undefined;
  /** @throws AccessDeniedError */
  admit(client: string | undefined): void;
  /** Whether the client may be sent elsewhere for the bytes of a blob, where they can be had elsewhere. */
  mayRedirect(client: string | undefined): boolean;
}

export interface AppOptions {
  readonly proxy: PullThrough;
  readonly clients: ClientGate;
  /** The names in force; asked for each request, so that a reload counts at once. */
  routes(): RouteTable;
  readonly observer: HttpObserver;
  readonly trails: RequestTrails;
  readonly log: Log;
  /** The status that a request with `ns` gets when the upstream's quota is spent. */
  budgetStatusOf(upstream: string): 429 | 503;
  newRequestId(): string;
  /** Milliseconds that only ever grow, with fractions; as `performance.now`. */
  monotonicMs(): number;
  /** Whether connections are to end with their current answer. */
  closing(): boolean;
  /** As `Listener.reset`. */
  reset(req: IncomingMessage): void;
}

interface State {
  readonly record: RequestRecord;
  /** The client's address; undefined where it cannot be known. */
  readonly client: string | undefined;
  /** Aborts when the client has left before its answer was complete. */
  readonly gone: AbortSignal;
  /** The request's body was not read to its end: nothing can follow it on the connection. */
  undrained: boolean;
  answer: Answer | undefined;
}

/** Longer request targets are refused: the longest that means something, a name and a digest, is under 1 KiB. */
const MAX_TARGET_LENGTH = 8192;

/** The `/v2` side as one handler. It writes every answer itself, whatever becomes of the request further in. */
export function createApp(options: AppOptions): RequestHandler {
  const app = new Koa<State>();
  // Koa reports each connection that breaks under an answer; the access line says so already.
  app.on("error", (err: unknown) => options.log.debug({ err }, "a connection broke"));
  app.use(observed(options));
  app.use(rendered(options));
  app.use(routed(options));
  return app.callback();
}

/** Outermost: what became of the request goes to the access log and the metrics. */
function observed({ observer, trails, clients, log, monotonicMs, newRequestId }: AppOptions): Koa.Middleware<State> {
  return async (ctx, next) => {
    const { req, res } = ctx;
    // Koa would write an answer of its own, and wipe our headers on an error.
    ctx.respond = false;
    const peer = req.socket.remoteAddress;
    const forwardedFor = req.headers["x-forwarded-for"];
    const client = clients.addressOf(peer, forwardedFor === undefined ? undefined : String(forwardedFor));
    const requestId = requestIdOf(req.headers["x-request-id"], newRequestId);
    const record: RequestRecord = {
      requestId,
      client: client ?? peer,
      startedMs: monotonicMs(),
      call: undefined,
      cache: NO_CACHE_INFO,
      bytesSent: 0,
      firstByteMs: undefined,
      error: undefined,
      told: undefined,
      trail: trails.start(requestId),
    };
    const gone = new AbortController();
    res.once("close", () => {
      if (!res.writableFinished) {
        gone.abort();
      }
    });
    // Without a listener Node ends a connection that is quiet because an upstream is slow.
    res.on("timeout", () => {});
    ctx.state = { record, client, gone: gone.signal, undrained: false, answer: undefined };
    await next();
    const { answered, line } = finishedRequest(req, res, record, monotonicMs() - record.startedMs);
    observer.answered(answered);
    const { cache, told: error, trail, call } = record;
    trail.ended({ line, form: call?.form, cache, error });
    log.info(line, "request");
  };
}

/** Writes the answer that comes from further in, or the error that comes instead of one. Never rejects. */
function rendered(options: AppOptions): Koa.Middleware<State> {
  return async (ctx, next) => {
    const { record, gone } = ctx.state;
    let answer: Answer | undefined;
    try {
      await next();
      answer = ctx.state.answer;
    } catch (err) {
      record.error = err;
      if (err instanceof AccessDeniedError) {
        options.observer.denied(err.reason);
      }
      if (!gone.aborted) {
        answer = errorAnswerOf(err, ctx.state, options);
      }
    }
    try {
      if (answer !== undefined && !gone.aborted) {
        await deliver(ctx, answer, options);
      }
    } catch (err) {
      record.error = err;
      await giveUp(ctx, options);
    } finally {
      await answer?.release?.();
    }
  };
}

/** Innermost: from the request line to an answer. */
function routed({ proxy, clients, routes }: AppOptions): Koa.Middleware<State> {
  return async (ctx) => {
    const { req, state } = ctx;
    const { record, gone } = state;
    state.undrained = !(await discardBody(req));
    clients.admit(state.client);
    const target = req.url ?? "";
    const method = req.method ?? "";
    const { host } = req.headers;
    if (host === undefined && req.httpVersion === "1.1") {
      throw new OciError("UNSUPPORTED", "the request has no Host header", { status: 400 });
    }
    if (target.length > MAX_TARGET_LENGTH) {
      throw new OciError("UNSUPPORTED", `the request's path and query exceed ${MAX_TARGET_LENGTH} bytes`, {
        status: 414,
      });
    }
    record.call = routeRequest({ method, target, host }, routes());
    if (method !== "GET" && method !== "HEAD") {
      throw methodRefused();
    }
    const client = `${record.client} ${req.headers["user-agent"] ?? ""}`;
    state.answer = await answerPull(proxy, {
      call: record.call,
      head: method === "HEAD",
      headers: req.headers,
      takesChunks: req.httpVersion !== "1.0",
      mayRedirect: clients.mayRedirect(state.client),
      by: { caller: { account: undefined, client }, signal: gone, requestId: record.requestId, trail: record.trail },
    });
  };
}

/** What a failure is to the client, which the request's record keeps. */
function tell(err: unknown, { record }: State, { budgetStatusOf }: AppOptions): OciError {
  const told = toOciError(err, { call: record.call, budgetStatusOf });
  record.told = { code: told.code, message: told.message };
  return told;
}

function errorAnswerOf(err: unknown, state: State, options: AppOptions): Answer {
  const told = tell(err, state, options);
  if (told.code === "UNKNOWN") {
    const { requestId } = state.record;
    options.log.error({ err, requestId }, "a request failed for a reason that nobody foresaw");
  }
  return errorAnswer(told, cacheInfoOf(err));
}

async function deliver(ctx: Koa.ParameterizedContext<State>, answer: Answer, options: AppOptions): Promise<void> {
  const { req, res, state } = ctx;
  const { record } = state;
  record.cache = answer.cache;
  const headers = { ...answer.headers, ...commonHeaders(answer, record.requestId) };
  const ns = record.call?.ns;
  if (ns !== undefined && PRINTABLE.test(ns)) {
    headers["OCI-Namespace"] = ns;
  }
  if (state.undrained || options.closing()) {
    headers.Connection = "close";
  }
  res.writeHead(answer.status, headers);
  const firstByte = (): void => {
    record.firstByteMs ??= options.monotonicMs() - record.startedMs;
  };
  const body = req.method === "HEAD" ? undefined : answer.body;
  if (body === undefined || body instanceof Uint8Array) {
    firstByte();
    if (await endWith(res, body)) {
      record.bytesSent = body?.length ?? 0;
    }
    return;
  }
  if (answer.cache.outcome !== "hit") {
    // The first bytes may be long in coming, and newer containerds wait 30 s for headers only.
    res.flushHeaders();
  }
  await sendBytes(res, body, (bytes) => {
    firstByte();
    record.bytesSent += bytes;
  });
}

const PRINTABLE = /^[\x21-\x7e]+$/;

/** After headers the only honest sign of a failure is a reset: JSON would pass for a part of the body. */
async function giveUp(ctx: Koa.ParameterizedContext<State>, options: AppOptions): Promise<void> {
  const { req, res, state } = ctx;
  if (res.headersSent) {
    if (!state.gone.aborted) {
      // The client sees a reset only.
      tell(state.record.error, state, options);
    }
    options.reset(req);
    return;
  }
  // Headers that cannot be written, such as a media type that is not text.
  const { status, headers, body } = errorAnswerOf(state.record.error, state, options);
  res.writeHead(status, headers);
  await endWith(res, body instanceof Uint8Array ? body : undefined);
}
