import type { IncomingMessage } from "node:http";
import Koa from "koa";
import type { Presented } from "../access/authenticator.ts";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Identity } from "../access/identity.ts";
import { SignInError } from "../access/sign-in-error.ts";
import type { TokenService } from "../access/token-service.ts";
import type { Log } from "../base/log.ts";
import { OciError } from "../oci/errors.ts";
import type { PullThrough } from "../proxy/answers.ts";
import { finishedRequest, type RequestRecord, requestSubject } from "./access-log.ts";
import { type Answer, NO_CACHE_INFO } from "./answer.ts";
import { commonHeaders } from "./common-headers.ts";
import { cacheInfoOf, errorAnswer, toOciError } from "./errors.ts";
import { isReturned } from "./hand-over.ts";
import { answerPull, methodRefused } from "./handlers.ts";
import type { RequestHandler } from "./listener.ts";
import type { HttpObserver, RequestTrail, RequestTrails } from "./observer.ts";
import { discardBody } from "./request-body.ts";
import { requestIdOf } from "./request-id.ts";
import { type RequestLine, type RoutedCall, type RouteTable, routeRequest } from "./route.ts";
import { endWith, sendBytes } from "./send-bytes.ts";
import { challenged, challengedForPassword, type FrontAccess, judged, type SignInSource } from "./sign-in.ts";
import { clientCertificateOf } from "./tls.ts";
import { answerToken, isTokenPath, readTokenQuestion } from "./token-endpoint.ts";

/** Who a request is from, and whether they may come in at all. */
export interface ClientGate {
  /** The client's address, behind trusted proxies too; undefined where it cannot be known. */
  addressOf(peer: string | undefined, forwardedFor: string | undefined): string | undefined;
  /** @throws AccessDeniedError */
  admit(client: string | undefined): void;
  /** Whether the client may be sent elsewhere for the bytes of a blob, where they can be had elsewhere. */
  mayRedirect(client: string | undefined): boolean;
  /** Where the other end of the connection, a web server, has the files of blobs; undefined where it wants their bytes. */
  accelRedirect(peer: string | undefined): string | undefined;
}

export interface AppOptions {
  readonly proxy: PullThrough;
  readonly clients: ClientGate;
  readonly signIn: SignInSource;
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
  reset(req: IncomingMessage, cause: unknown): void;
}

interface State {
  readonly record: RequestRecord;
  /** The client's address; undefined where it cannot be known. */
  readonly client: string | undefined;
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
function observed({
  observer,
  trails,
  clients,
  signIn,
  log,
  monotonicMs,
  newRequestId,
}: AppOptions): Koa.Middleware<State> {
  return async (ctx, next) => {
    const { req, res } = ctx;
    // Koa would write an answer of its own, and wipe our headers on an error.
    ctx.respond = false;
    const peer = req.socket.remoteAddress;
    const scheme = "encrypted" in req.socket ? "https" : "http";
    const forwardedFor = req.headers["x-forwarded-for"];
    const client = clients.addressOf(peer, forwardedFor === undefined ? undefined : String(forwardedFor));
    const requestId = requestIdOf(req.headers["x-request-id"], newRequestId);
    const record: RequestRecord = {
      requestId,
      client: client ?? peer,
      startedMs: monotonicMs(),
      account: undefined,
      call: undefined,
      cache: NO_CACHE_INFO,
      bytesSent: 0,
      firstByteMs: undefined,
      error: undefined,
      told: undefined,
      handOver: undefined,
      trail: trails.start(requestId, req.headers),
    };
    const gone = new AbortController();
    res.once("close", () => {
      if (!res.writableFinished) {
        gone.abort();
      }
    });
    // Without a listener Node ends a connection that is quiet because an upstream is slow.
    res.on("timeout", () => {});
    const access = signIn.access();
    ctx.state = { record, client, access, identity: undefined, gone: gone.signal, undrained: false, answer: undefined };
    await next();
    const { answered, line } = finishedRequest(req, res, record, monotonicMs() - record.startedMs);
    observer.answered(answered);
    const { cache, told: error, trail, call } = record;
    trail.ended({ line, form: call?.form, cache, error, scheme, httpVersion: req.httpVersion });
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
      record.error = err;
      await giveUp(ctx, options);
    } finally {
      await answer?.release?.();
    }
  };
}

/** Innermost: from the request line to an answer. */
function routed({ proxy, clients, signIn, routes }: AppOptions): Koa.Middleware<State> {
  return async (ctx) => {
    const { req, state } = ctx;
    const { record, gone, access } = state;
    const target = req.url ?? "";
    const method = req.method ?? "";
    const tokens = tokensAt(target, access);
    const hasForm = tokens !== undefined && method === "POST";
    // A form is read further in; until then there is something left.
    state.undrained = hasForm || !(await discardBody(req));
    clients.admit(state.client);
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
      caller = signIn.anonymous(state.client);
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
    const client = `${record.client} ${req.headers["user-agent"] ?? ""}`;
    // Who asks for itself, on the proxy's machine perhaps, can make nothing of a file's place.
    const isForwarded = req.headers["x-forwarded-for"] !== undefined;
    const accelRedirect = isForwarded ? clients.accelRedirect(req.socket.remoteAddress) : undefined;
    if (accelRedirect !== undefined && isReturned(req.headers)) {
      record.handOver = "returned";
    }
    state.answer = await answerPull(proxy, {
      call: record.call,
      head: method === "HEAD",
      headers: req.headers,
      takesChunks: req.httpVersion !== "1.0",
      mayRedirect: clients.mayRedirect(state.client),
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
  const identity = await access.authenticator.identify(presentedBy(req, state), o);
  state.identity = identity;
  record.account = identity.account;
  return identity;
}

function presentedBy(req: IncomingMessage, { client }: State): Presented {
  return { authorization: req.headers.authorization, certificate: clientCertificateOf(req), address: client };
}

/** The built-in token service, where the request is for it. */
function tokensAt(target: string, access: FrontAccess | undefined): TokenService | undefined {
  return access?.tokens !== undefined && isTokenPath(target) ? access.tokens : undefined;
}

async function giveToken({ req, state }: Koa.ParameterizedContext<State>, tokens: TokenService): Promise<void> {
  const { record, gone } = state;
  const question = await readTokenQuestion(req, presentedBy(req, state)).finally(() => {
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
    if (record.firstByteMs !== undefined) return;
    record.firstByteMs = options.monotonicMs() - record.startedMs;
    record.trail.detail?.note("first-byte", {});
  };
  const body = req.method === "HEAD" ? undefined : answer.body;
  if (body === undefined || body instanceof Uint8Array) {
    firstByte();
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
    options.reset(req, state.record.error);
    return;
  }
  // Headers that cannot be written, such as a media type that is not text.
  const { status, headers, body } = errorAnswerOf(state.record.error, state, options);
  res.writeHead(status, headers);
  await endWith(res, body instanceof Uint8Array ? body : undefined);
}
