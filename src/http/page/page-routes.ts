import type Router from "@koa/router";
import type Koa from "koa";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { OciError } from "../../oci/errors.ts";
import type { Explanation } from "../../proxy/explain/explanation.ts";
import type { RequestExplanation } from "../../proxy/explain/request-report.ts";
import { UpkeepError } from "../../proxy/upkeep/upkeep.ts";
import type { AdminTokens } from "../admin-tokens.ts";
import { beginning } from "../control.ts";
import { sendBytes } from "../send-bytes.ts";
import { findSetupClient, SETUP_CLIENTS } from "../setup/clients.ts";
import type { Mirror } from "../setup/mirror.ts";
import { SetupError } from "../setup/setup-error.ts";
import { requestedHost } from "../setup/setup-routes.ts";
import { mirrorOf, type SetupSource } from "../setup/setup-source.ts";
import { isAction, purgeView, titleOf } from "./actions-view.ts";
import { type Asset, readAssets } from "./assets.ts";
import { clientsView } from "./clients-view.ts";
import { explainForm, explanationView, requestView } from "./explain-view.ts";
import { readForm } from "./form.ts";
import { Gate, type Visitor } from "./gate.ts";
import { HELD_PAGE, heldView } from "./held-view.ts";
import { LiveEvents } from "./live-events.ts";
import { liveParts, type Moment, overviewView } from "./overview-view.ts";
import { actionOf, actionPieces, dryRun, type PageUpkeep } from "./page-actions.ts";
import { sendView, setPageHeaders, toldOf, type Viewed } from "./page-answer.ts";
import type { PageSource } from "./page-source.ts";
import { pullsView } from "./pulls-view.ts";
import { repositoryView, TAGS_PAGE } from "./repository-view.ts";
import { Sessions } from "./sessions.ts";
import { Shell } from "./shell.ts";
import { closedView, signInView, troubleView } from "./sign-in-view.ts";

export interface PageDeps {
  readonly page: PageSource;
  readonly upkeep: PageUpkeep;
  readonly setup: SetupSource;
  readonly tokens: AdminTokens;
  readonly clock: Clock;
  readonly log: Log;
}

export interface StatusPage {
  /** Ends what follows the page. */
  stop(): Promise<void>;
}

/** Of what was asked of late, for the share that came from storage. */
const SUMMED_PULLS = 200;

/** On the page of its own. */
const LISTED_PULLS = 100;

/** Characters of a field in a query that are looked at: a reference is no longer. */
const MAX_FIELD = 600;

/** Milliseconds until a browser asks again whose stream has ended. */
const RETRY_MS = 3_000;

/** The status page, below `/page`: HTML for people. */
export function addPageRoutes(router: Router, deps: PageDeps): StatusPage {
  return new Pages(router, deps);
}

/** One request of somebody who may see the page. */
interface Visit {
  readonly ctx: Koa.Context;
  readonly visitor: Visitor;
  readonly o: CallOptions;
  readonly nowMs: number;
}

class Pages implements StatusPage {
  readonly #deps: PageDeps;
  readonly #shell: Shell;
  readonly #sessions: Sessions | undefined;
  readonly #gate: Gate | undefined;
  readonly #live: LiveEvents;

