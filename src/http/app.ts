import type { IncomingMessage } from "node:http";
import Koa from "koa";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Identity } from "../access/identity.ts";
import { SignInError } from "../access/sign-in-error.ts";
import type { TokenService } from "../access/token-service.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { OciError } from "../oci/errors.ts";
import type { PullThrough } from "../proxy/answers.ts";
import { type RequestRecord, requestSubject } from "./access-log.ts";
import type { Answer } from "./answer.ts";
import { type ClientGate, Clients } from "./clients.ts";
import { commonHeaders, requestHeaders } from "./common-headers.ts";
import { cacheInfoOf, errorAnswer } from "./errors.ts";
import { isReturned } from "./hand-over.ts";
import { answerPull, methodRefused } from "./handlers.ts";
import { HotPath } from "./hot-path.ts";
import type { RequestHandler } from "./listener.ts";
import type { HttpObserver, RequestTrail, RequestTrails } from "./observer.ts";
import { discardBody } from "./request-body.ts";
import { RequestRecords } from "./request-records.ts";
import { type RequestLine, type RoutedCall, type RouteTable, routeRequest } from "./route.ts";
import { endWith, sendBytes } from "./send-bytes.ts";
import {
  challenged,
  challengedForPassword,
  type FrontAccess,
  judged,
  presentedBy,
  type SignInSource,
} from "./sign-in.ts";
import { answerToken, isTokenPath, readTokenQuestion } from "./token-endpoint.ts";

export interface AppOptions {
  readonly proxy: PullThrough;
  readonly clients: ClientGate;
  readonly signIn: SignInSource;
  /** The names in force; asked for each request, so that a reload counts at once. */
  routes(): RouteTable;
  readonly observer: HttpObserver;
  readonly trails: RequestTrails;
  readonly log: Log;
  readonly clock: Clock;
  /** The status that a request with `ns` gets when the upstream's quota is spent. */
  budgetStatusOf(upstream: string): 429 | 503;
  newRequestId(): string;
  /** Milliseconds that only ever grow, with fractions; as `performance.now`. */
  monotonicMs(): number;
  /** For how long a connection is kept without a request, as clients are told. */
  readonly keepAliveMs: number;
  /** Whether connections are to end with their current answer. */
  closing(): boolean;
  /** As `Listener.reset`. */
  reset(req: IncomingMessage, cause: unknown): void;
}

/** What an answer of the long way needs. */
interface Deps extends AppOptions {
  readonly records: RequestRecords;
}

interface State {
  readonly record: RequestRecord;
  /** In force when the request came; undefined where nobody signs in. */
  readonly access: FrontAccess | undefined;
  /** Undefined while it is not known. */
  identity: Identity | undefined;
  /** Aborts when the client has left before its answer was complete. */
  readonly gone: AbortSignal;
  /** The request's body was not read to its end: nothing can follow it on the connection. */
  undrained: boolean;
  answer: Answer | undefined;
}

/** Longer request targets are refused: the longest that means something, a name and a digest, is under 1 KiB. */
const MAX_TARGET_LENGTH = 8192;

/**
 * The `/v2` side as one handler. It writes every answer itself, whatever becomes of the request further in: what is at hand at
 * once (hot-path.ts), everything else by way of Koa.
 */
export function createApp(options: AppOptions): RequestHandler {
  const records = new RequestRecords({ ...options, clients: new Clients(options.clients) });
  const hot = new HotPath({ ...options, records });
  const deps: Deps = { ...options, records };
  const app = new Koa<State>();
  // Koa reports each connection that breaks under an answer; the access line says so already.
  app.on("error", (err: unknown) => options.log.debug({ err }, "a connection broke"));
  app.use(observed(deps));
  app.use(rendered(deps));
  app.use(routed(deps));
  const longWay = app.callback();
  return (req, res) => {
    const hit = hot.answers(req, res);
    return hit ?? longWay(req, res);
  };
}

