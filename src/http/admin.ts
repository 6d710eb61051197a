import Router from "@koa/router";
import Koa from "koa";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { AdminConfig, ListenAddress } from "../config/types.ts";
import { OciError } from "../oci/errors.ts";
import { addControlRoutes, type ControlSource } from "./control.ts";
import { errorAnswer } from "./errors.ts";
import { createListener, LISTENER_TIMEOUTS } from "./listener.ts";
import type { HttpObserver } from "./observer.ts";
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
  readonly log: Log;
  readonly clock: Clock;
  newRequestId(): string;
}

/** The operators' port: `/metrics`, `/healthz`, `/readyz`, client configuration under `/setup/`, `/control/` and `/explain`. */
export interface AdminServer {
  listen(): Promise<ListenAddress>;
  /** As `FrontServer.stop`; to be stopped last, so that `/readyz` can say no while the front is stopping. */
  stop(graceMs: number): Promise<void>;
}

/** Probes come from wherever the orchestrator runs, and learn nothing else. */
const OPEN_TO_ALL: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);

/** Nobody sends more than a few to an operators' port. */
const MAX_HEADER_BYTES = 16 * 1024;

export function createAdminServer(deps: AdminServerDeps): AdminServer {
  const listener = createListener({
    listen: deps.config.listen,
    tls: undefined,
    watchTlsFiles: () => () => {},
    maxHeaderBytes: MAX_HEADER_BYTES,
    timeouts: LISTENER_TIMEOUTS,
    newRequestId: deps.newRequestId,
    clock: deps.clock,
    log: deps.log,
  });
  const app = new Koa();
  app.on("error", (err: unknown) => deps.log.debug({ err }, "a connection broke"));
  app.use(async (ctx, next) => {
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
  const router = adminRouter(deps);
  app.use(router.routes());
  app.use((ctx) => {
    const known = router.match(ctx.path, ctx.method).path.flatMap(({ methods }) => methods);
    const allow = [...new Set(known)].sort().join(", ");
    refuse(
      ctx,
      known.length > 0
        ? new OciError("UNSUPPORTED", `${ctx.path} offers ${allow} only`, { headers: { allow } })
        : new OciError("UNSUPPORTED", "there are /metrics, /healthz, /readyz, /setup/, /control/ and /explain here", {
            status: 404,
          }),
    );
  });
  return {
    listen: () => listener.listen(app.callback()),
    stop: (graceMs) => listener.stop(graceMs),
  };
}

function adminRouter({ metrics, ready, setup, control, log }: AdminServerDeps): Router {
  const router = new Router();
  router.get("/metrics", async (ctx) => {
    const { contentType, body } = await metrics.expose();
    ctx.body = body;
    // Koa would drop the version that Prometheus looks for.
    ctx.set("Content-Type", contentType);
  });
  router.get("/healthz", (ctx) => {
    ctx.body = { alive: true };
  });
  router.get("/readyz", async (ctx) => {
    const readiness = await ready();
    ctx.status = readiness.ready ? 200 : 503;
    ctx.body = readiness;
  });
  addSetupRoutes(router, setup);
  addControlRoutes(router, control, log);
  return router;
}

function refuse(ctx: Koa.Context, err: OciError): void {
  const { status, headers, body } = errorAnswer(err);
  ctx.status = status;
  ctx.body = body;
  ctx.set({ ...headers });
}
