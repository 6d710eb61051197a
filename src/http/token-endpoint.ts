import type { IncomingMessage } from "node:http";
import type { Presented } from "../access/authenticator.ts";
import type { TokenAnswer, TokenQuestion, TokenService } from "../access/token-service.ts";
import type { CallOptions } from "../base/call.ts";
import { Secret } from "../base/secret.ts";
import { OciError } from "../oci/errors.ts";
import { formatScope } from "../oci/scope.ts";
import { jsonAnswer, NO_CACHE_INFO } from "./answer.ts";
import { readForm } from "./page/form.ts";

/** Where the built-in token service is. */
export const TOKEN_PATH = "/auth/token";

/** Passwords and tokens fit several times over. A form that says so at once that it is larger is refused with a word. */
const MAX_DECLARED_BYTES = 16 * 1024;

export function isTokenPath(target: string): boolean {
  return target === TOKEN_PATH || target.startsWith(`${TOKEN_PATH}?`);
}

/**
 * The question in a request: `GET` as the distribution token spec has it, or the form of its OAuth2 variant.
 *
 * @throws OciError with the status for the client
 */
export async function readTokenQuestion(req: IncomingMessage, asker: Presented): Promise<TokenQuestion> {
  switch (req.method) {
    case "GET": {
      const target = req.url ?? "";
      const query = new URLSearchParams(target.slice(TOKEN_PATH.length));
      return { ...asker, ...asked(query), ...NO_GRANT, offline: query.get("offline_token") === "true" };
    }
    case "POST": {
      if (Number(req.headers["content-length"]) > MAX_DECLARED_BYTES) {
        throw new OciError("UNSUPPORTED", `the form exceeds ${MAX_DECLARED_BYTES} bytes: ask for several tokens`, {
          status: 413,
        });
      }
      const form = await readForm(req);
      return { ...asker, ...asked(form), ...grantOf(form), offline: form.get("access_type") === "offline" };
    }
    default:
      throw new OciError("UNSUPPORTED", "tokens are asked for by GET or POST", { headers: { allow: "GET, POST" } });
  }
}

/** As the spec has it, in both of its forms. Nobody on the way may keep it. */
export async function answerToken(tokens: TokenService, question: TokenQuestion, o: CallOptions) {
  const answer = await tokens.answer(question, o);
  return { account: answer.account, answer: jsonAnswer(200, document(answer), NO_CACHE_INFO, NOT_KEPT) };
}

const NOT_KEPT = { "Cache-Control": "no-store" };

function asked(fields: URLSearchParams): Pick<TokenQuestion, "service" | "scopes" | "account"> {
  return {
    service: fields.get("service") ?? undefined,
    scopes: fields.getAll("scope"),
    // Clients that have none send it empty.
    account: fields.get("account") || undefined,
  };
}

type Grant = Pick<TokenQuestion, "password" | "refreshToken">;

const NO_GRANT: Grant = { password: undefined, refreshToken: undefined };

function grantOf(form: URLSearchParams): Grant {
  const required = (name: string): string => {
    const value = form.get(name) ?? "";
    if (value === "") throw malformed(`the form has no ${name}`);
    return value;
  };
  switch (form.get("grant_type")) {
    case "password": {
      const username = required("username");
      return { ...NO_GRANT, password: { username, password: new Secret(required("password")) } };
    }
    case "refresh_token":
      return { ...NO_GRANT, refreshToken: new Secret(required("refresh_token")) };
    default:
      throw malformed("grant_type is neither password nor refresh_token");
  }
}

function document({ token, lifetimeS, issuedAtMs, granted, refreshToken }: TokenAnswer): unknown {
  const revealed = token.reveal();
  return {
    token: revealed,
    access_token: revealed,
    expires_in: lifetimeS,
    issued_at: new Date(issuedAtMs).toISOString(),
    scope: granted.map(formatScope).join(" "),
    ...(refreshToken === undefined ? {} : { refresh_token: refreshToken.reveal() }),
  };
}

function malformed(message: string): OciError {
  return new OciError("UNSUPPORTED", message, { status: 400 });
}
