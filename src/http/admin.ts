import Router from "@koa/router";
import Koa from "koa";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { AdminConfig, ListenAddress } from "../config/types.ts";
import { OciError } from "../oci/errors.ts";
import { errorAnswer } from "./errors.ts";
import { createListener, LISTENER_TIMEOUTS } from "./listener.ts";
import { addSetupRoutes } from "./setup/setup-routes.ts";
import type { SetupSource } from "./setup/setup-source.ts";

export interface Readiness {
  readonly ready: boolean;
  /** Why not, a sentence each. */
  readonly reasons: readonly string[];
}

export interface AdminServerDeps {
  readonly config: AdminConfig;
  readonly metrics: { expose(): Promise<{ readonly contentType: string; readonly body: string }> };
  /** Whether requests should be sent here; asked for each `/readyz`. */
  ready(): Readiness | Promise<Readiness>;
  /** What `/setup/` makes client configuration from. */
  readonly setup: SetupSource;
  readonly log: Log;
  readonly clock: Clock;
  newRequestId(): string;
}

/** The operators' port: `/metrics`, `/healthz`, `/readyz`, and client configuration under `/setup/`. */
export interface AdminServer {
  listen(): Promise<ListenAddress>;
  /** As `FrontServer.stop`; to be stopped last, so that `/readyz` can say no while the front is stopping. */
  stop(graceMs: number): Promise<void>;
}

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
      await next();
    } catch (err) {
      deps.log.error({ err, path: ctx.path }, "an admin request failed");
      refuse(ctx, new OciError("UNKNOWN", "Weir has failed to answer this request; its log says why"));
    }
  });
  const router = adminRouter(deps);
  app.use(router.routes());
  app.use((ctx) => {
    const known = router.match(ctx.path, ctx.method).path.length > 0;
    refuse(
      ctx,
      known
        ? new OciError("UNSUPPORTED", `${ctx.path} offers GET and HEAD only`, { headers: { allow: "GET, HEAD" } })
        : new OciError("UNSUPPORTED", "there are /metrics, /healthz, /readyz and /setup/ here", { status: 404 }),
    );
  });
  return {
    listen: () => listener.listen(app.callback()),
    stop: (graceMs) => listener.stop(graceMs),
  };
}

function adminRouter({ metrics, ready, setup }: AdminServerDeps): Router {
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
  return router;
}

function refuse(ctx: Koa.Context, err: OciError): void {
  const { status, headers, body } = errorAnswer(err);
  ctx.status = status;
  ctx.body = body;
  ctx.set({ ...headers });
}
