import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import type { Authenticator, Presented } from "../access/authenticator.ts";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Identity } from "../access/identity.ts";
import { SignInError, type TokenProblem } from "../access/sign-in-error.ts";
import type { TokenService } from "../access/token-service.ts";
import { OciError } from "../oci/errors.ts";
import { formatRepo } from "../oci/reference.ts";
import { formatScope, repositoryScope } from "../oci/scope.ts";
import type { RequestRecord } from "./access-log.ts";
import type { RoutedCall } from "./route.ts";
import { clientCertificateOf } from "./tls.ts";
import { TOKEN_PATH } from "./token-endpoint.ts";

/** The ways to sign in that are in force. */
export interface FrontAccess {
  readonly authenticator: Authenticator;
  /** The built-in service, where there is one. */
  readonly tokens: TokenService | undefined;
}

/** How callers sign in, and what those are who do not. */
export interface SignInSource {
  /** Asked for each request, so that a reload counts at once; undefined where nobody signs in. */
  access(): FrontAccess | undefined;
  anonymous(address: string | undefined): Identity;
  /** Where clients reach this server, if not by the name that they ask for. */
  readonly publicOrigin: string | undefined;
}

/** What a refused request was about. */
export interface Refused {
  readonly req: IncomingMessage;
  readonly call: RoutedCall | undefined;
  /** Undefined where it was not found out. */
  readonly identity: Identity | undefined;
  /** Where clients reach this server, if not by the name that they ask for. */
  readonly publicOrigin: string | undefined;
}

/** What a request shows of who sends it. */
export function presentedBy(req: IncomingMessage, { from }: Pick<RequestRecord, "from">): Presented {
  return {
    authorization: req.headers.authorization,
    certificate: clientCertificateOf(req),
    address: from.address,
  };
}

/** Who may be asked for what `call` wants. Rejects with a SignInError where somebody else has to ask. */
export function judged(identity: Identity, call: RoutedCall, { authenticator }: FrontAccess): Identity {
  if (call.op === "ping" && identity.via === "anonymous" && authenticator.asksAtPing) {
    throw new SignInError("sign in, or get a token for nobody", { harmless: true });
  }
  return call.op === "catalog" ? authenticator.forCatalog(identity) : identity;
}

/**
 * What a client is told that was refused for who it is: 401 with a challenge where signing in, or another token, could help.
 * Any other error is left as it is.
 */
export function challenged(err: unknown, { authenticator }: FrontAccess, refused: Refused): unknown {
  if (!(err instanceof SignInError || (err instanceof AccessDeniedError && couldHelp(err, refused.identity)))) {
    return err;
  }
  const origin = originOf(refused);
  const problem = err instanceof SignInError ? err.problem : problemOf(refused.identity);
  const challenge =
    origin && authenticator.challenge({ realm: `${origin}${TOKEN_PATH}`, scope: scopeOf(refused.call), problem });
  return unauthorised(err, challenge);
}

/** The same at the token service, which takes passwords and no tokens. */
export function challengedForPassword(err: unknown, { authenticator }: FrontAccess): unknown {
  return err instanceof SignInError ? unauthorised(err, authenticator.passwordChallenge()) : err;
}

/** Without a challenge there is nothing that a client could answer a 401 with. */
function unauthorised(err: OciError, challenge: string | undefined): OciError {
  const { message, detail } = err;
  const about = { cause: err, ...(detail === undefined ? {} : { detail }) };
  return challenge === undefined
    ? new OciError("DENIED", message, about)
    : new OciError("UNAUTHORIZED", message, { ...about, headers: { "www-authenticate": challenge } });
}

/** Somebody else, or somebody with a token for more, might have got it. */
function couldHelp({ reason }: AccessDeniedError, identity: Identity | undefined): boolean {
  if (reason === "grant") {
    return true;
  }
  return identity?.account === undefined && (reason === "private" || reason === "rule");
}

function problemOf(identity: Identity | undefined): TokenProblem | undefined {
  return identity?.via === "token" ? "insufficient_scope" : undefined;
}

/** As the request's own challenge names it: the upstream in front, whatever form the request has. */
function scopeOf(call: RoutedCall | undefined): string | undefined {
  if (call?.op === "catalog") {
    return "registry:catalog:*";
  }
  return call !== undefined && "repo" in call && call.repo !== undefined
    ? formatScope(repositoryScope(formatRepo(call.repo), ["pull"]))
    : undefined;
}

const HOST = /^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/;

/** Undefined where the client does not say by which name it has come, in a way that could be said to it again. */
function originOf({ req, publicOrigin }: Refused): string | undefined {
  if (publicOrigin !== undefined) {
    return publicOrigin;
  }
  const { host = "" } = req.headers;
  const secure = (req.socket as Partial<TLSSocket>).encrypted === true;
  return HOST.test(host) ? `${secure ? "https" : "http"}://${host}` : undefined;
}
