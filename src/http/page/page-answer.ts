import type Koa from "koa";
import { OciError } from "../../oci/errors.ts";
import { UpkeepError } from "../../proxy/upkeep/upkeep.ts";
import { StorageError } from "../../storage/blob-store.ts";
import type { Html } from "./html.ts";
import type { Frame, Shell } from "./shell.ts";

/** What a view comes to. */
export interface Viewed extends Omit<Frame, "visitor"> {
  readonly view: Html;
  readonly status?: number;
}

/** Everything comes from here, nothing stands in place, nobody may frame it, and it sends forms to itself alone. */
const POLICY = [
  "default-src 'none'",
  "style-src 'self'",
  "script-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join("; ");

export function setPageHeaders(ctx: Koa.Context): void {
  ctx.set({
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    // To others nothing; `no-referrer` would also make browsers send `Origin: null` with the page's own forms (Fetch, "append a
    // request Origin header"), by which they are told from those of others.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
  });
}

export function sendView(
  ctx: Koa.Context,
  shell: Shell,
  { view, status = 200, ...frame }: Viewed & Pick<Frame, "visitor">,
): void {
  ctx.status = status;
  ctx.type = "text/html; charset=utf-8";
  ctx.body = shell.whole(frame, view);
}

/** What a visitor is told of a failure; undefined where nobody foresaw it. */
export function toldOf(error: unknown): OciError | undefined {
  if (error instanceof OciError) {
    return error;
  }
  if (error instanceof UpkeepError) {
    return new OciError("UNSUPPORTED", error.message, { status: 400, cause: error });
  }
  return error instanceof StorageError
    ? new OciError("UNAVAILABLE", error.message, { status: 503, cause: error })
    : undefined;
}
