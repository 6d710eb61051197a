import type { IncomingMessage } from "node:http";
import type Router from "@koa/router";
import type Koa from "koa";
import type { CallOptions } from "../base/call.ts";
import type { Log } from "../base/log.ts";
import type { Secret } from "../base/secret.ts";
import { OciError } from "../oci/errors.ts";
import type { Explanation } from "../proxy/explain/explanation.ts";
import type { RequestExplanation } from "../proxy/explain/request-report.ts";
import { type Upkeep, UpkeepError } from "../proxy/upkeep/upkeep.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { AdminTokens } from "./admin-tokens.ts";
import { sendBytes } from "./send-bytes.ts";

/** What the control routes do, and who may ask for it. */
export interface ControlSource {
  readonly upkeep: Upkeep;
  /** Any of these opens them; with none they are closed. */
  readonly tokens: readonly Secret[];
}

/** A question is a few short fields. */
const MAX_BODY_BYTES = 16 * 1024;

/** Of the repositories that stats lists. */
const MAX_LISTED = 10_000;

type Operation = (fields: Fields, o: CallOptions) => AsyncIterable<unknown>;

/**
 * `/control/`: what an operator does with what is held. Asked with a JSON object, answered in lines of JSON while the work
 * goes on; the last has `done`, or `error` where it failed on the way. It ends when the caller leaves.
 */
export function addControlRoutes(
  router: Router,
  { upkeep, tokens, log }: Pick<ControlSource, "upkeep"> & { readonly tokens: AdminTokens; readonly log: Log },
): void {
  const operations: Readonly<Record<string, Operation>> = {
    gc: (fields, o) => upkeep.gc({ ...o, dryRun: fields.flag("dryRun") }),
    verify: (fields, o) => upkeep.verify({ ...o, bytesPerS: fields.count("rate") }),
    purge: (fields, o) => upkeep.purge({ ...o, reference: fields.text("reference"), dryRun: fields.flag("dryRun") }),
    refresh: (fields, o) => upkeep.refresh({ ...o, reference: fields.text("reference") }),
    pin: (fields, o) => upkeep.pin({ ...o, reference: fields.text("reference") }),
    unpin: (fields, o) => upkeep.unpin({ ...o, reference: fields.text("reference") }),
    import: (fields, o) =>
      upkeep.import({
        ...o,
        folder: fields.text("folder"),
        as: fields.text("as"),
        fromProxy: fields.flag("fromProxy"),
        verify: fields.flag("verify"),
        dryRun: fields.flag("dryRun"),
      }),
  };
  for (const [name, operation] of Object.entries(operations)) {
    router.post(`/control/${name}`, async (ctx) => {
      authorise(ctx, tokens);
      const fields = new Fields(await readJson(ctx.req));
      await answer(ctx, (o) => fields.all(operation(fields, o)), log);
    });
  }
  router.get(["/explain", "/explain.json"], async (ctx) => {
    authorise(ctx, tokens);
    await explain(ctx, upkeep);
  });
  router.get("/control/pins", async (ctx) => {
    authorise(ctx, tokens);
    await answer(ctx, (o) => upkeep.pins(o), log);
  });
  router.get("/control/stats", async (ctx) => {
    authorise(ctx, tokens);
    const fields = new Fields({ repositories: Number(ctx.query.repositories ?? 0) });
    const repositories = Math.min(fields.count("repositories") ?? 0, MAX_LISTED);
    await answer(ctx, (o) => upkeep.stats({ ...o, repositories }), log);
  });
}

/** `?ref=` or `?request=`: in words, or as JSON where that is accepted before plain text or asked for by the path. */
async function explain(ctx: Koa.Context, upkeep: Upkeep): Promise<void> {
  const { ref, request, ...others } = ctx.query;
  const gone = new AbortController();
  ctx.res.once("close", () => gone.abort(new Error("the caller has left")));
  const o: CallOptions = { signal: gone.signal };
  let events: AsyncIterable<Explanation | RequestExplanation>;
  if (typeof ref === "string" && request === undefined && Object.keys(others).length === 0) {
    events = upkeep.explain({ ...o, reference: ref });
  } else if (typeof request === "string" && ref === undefined && Object.keys(others).length === 0) {
    events = upkeep.explainRequest({ ...o, requestId: request });
  } else {
    throw malformed("expected ?ref=docker.io/library/nginx:1.27, or ?request= with the X-Request-Id of an answer");
  }
  const { value } = await beginning(events[Symbol.asyncIterator]());
  const explanation = value as Explanation | RequestExplanation;
  if ("requests" in explanation && explanation.requests.length === 0) {
    throw new OciError("UNSUPPORTED", explanation.words.join(" "), { status: 404 });
  }
  ctx.set("Cache-Control", "no-store");
  const asJson = ctx.path.endsWith(".json") || ctx.accepts("text/plain", "application/json") === "application/json";
  ctx.type = asJson ? "application/json" : "text/plain; charset=utf-8";
  ctx.body = asJson ? `${JSON.stringify(explanation)}\n` : `${explanation.words.join("\n")}\n`;
}