/** Outermost: what became of the request is taken down. */
function observed({ records, signIn }: Deps): Koa.Middleware<State> {
  return async (ctx, next) => {
    const { req, res } = ctx;
    // Koa would write an answer of its own, and wipe our headers on an error.
    ctx.respond = false;
    const record = records.begin(req);
    const gone = new AbortController();
    res.once("close", () => {
      if (!res.writableFinished) {
        gone.abort();
      }
    });
    // Without a listener Node ends a connection that is quiet because an upstream is slow.
    res.on("timeout", () => {});
    const access = signIn.access();
    ctx.state = { record, access, identity: undefined, gone: gone.signal, undrained: false, answer: undefined };
    await next();
    records.ended(req, res, record);
  };
}

/** Writes the answer that comes from further in, or the error that comes instead of one. Never rejects. */
function rendered(options: Deps): Koa.Middleware<State> {
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
      if (err instanceof SignInError && err.counts) {
        options.observer.signInFailed();
      }
      if (!gone.aborted) {
        answer = errorAnswerOf(forClient(err, ctx, options), ctx.state, options);
      }
    }
    try {
      if (answer !== undefined && !gone.aborted) {
        await deliver(ctx, answer, options);
      }
    } catch (err) {
      await giveUp(ctx, err, options);
    } finally {
      await answer?.release?.();
    }
  };
}

/** Innermost: from the request line to an answer. */
function routed({ proxy, signIn, routes }: Deps): Koa.Middleware<State> {
  return async (ctx) => {
    const { req, state } = ctx;
    const { record, gone, access } = state;
    const target = req.url ?? "";
    const method = req.method ?? "";
    const tokens = tokensAt(target, access);
    const hasForm = tokens !== undefined && method === "POST";
    // A form is read further in; until then there is something left.
    state.undrained = hasForm || !(await discardBody(req));
    record.from.admit();
    const { host } = req.headers;
    if (host === undefined && req.httpVersion === "1.1") {
      throw new OciError("UNSUPPORTED", "the request has no Host header", { status: 400 });
    }
    if (target.length > MAX_TARGET_LENGTH) {
      throw new OciError("UNSUPPORTED", `the request's path and query exceed ${MAX_TARGET_LENGTH} bytes`, {
        status: 414,
      });
    }
    if (tokens !== undefined) {
      await giveToken(ctx, tokens);
      return;
    }
    let caller: Identity;
    if (access === undefined) {
      record.call = routeIn(record.trail, { method, target, host }, routes());
      caller = signIn.anonymous(record.from.address);
    } else {
      // What the challenge is for has to be known first; what is wrong with it is nobody's business who has not signed in.
      const route = attempt(() => routeIn(record.trail, { method, target, host }, routes()));
      record.call = route.value;
      const identity = await identify(ctx, access);
      record.call = route.get();
      caller = judged(identity, record.call, access);
    }
    if (method !== "GET" && method !== "HEAD") {
      throw methodRefused();
    }
    const client = `${record.from.shown} ${req.headers["user-agent"] ?? ""}`;
    const { accelRedirect } = record.from;
    if (accelRedirect !== undefined && isReturned(req.headers)) {
      record.handOver = "returned";
    }
    state.answer = await answerPull(proxy, {
      call: record.call,
      head: method === "HEAD",
      headers: req.headers,
      takesChunks: req.httpVersion !== "1.0",
      mayRedirect: record.from.mayRedirect,
      accelRedirect: record.handOver === "returned" ? undefined : accelRedirect,
      by: {
        caller: { identity: caller, client },
        signal: gone,
        requestId: record.requestId,
        trail: record.trail,
      },
    });
  };
}

/** Who sends the request, which its access line then names. */
async function identify({ req, state }: Koa.ParameterizedContext<State>, access: FrontAccess): Promise<Identity> {
  const { record, gone } = state;
  const o = { signal: gone, requestId: record.requestId };
  const identity = await access.authenticator.identify(presentedBy(req, record), o);
  state.identity = identity;
  record.account = identity.account;
  return identity;
}

