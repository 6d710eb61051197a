import Router from "@koa/router";
import Koa from "koa";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { AdminConfig, ListenAddress } from "../config/types.ts";
import { OciError } from "../oci/errors.ts";
import { AdminTokens } from "./admin-tokens.ts";
import { addControlRoutes, type ControlSource } from "./control.ts";
import { errorAnswer } from "./errors.ts";
import { createListener, LISTENER_TIMEOUTS } from "./listener.ts";
import type { ConnectionObserver, HttpObserver } from "./observer.ts";
import { addPageRoutes, type StatusPage } from "./page/page-routes.ts";
import type { PageSource } from "./page/page-source.ts";
import { addSetupRoutes } from "./setup/setup-routes.ts";
import type { SetupSource } from "./setup/setup-source.ts";

export interface Readiness {
  readonly ready: boolean;
  /** Why not, a sentence each. */
  readonly reasons: readonly string[];
}

export interface AdminServerDeps {
  readonly config: Pick<AdminConfig, "listen">;
  readonly metrics: { expose(): Promise<{ readonly contentType: string; readonly body: string }> };
  readonly observer: Pick<HttpObserver, "denied">;
  /** Throws AccessDeniedError where the address may not come in; not asked for the health of the process. */
  admit(client: string | undefined): void;
  /** Whether requests should be sent here; asked for each `/readyz`. */
  ready(): Readiness | Promise<Readiness>;
  /** What `/setup/` makes client configuration from. */
  readonly setup: SetupSource;
  /** What `/control/` does. */
  readonly control: ControlSource;
  /** What `/page` shows. */
  readonly page: PageSource;
  readonly log: Log;
  readonly clock: Clock;
  newRequestId(): string;
}

/**
 * The operators' port: `/metrics`, `/healthz`, `/readyz`, client configuration under `/setup/`, `/control/`, `/explain`, and the
 * status page at `/page`.
 */
export interface AdminServer {
  listen(): Promise<ListenAddress>;
  /** As `FrontServer.stop`; to be stopped last, so that `/readyz` can say no while the front is stopping. */
  stop(graceMs: number): Promise<void>;
}

/** Probes come from wherever the orchestrator runs, and learn nothing else. */
const OPEN_TO_ALL: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);

/** Nobody sends more than a few to an operators' port. */
const MAX_HEADER_BYTES = 16 * 1024;

/** Prometheus, probes, operators and their commands; none of them needs many. */
const CONNECTIONS = { total: 1_000, perClient: 200, clientOf: (address: string) => address };

/** What browsers are to do with answers that are no pages: nothing. The status page has a policy of its own. */
const SECURITY_HEADERS = {
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
};

/** What is counted of connections is the clients'. */
const UNCOUNTED: ConnectionObserver = { connectionOpened() {}, connectionClosed() {}, connectionEnded() {} };

export function createAdminServer(deps: AdminServerDeps): AdminServer {
  const listener = createListener({
    listen: deps.config.listen,
    tls: undefined,
    watchTlsFiles: () => () => {},
    maxHeaderBytes: MAX_HEADER_BYTES,
    timeouts: LISTENER_TIMEOUTS,
    connections: CONNECTIONS,
    observer: UNCOUNTED,
    newRequestId: deps.newRequestId,
    clock: deps.clock,
    log: deps.log,
  });
  const app = new Koa();
  app.on("error", (err: unknown) => deps.log.debug({ err }, "a connection broke"));
  app.use(async (ctx, next) => {
    ctx.set(SECURITY_HEADERS);
    if (listener.stopping) {
      ctx.set("Connection", "close");
    }
    try {
      if (!OPEN_TO_ALL.has(ctx.path)) {
        deps.admit(ctx.req.socket.remoteAddress);
      }
      await next();
    } catch (err) {
      if (err instanceof AccessDeniedError) {
        deps.observer.denied(err.reason);
        refuse(ctx, err);
        return;
      }
      if (err instanceof OciError) {
        refuse(ctx, err);
        return;
      }
      deps.log.error({ err, path: ctx.path }, "an admin request failed");
      refuse(ctx, new OciError("UNKNOWN", "Weir has failed to answer this request; its log says why"));
    }
  });
  const { router, page } = adminRouter(deps);
  app.use((ctx, next) => {
    // Somebody has typed the address; programs are told what there is.
    if (ctx.path !== "/" || ctx.accepts("application/json", "text/html") !== "text/html") {
      return next();
    }
    ctx.redirect("/page");
    return undefined;
  });
  app.use(router.routes());
  app.use((ctx) => {
    const known = router.match(ctx.path, ctx.method).path.flatMap(({ methods }) => methods);
    const allow = [...new Set(known)].sort().join(", ");
    refuse(
      ctx,
      known.length > 0
        ? new OciError("UNSUPPORTED", `${ctx.path} offers ${allow} only`, { headers: { allow } })
        : new OciError(
            "UNSUPPORTED",
            "there are /metrics, /healthz, /readyz, /setup/, /control/, /explain and /page here",
            {
              status: 404,
            },
          ),
    );
  });
  return {
    listen: () => listener.listen(app.callback()),
    async stop(graceMs) {
      await Promise.all([page.stop(), listener.stop(graceMs)]);
    },
  };
}

function adminRouter(deps: AdminServerDeps): { readonly router: Router; readonly page: StatusPage } {
  const { metrics, ready, setup, control, page, clock, log } = deps;
  const router = new Router();
  router.get("/metrics", async (ctx) => {
    const { contentType, body } = await metrics.expose();
    ctx.body = body;
    // Koa would drop the version that Prometheus looks for.
    ctx.set("Content-Type", contentType);
  });
  router.get("/healthz", (ctx) => {
    answerJson(ctx, { alive: true });
  });
  router.get("/readyz", async (ctx) => {
    const readiness = await ready();
    ctx.status = readiness.ready ? 200 : 503;
    answerJson(ctx, readiness);
  });
  addSetupRoutes(router, setup);
  const tokens = new AdminTokens(control.tokens, { clients: page.clients, clock, log });
  addControlRoutes(router, { upkeep: control.upkeep, tokens, log });
  return { router, page: addPageRoutes(router, { page, upkeep: control.upkeep, setup, tokens, clock, log }) };
}

/** As text: of anything else Koa asks whether it is a `Response`, and to know what that is loads an undici of Node's own. */
function answerJson(ctx: Koa.Context, value: object): void {
  ctx.type = "application/json";
  ctx.body = JSON.stringify(value);
}

function refuse(ctx: Koa.Context, err: OciError): void {
  const { status, headers, body } = errorAnswer(err);
  ctx.status = status;
  ctx.body = body;
  ctx.set({ ...headers });
}
