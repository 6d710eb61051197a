import type { CallOptions } from "../base/call.ts";
import type { Secret } from "../base/secret.ts";
import { OciError } from "../oci/errors.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { parseScope, repositoryScope, type Scope } from "../oci/scope.ts";
import type { Presented } from "./authenticator.ts";
import { type Credentials, parseAuthorization } from "./credentials.ts";
import { CATALOG_SCOPE, grantsCatalog, MAX_SCOPES, repoOfScope, type ScopeNames } from "./granted-scopes.ts";
import { anonymous, type Identity } from "./identity.ts";
import type { IssuedToken, OwnTokens, TokenSubject } from "./own-tokens.ts";
import type { SignIn } from "./sign-in.ts";
import { SignInError } from "./sign-in-error.ts";

/** A request for a token (distribution token spec, and its OAuth2 form). */
export interface TokenQuestion extends Presented {
  /** Of the question itself, in the place of what else is presented. */
  readonly password: { readonly username: string; readonly password: Secret } | undefined;
  readonly refreshToken: Secret | undefined;
  readonly service: string | undefined;
  /** As they came, several in one perhaps. */
  readonly scopes: readonly string[];
  /** Whom the client takes itself for. */
  readonly account: string | undefined;
  /** Wants to stay signed in. */
  readonly offline: boolean;
}

export interface TokenAnswer extends IssuedToken {
  readonly account: string | undefined;
  readonly granted: readonly Scope[];
  readonly refreshToken: Secret | undefined;
}

export interface TokenServiceDeps {
  readonly service: string;
  /** Whether somebody who does not say who they are gets a token. */
  readonly anonymous: boolean;
  readonly signIn: SignIn;
  readonly own: OwnTokens;
  readonly names: ScopeNames;
  /** Whether the rules let the caller pull anything of the repository. */
  mayPull(identity: Identity, repo: RepoRef): boolean;
}

/** The built-in token service: signs in, and gives out what may be had. */
export class TokenService {
  readonly #deps: TokenServiceDeps;

  constructor(deps: TokenServiceDeps) {
    this.#deps = deps;
  }

  /** Rejects with a SignInError, or an OciError for a question that cannot be answered. */
  async answer(question: TokenQuestion, o: CallOptions): Promise<TokenAnswer> {
    const { service, own } = this.#deps;
    if (question.service !== undefined && question.service !== service) {
      throw malformed(`this service gives tokens for service=${service} only`);
    }
    const asked = readScopes(question.scopes);
    const { subject, via } = await this.#subjectOf(question, o);
    const identity: Identity = {
      ...anonymous(question.address),
      account: subject.account,
      groups: subject.groups,
      via,
    };
    const granted = this.#grant(identity, asked);
    const issued = await own.issue(subject, granted);
    // Only what can be taken back may last: another password ends it, and nothing ends what stood elsewhere.
    const lasting = question.offline && subject.mark !== undefined && question.refreshToken === undefined;
    const refreshToken = lasting ? (await own.issueRefresh(subject)).token : undefined;
    return { ...issued, account: subject.account, granted, refreshToken };
  }

  async #subjectOf(
    question: TokenQuestion,
    o: CallOptions,
  ): Promise<{ readonly subject: TokenSubject; readonly via: Identity["via"] }> {
    const { account, password } = question;
    const credentials: Credentials =
      password === undefined ? parseAuthorization(question.authorization) : { kind: "password", ...password };
    if (question.refreshToken !== undefined) {
      return { subject: await this.#byRefreshToken(question.refreshToken, account), via: "token" };
    }
    const { signIn } = this.#deps;
    switch (credentials.kind) {
      case "password": {
        requireAccount(account, credentials.username);
        const { via, ...subject } = await signIn.byPassword(
          credentials.username,
          credentials.password,
          question.address,
          o,
        );
        return { subject, via };
      }
      case "bearer": {
        const { via, ...subject } = await signIn.byIdToken(credentials.token, o);
        requireAccount(account, subject.account);
        return { subject, via };
      }
      case "unknown":
        throw new SignInError("the Authorization header is neither Basic nor Bearer, or cannot be understood");
      case "none":
        return this.#withoutCredentials(question);
    }
  }

  #withoutCredentials({ certificate, account }: TokenQuestion): { subject: TokenSubject; via: Identity["via"] } {
    const certified = this.#deps.signIn.byCertificate(certificate);
    if (certified !== undefined) {
      requireAccount(account, certified.account);
      const { via, ...subject } = certified;
      return { subject, via };
    }
    if (!this.#deps.anonymous || account !== undefined) {
      throw new SignInError("sign in with a user name and a password", { harmless: true });
    }
    const nobody = { account: undefined, groups: [], mark: undefined, expiresAtMs: undefined };
    return { subject: nobody, via: "anonymous" };
  }

  async #byRefreshToken(token: Secret, wanted: string | undefined): Promise<TokenSubject> {
    const { own, signIn } = this.#deps;
    const { account, groups, mark } = await own.verifyRefresh(token);
    if (account === undefined || mark === undefined || (await signIn.markOf(account)) !== mark) {
      throw new SignInError(
        "the refresh token is of somebody who is gone, or has another password since: sign in again",
      );
    }
    requireAccount(wanted, account);
    return { account, groups, mark, expiresAtMs: undefined };
  }

  /** What cannot be had is left out; the registry says why when it is asked for it. */
  #grant(identity: Identity, asked: readonly Scope[]): readonly Scope[] {
    const { names, mayPull } = this.#deps;
    const granted = new Map<string, Scope>();
    for (const scope of asked) {
      const repo = repoOfScope(scope, names);
      const reads = scope.actions.includes("pull") || scope.actions.includes("*");
      if (repo !== undefined && reads && mayPull(identity, repo)) {
        const name = formatRepo(repo);
        granted.set(name, repositoryScope(name, ["pull"]));
      }
    }
    return [...granted.values(), ...(grantsCatalog(asked) ? [CATALOG_SCOPE] : [])];
  }
}

/** Clients ask for scopes of other services too, or of names that mean nothing here: those are passed over. */
function readScopes(texts: readonly string[]): readonly Scope[] {
  const all = texts.flatMap((text) => text.split(" ")).filter((text) => text !== "");
  if (all.length > MAX_SCOPES) {
    throw malformed(`a token for ${all.length} scopes was asked for, of ${MAX_SCOPES} at most: ask for several tokens`);
  }
  return all.map(parseScope).filter((scope) => scope !== undefined);
}

/** Who asks for somebody else's token has mixed something up, and must not think that it got it. */
function requireAccount(wanted: string | undefined, account: string): void {
  if (wanted !== undefined && wanted !== account) {
    throw new SignInError("account names somebody else than those who have signed in");
  }
}

function malformed(message: string): OciError {
  return new OciError("UNSUPPORTED", message, { status: 400 });
}