/** The built-in token service, where the request is for it. */
function tokensAt(target: string, access: FrontAccess | undefined): TokenService | undefined {
  return access?.tokens !== undefined && isTokenPath(target) ? access.tokens : undefined;
}

async function giveToken({ req, state }: Koa.ParameterizedContext<State>, tokens: TokenService): Promise<void> {
  const { record, gone } = state;
  const question = await readTokenQuestion(req, presentedBy(req, record)).finally(() => {
    state.undrained &&= !req.complete;
  });
  const { account, answer } = await answerToken(tokens, question, { signal: gone, requestId: record.requestId });
  record.account = account;
  state.answer = answer;
}

/** The error as the client is told it: with how to sign in, where that could help. */
function forClient(
  err: unknown,
  { req, state }: Koa.ParameterizedContext<State>,
  { signIn }: Pick<AppOptions, "signIn">,
): unknown {
  const { access, record, identity } = state;
  if (access === undefined) {
    return err;
  }
  return tokensAt(req.url ?? "", access) !== undefined
    ? challengedForPassword(err, access)
    : challenged(err, access, { req, call: record.call, identity, publicOrigin: signIn.publicOrigin });
}

/** What `work` comes to, to be had later; `value` is undefined where it has thrown. */
function attempt<T>(work: () => T): { readonly value: T | undefined; get(): T } {
  try {
    const value = work();
    return { value, get: () => value };
  } catch (err) {
    return {
      value: undefined,
      get() {
        throw err;
      },
    };
  }
}

function routeIn(trail: RequestTrail, line: RequestLine, routes: RouteTable): RoutedCall {
  const step = trail.detail?.begin("route", {});
  try {
    const call = routeRequest(line, routes);
    step?.add({ form: call.form, op: call.op });
    trail.routed(() => requestSubject(line, call));
    return call;
  } finally {
    step?.end({});
  }
}

function errorAnswerOf(err: unknown, { record }: State, { records, log }: Deps): Answer {
  const told = records.tell(err, record);
  if (told.code === "UNKNOWN") {
    const { requestId } = record;
    log.error({ err, requestId }, "a request failed for a reason that nobody foresaw");
  }
  return errorAnswer(told, cacheInfoOf(err));
}

async function deliver(ctx: Koa.ParameterizedContext<State>, answer: Answer, deps: Deps): Promise<void> {
  const { req, res, state } = ctx;
  const { record } = state;
  const { records } = deps;
  record.cache = answer.cache;
  res.writeHead(answer.status, {
    ...answer.headers,
    ...commonHeaders(answer, record.requestId),
    ...requestHeaders(record.call, state.undrained || deps.closing()),
  });
  const body = req.method === "HEAD" ? undefined : answer.body;
  if (body === undefined || body instanceof Uint8Array) {
    records.firstByte(record);
    if (await endWith(res, body)) {
      record.bytesSent = answer.handedOver ?? body?.length ?? 0;
      record.handOver ??= answer.handedOver === undefined ? undefined : "done";
    }
    return;
  }
  if (answer.cache.outcome !== "hit") {
    // The first bytes may be long in coming, and newer containerds wait 30 s for headers only.
    res.flushHeaders();
  }
  await sendBytes(res, body, (bytes) => {
    records.firstByte(record);
    record.bytesSent += bytes;
  });
}

/** @param err why the answer cannot be sent, or not whole */
async function giveUp(ctx: Koa.ParameterizedContext<State>, err: unknown, deps: Deps): Promise<void> {
  const { req, res, state } = ctx;
  const { record, gone } = state;
  record.error = err;
  if (res.headersSent) {
    if (gone.aborted) {
      deps.reset(req, err);
    } else {
      deps.records.cutOff(req, record, err);
    }
    return;
  }
  // Headers that cannot be written, such as a media type that is not text.
  const { status, headers, body } = errorAnswerOf(err, state, deps);
  res.writeHead(status, headers);
  await endWith(res, body instanceof Uint8Array ? body : undefined);
}