function authorise(ctx: Koa.Context, tokens: AdminTokens): void {
  if (tokens.none) {
    throw new OciError(
      "DENIED",
      "nobody may use /control/ and /explain: set admin.token, and send it as Authorization: Bearer TOKEN",
    );
  }
  const sent = bearerOf(ctx);
  const verdict = sent === undefined ? undefined : tokens.judge(sent, ctx.req);
  if (verdict?.is === "slowed") {
    throw tooManyTokens(verdict.retryAfterMs);
  }
  if (verdict?.is !== "right") {
    throw new OciError(
      "UNAUTHORIZED",
      sent === undefined
        ? "/control/ and /explain need the token of admin.token, as Authorization: Bearer TOKEN"
        : "this is not the token of admin.token",
      { headers: { "www-authenticate": 'Bearer realm="weir"' } },
    );
  }
}

/** What stands there as `Authorization: Bearer`. */
export function bearerOf(ctx: Koa.Context): string | undefined {
  return /^Bearer +(\S+)$/i.exec(ctx.get("authorization"))?.[1];
}

/** For an address from which too many wrong tokens came. */
export function tooManyTokens(retryAfterMs: number): OciError {
  const seconds = Math.ceil(retryAfterMs / 1000);
  return new OciError("TOOMANYREQUESTS", `too many wrong tokens came from your address: try again in ${seconds} s`, {
    status: 429,
    headers: { "retry-after": String(seconds) },
  });
}

async function answer(ctx: Koa.Context, work: (o: CallOptions) => AsyncIterable<unknown>, log: Log): Promise<void> {
  const { res } = ctx;
  const gone = new AbortController();
  res.once("close", () => gone.abort(new Error("the caller has left")));
  // Without a listener Node ends a connection that is quiet while there is nothing to tell.
  res.on("timeout", () => {});
  const events = work({ signal: gone.signal })[Symbol.asyncIterator]();
  const first = await beginning(events);
  // Koa would wait for the end.
  ctx.respond = false;
  res.writeHead(200, {
    "Content-Type": "application/x-ndjson",
    "Cache-Control": "no-store",
    ...(ctx.response.get("Connection") === "close" ? { Connection: "close" } : {}),
  });
  try {
    await sendBytes(res, { stream: lines(first, events, gone.signal, log), length: undefined }, () => {});
  } catch (err) {
    log.debug({ err, path: ctx.path }, "a caller of a control route has stopped reading");
    res.destroy();
  }
}

/** The first event, before a status is sent: a question that makes no sense is refused with one. */
export async function beginning(events: AsyncIterator<unknown>): Promise<IteratorResult<unknown>> {
  try {
    return await events.next();
  } catch (error) {
    if (error instanceof UpkeepError) {
      throw new OciError("UNSUPPORTED", error.message, { status: 400, cause: error });
    }
    if (error instanceof StorageError) {
      throw new OciError("UNAVAILABLE", error.message, { cause: error });
    }
    throw error;
  }
}

async function* lines(
  first: IteratorResult<unknown>,
  events: AsyncIterator<unknown>,
  signal: AbortSignal,
  log: Log,
): AsyncGenerator<Uint8Array> {
  try {
    for (let next = first; next.done !== true; next = await events.next()) {
      yield Buffer.from(`${JSON.stringify(next.value)}\n`);
    }
  } catch (err) {
    if (signal.aborted) {
      return;
    }
    log.error({ err }, "a control route has failed");
    const known = err instanceof StorageError || err instanceof UpkeepError;
    const error = known ? err.message : "Weir has failed to do this; its log says why";
    yield Buffer.from(`${JSON.stringify({ error })}\n`);
  } finally {
    await events.return?.();
  }
}

async function readJson(req: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) {
      throw malformed(`the request's body exceeds ${MAX_BODY_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  if (length === 0) {
    return {};
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch {
    // Told below.
  }
  throw malformed("the request's body is no JSON object");
}

/** The fields of a question. One that nobody reads is an error: misspelt, `dryRun` would do real harm. */
class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #read = new Set<string>();

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  text(name: string): string {
    const value = this.#take(name);
    if (typeof value !== "string") {
      throw malformed(`${name}: expected text`);
    }
    return value;
  }

  flag(name: string): boolean {
    const value = this.#take(name) ?? false;
    if (typeof value !== "boolean") {
      throw malformed(`${name}: expected true or false`);
    }
    return value;
  }

  count(name: string): number | undefined {
    const value = this.#take(name);
    if (value === undefined || (typeof value === "number" && Number.isSafeInteger(value) && value >= 0)) {
      return value;
    }
    throw malformed(`${name}: expected a whole number`);
  }

  /** To be asked before the work begins. */
  all<T>(work: T): T {
    const unknown = Object.keys(this.#values).filter((name) => !this.#read.has(name));
    if (unknown.length > 0) {
      throw malformed(`there is no such field: ${unknown.join(", ").slice(0, 200)}`);
    }
    return work;
  }

  #take(name: string): unknown {
    this.#read.add(name);
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
  }
}

function malformed(message: string): OciError {
  return new OciError("UNSUPPORTED", message, { status: 400 });
}