  constructor(router: Router, deps: PageDeps) {
    this.#deps = deps;
    const { page, tokens, clock, log } = deps;
    const { token } = page;
    const assets = readAssets();
    this.#shell = new Shell(assets, page.version);
    this.#sessions = token && new Sessions({ token, clock, random: page.random });
    this.#gate = this.#sessions && new Gate({ tokens, sessions: this.#sessions, clients: page.clients });
    this.#live = new LiveEvents({ look: async (signal) => liveParts(await this.#moment({ signal })), clock, log });
    for (const asset of Object.values(assets)) {
      router.get(asset.path, (ctx) => sendAsset(ctx, asset));
    }
    this.#view(router, "/page", (visit) => this.#overview(visit));
    this.#view(router, "/page/held", (visit) => this.#held(visit));
    this.#view(router, "/page/repository", (visit) => this.#repository(visit));
    this.#view(router, "/page/pulls", (visit) => this.#pulls(visit));
    this.#view(router, "/page/explain", (visit) => this.#explain(visit));
    this.#view(router, "/page/clients", (visit) => this.#clients(visit));
    this.#view(router, "/page/purge", (visit) => this.#purge(visit));
    router.get(
      "/page/events",
      this.#guarded((ctx, gate) => this.#events(ctx, gate)),
    );
    router.post(
      "/page/sign-in",
      this.#guarded((ctx, gate) => this.#signIn(ctx, gate)),
    );
    router.post(
      "/page/sign-out",
      this.#posted((visit) => this.#signOut(visit)),
    );
    router.post(
      "/page/actions/:action",
      this.#posted((visit, form) => this.#act(visit, form)),
    );
    this.#view(router, "/page/*rest", () => {
      throw new OciError("UNSUPPORTED", "There is no such page.", { status: 404 });
    });
  }

  stop(): Promise<void> {
    return this.#live.stop();
  }

  /** A page for who has signed in, and the way in for everybody else. */
  #view(router: Router, path: string, view: (visit: Visit) => Promise<Viewed> | never): void {
    router.get(
      path,
      this.#guarded(async (ctx, gate) => {
        const visitor = gate.visitor(ctx);
        if (visitor === undefined) {
          this.#askToSignIn(ctx, ctx.url, undefined, 401);
          return;
        }
        sendView(ctx, this.#shell, { ...(await view(this.#visit(ctx, visitor))), visitor });
      }),
    );
  }

  /** A form of the page itself, sent by who has signed in. */
  #posted(handle: (visit: Visit, form: URLSearchParams) => Promise<void>): Koa.Middleware {
    return this.#guarded(async (ctx, gate) => {
      const visitor = gate.visitor(ctx);
      if (visitor === undefined) {
        this.#askToSignIn(ctx, "/page", "Your session is over. Sign in, and do it again.", 401);
        return;
      }
      const form = await readForm(ctx.req);
      gate.expectOwnForm(ctx, visitor, form);
      await handle(this.#visit(ctx, visitor), form);
    });
  }

  /** What stands on every answer, and how failures are told. */
  #guarded(handle: (ctx: Koa.Context, gate: Gate) => Promise<void>): Koa.Middleware {
    return async (ctx) => {
      setPageHeaders(ctx);
      if (this.#gate === undefined) {
        this.#send(ctx, { title: "Closed", section: undefined, view: closedView(), status: 403 });
        return;
      }
      try {
        await handle(ctx, this.#gate);
      } catch (error) {
        this.#fail(ctx, error);
      }
    };
  }

  #visit(ctx: Koa.Context, visitor: Visitor): Visit {
    const gone = new AbortController();
    ctx.res.once("close", () => gone.abort(new Error("the visitor has left")));
    return { ctx, visitor, o: { signal: gone.signal }, nowMs: this.#deps.clock.now() };
  }

  #fail(ctx: Koa.Context, error: unknown): void {
    const { message, status, headers } = this.#told(error, ctx.path);
    ctx.set({ ...headers });
    const title = status === 404 ? "Not found" : status >= 500 ? "It did not work" : "That was refused";
    this.#send(ctx, { title, section: undefined, view: troubleView(title, message), status });
  }

  #told(error: unknown, path: string): OciError {
    const told = toldOf(error);
    if (told === undefined) {
      this.#deps.log.error({ err: error, path }, "a request of the status page failed");
    }
    return (
      told ?? new OciError("UNKNOWN", "Weir has failed to answer this request; its log says why.", { status: 500 })
    );
  }

  /** Without a word on who looks, so that it has no navigation. */
  #send(ctx: Koa.Context, viewed: Viewed): void {
    sendView(ctx, this.#shell, { ...viewed, visitor: undefined });
  }

  #askToSignIn(ctx: Koa.Context, next: string, wrong: string | undefined, status: number): void {
    ctx.set("WWW-Authenticate", 'Bearer realm="weir"');
    this.#send(ctx, { title: "Sign in", section: undefined, view: signInView(next, wrong), status });
  }

  async #signIn(ctx: Koa.Context, gate: Gate): Promise<void> {
    const form = await readForm(ctx.req);
    const next = ownPath(form.get("next") ?? "");
    try {
      gate.signIn(ctx, form.get("token") ?? "");
    } catch (error) {
      if (!(error instanceof OciError) || error.code === "DENIED") {
        throw error;
      }
      ctx.set({ ...error.headers });
      this.#askToSignIn(ctx, next, `${sentenceOf(error.message)}`, error.status);
      return;
    }
    seeOther(ctx, next);
  }

  async #signOut({ ctx, visitor }: Visit): Promise<void> {
    this.#gate?.signOut(ctx, visitor);
    seeOther(ctx, "/page");
  }

  async #events(ctx: Koa.Context, gate: Gate): Promise<void> {
    const visitor = gate.visitor(ctx);
    if (visitor === undefined) {
      throw new OciError("UNAUTHORIZED", "Your session is over.");
    }
    if (this.#live.full) {
      throw new OciError("UNAVAILABLE", "Too many pages follow what happens.", { status: 503 });
    }
    const { session } = visitor;
    ctx.respond = false;
    ctx.res.writeHead(200, { "Content-Type": "text/event-stream", "X-Accel-Buffering": "no" });
    ctx.res.write(`retry: ${RETRY_MS}\n\n`);
    this.#live.add(ctx.res, () => session === undefined || this.#sessions?.isOpen(session) === true);
  }

  async #moment(o: CallOptions): Promise<Moment> {
    const { overview } = this.#deps.page;
    const [upstreams, storage, fills, recent] = await Promise.all([
      overview.upstreams(o),
      overview.storage(o),
      overview.fills(o),
      overview.recent(SUMMED_PULLS, o),
    ]);
    return { upstreams, storage, fills, recent, nowMs: this.#deps.clock.now() };
  }

  async #overview({ o }: Visit): Promise<Viewed> {
    return { title: "Overview", section: "/page", view: overviewView(await this.#moment(o)), live: true };
  }

  async #pulls({ o, nowMs }: Visit): Promise<Viewed> {
    const pulls = await this.#deps.page.overview.recent(LISTED_PULLS, o);
    return { title: "Recent pulls", section: "/page/pulls", view: pullsView(pulls, nowMs) };
  }

  async #held({ ctx, o, nowMs }: Visit): Promise<Viewed> {
    const { overview } = this.#deps.page;
    const query = {
      search: field(ctx, "q"),
      upstream: field(ctx, "upstream") || undefined,
      page: pageNumber(ctx),
    };
    const [found, upstreams] = await Promise.all([
      overview.repositories({ ...query, offset: (query.page - 1) * HELD_PAGE, limit: HELD_PAGE }, o),
      overview.upstreams(o),
    ]);
    const names = upstreams.map(({ name }) => name);
    return { title: "Held repositories", section: "/page/held", view: heldView(query, found, names, nowMs) };
  }

  async #repository({ ctx, o, nowMs, visitor }: Visit): Promise<Viewed> {
    const [upstream, repository] = [field(ctx, "upstream"), field(ctx, "repository")];
    const query = { search: field(ctx, "q"), page: pageNumber(ctx) };
    const rows = { search: query.search, offset: (query.page - 1) * TAGS_PAGE, limit: TAGS_PAGE };
    const found = await this.#deps.page.overview.repository(upstream, repository, rows, o);
    if (found === undefined) {
      throw new OciError("NAME_UNKNOWN", `Nothing of ${upstream}/${repository} is held.`, { status: 404 });
    }
    return {
      title: `${upstream}/${repository}`,
      section: "/page/held",
      view: repositoryView(found, query, visitor.formToken, nowMs),
    };
  }

  async #explain({ ctx, o, visitor }: Visit): Promise<Viewed> {
    const { upkeep } = this.#deps;
    const [ref, request] = [field(ctx, "ref"), field(ctx, "request")];
    const viewed = { title: "Explain", section: "/page/explain" } as const;
    try {
      if (request !== "") {
        const explanation = await onlyOne<RequestExplanation>(upkeep.explainRequest({ ...o, requestId: request }));
        return {
          ...viewed,
          view: requestView(request, explanation),
          status: explanation.requests.length === 0 ? 404 : 200,
        };
      }
      if (ref !== "") {
        const explanation = await onlyOne<Explanation>(upkeep.explain({ ...o, reference: ref }));
        return { ...viewed, view: explanationView(explanation, visitor.formToken) };
      }
    } catch (error) {
      if (!(error instanceof UpkeepError)) {
        throw error;
      }
      return { ...viewed, view: explainForm({ ref, request }, sentenceOf(error.message)), status: 400 };
    }
    return { ...viewed, view: explainForm({ ref, request }) };
  }

  async #clients({ ctx }: Visit): Promise<Viewed> {
    const client = findSetupClient(field(ctx, "client")) ?? SETUP_CLIENTS[0];
    if (client === undefined) {
      throw new OciError("UNSUPPORTED", "There is no client.", { status: 404 });
    }
    const host = requestedHost(ctx);
    const only = field(ctx, "only") === "true";
    const query = { client, only, admin: host?.origin ?? "http://ADMIN" };
    const view = clientsView(query, this.#mirror(host?.hostname, only));
    return { title: "Client configuration", section: "/page/clients", view };
  }

  #mirror(reachedAs: string | undefined, only: boolean): Mirror | string {
    try {
      return mirrorOf(this.#deps.setup, { reachedAs, only });
    } catch (error) {
      if (!(error instanceof SetupError)) {
        throw error;
      }
      return sentenceOf(error.message);
    }
  }

  async #purge({ ctx, o, visitor }: Visit): Promise<Viewed> {
    const ref = field(ctx, "ref");
    const dry = await dryRun(this.#deps.upkeep, ref, { ...o, clock: this.#deps.clock });
    return { title: `Purge ${ref}?`, section: "/page/held", view: purgeView(ref, dry, visitor.formToken) };
  }

  async #act({ ctx, o, visitor }: Visit, form: URLSearchParams): Promise<void> {
    const { upkeep, log } = this.#deps;
    const action: string = ctx.params.action;
    const ref = form.get("ref") ?? "";
    if (!isAction(action)) {
      throw new OciError("UNSUPPORTED", "There is nothing of that name to be done.", { status: 404 });
    }
    log.info({ action, reference: ref }, "an operator does something by the status page");
    const events = actionOf(upkeep, action, ref, o)[Symbol.asyncIterator]();
    const first = (await beginning(events)) as Awaited<ReturnType<typeof events.next>>;
    const pieces = actionPieces({ action, ref }, first, events, (error) => this.#told(error, ctx.path).message);
    const shell = this.#shell;
    const stream = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from(shell.opening({ title: titleOf(action, ref), section: "/page/held", visitor }));
      for await (const piece of pieces) {
        yield Buffer.from(piece);
      }
      yield Buffer.from(shell.closing());
    };
    // Koa would wait for the end.
    ctx.respond = false;
    ctx.res.on("timeout", () => {});
    ctx.res.writeHead(200, { "Content-Type": "text/html; charset=utf-8" });
    try {
      await sendBytes(ctx.res, { stream: stream(), length: undefined }, () => {});
    } catch (err) {
      log.debug({ err, path: ctx.path }, "a visitor of the status page has stopped reading");
      ctx.res.destroy();
    }
  }
}

function sendAsset(ctx: Koa.Context, { type, content }: Asset): void {
  setPageHeaders(ctx);
  // Its path names its content.
  ctx.set("Cache-Control", "public, max-age=31536000, immutable");
  ctx.set("Content-Type", type);
  ctx.body = content;
}

/** The answer to a form, so that loading the page again does not send it again. */
function seeOther(ctx: Koa.Context, path: string): void {
  ctx.redirect(path);
  ctx.status = 303;
}

/** A path of the page, and of nobody else's. */
function ownPath(path: string): string {
  return /^\/page(?:[/?]|$)/.test(path) ? path : "/page";
}

function field(ctx: Koa.Context, name: string): string {
  const value = ctx.query[name];
  return (typeof value === "string" ? value : "").trim().slice(0, MAX_FIELD);
}

function pageNumber(ctx: Koa.Context): number {
  const page = Number(field(ctx, "page") || 1);
  return Number.isSafeInteger(page) && page >= 1 && page <= 1_000_000 ? page : 1;
}

/** Of what comes to a single event. */
async function onlyOne<T>(events: AsyncIterable<T>): Promise<T> {
  for await (const event of events) {
    return event;
  }
  throw new Error("nothing was explained");
}

function sentenceOf(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
