import type Koa from "koa";
import { OciError } from "../../oci/errors.ts";
import { type AdminTokens, joined } from "../admin-tokens.ts";
import { bearerOf, tooManyTokens } from "../control.ts";
import type { PageClients } from "./page-source.ts";
import { SESSION_LIFETIME_S, type Session, type Sessions } from "./sessions.ts";

/** Somebody who may see the page. */
export interface Visitor {
  /** Undefined for who sends the token itself, as programs do. */
  readonly session: Session | undefined;
  /** What the forms of the page have to bring along. */
  readonly formToken: string;
}

export interface GateDeps {
  readonly tokens: AdminTokens;
  readonly sessions: Sessions;
  readonly clients: PageClients;
}

/** Below this path only, so that no other service of the host gets the cookie. */
const COOKIE_PATH = "/page";
const COOKIE = "weir_session";

/** Cookies that a browser sends at most; the rest is not looked at. */
const MAX_COOKIES = 50;

/** Who may see the page, and which forms are its own. */
export class Gate {
  readonly #deps: GateDeps;

  constructor(deps: GateDeps) {
    this.#deps = deps;
  }

  /** Undefined for who has not signed in. @throws OciError for a wrong token */
  visitor(ctx: Koa.Context): Visitor | undefined {
    const { sessions } = this.#deps;
    const sent = bearerOf(ctx);
    if (sent !== undefined) {
      this.#judge(ctx, sent);
      return { session: undefined, formToken: "" };
    }
    const session = cookiesOf(ctx)
      .map((value) => sessions.read(value))
      .find((read) => read !== undefined);
    return session && { session, formToken: sessions.formToken(session) };
  }

  /** Opens a session. @throws OciError for a wrong token, and for too many */
  signIn(ctx: Koa.Context, token: string): void {
    this.expectOwnOrigin(ctx);
    this.#judge(ctx, token);
    this.#setCookie(ctx, this.#deps.sessions.open().value, SESSION_LIFETIME_S);
  }

  signOut(ctx: Koa.Context, { session }: Visitor): void {
    if (session !== undefined) {
      this.#deps.sessions.end(session);
    }
    this.#setCookie(ctx, "", 0);
  }

  /** @throws OciError for a form that did not come from this page */
  expectOwnForm(ctx: Koa.Context, { session }: Visitor, form: URLSearchParams): void {
    // No other page can make a browser send a token in a header.
    if (session === undefined) {
      return;
    }
    this.expectOwnOrigin(ctx);
    if (!this.#deps.sessions.isFormToken(session, form.get("form") ?? "")) {
      throw new OciError("DENIED", "this form is not of your session: go back, load the page anew and try again");
    }
  }

  /** @throws OciError for a form that the browser says another site has sent */
  expectOwnOrigin(ctx: Koa.Context): void {
    const site = ctx.get("sec-fetch-site");
    // What no page can forge comes first; browsers send it over TLS and to loopback addresses. The other way a proxy may have
    // changed the Host.
    const isOwn = site === "" ? isOwnOrigin(ctx.get("origin"), ctx.host) : site === "same-origin" || site === "none";
    if (!isOwn) {
      throw new OciError(
        "DENIED",
        "this form was sent from another site; behind a proxy, let it pass the Host header on as it is",
      );
    }
  }

  #judge(ctx: Koa.Context, token: string): void {
    const verdict = this.#deps.tokens.judge(token, ctx.req);
    if (verdict.is === "slowed") {
      throw tooManyTokens(verdict.retryAfterMs);
    }
    if (verdict.is === "wrong") {
      throw new OciError("UNAUTHORIZED", "this is not the token of admin.token");
    }
  }

  #setCookie(ctx: Koa.Context, value: string, maxAgeS: number): void {
    const { clients } = this.#deps;
    // Plain HTTP is how the port is reached without a proxy, and browsers would not send a Secure cookie back by it.
    const isSecure =
      clients.isProxy(ctx.req.socket.remoteAddress) &&
      /^https$/i.test(joined(ctx.req.headers["x-forwarded-proto"]) ?? "");
    const secure = isSecure ? "; Secure" : "";
    ctx.set(
      "Set-Cookie",
      `${COOKIE}=${value}; Path=${COOKIE_PATH}; Max-Age=${maxAgeS}; HttpOnly; SameSite=Strict${secure}`,
    );
  }
}

/** All of the name: another service of the host may have set one for a shorter path. */
function cookiesOf(ctx: Koa.Context): readonly string[] {
  return ctx
    .get("cookie")
    .split(";", MAX_COOKIES)
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${COOKIE}=`))
    .map((pair) => pair.slice(COOKIE.length + 1));
}

/** Browsers send `Origin` with every form; whoever sends none is no browser. */
function isOwnOrigin(origin: string, host: string): boolean {
  return origin === "" || (URL.canParse(origin) && new URL(origin).host === host.toLowerCase());
}
