import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Secret } from "../base/secret.ts";
import type { BuiltInTokenServiceConfig, SignInConfig } from "../config/types.ts";
import type { RepoRef } from "../oci/reference.ts";
import { Authenticator } from "./authenticator.ts";
import type { Documents } from "./documents.ts";
import { ExternalTokens } from "./external-tokens.ts";
import type { ScopeNames } from "./granted-scopes.ts";
import { Htpasswd } from "./htpasswd.ts";
import type { Identity } from "./identity.ts";
import { OidcTokens } from "./oidc.ts";
import { OwnTokens } from "./own-tokens.ts";
import { Passwords, verifyBcrypt } from "./passwords.ts";
import { SignIn } from "./sign-in.ts";
import { parseSigningKey, readPublicKey, readSigningKey, type SigningKey } from "./token-keys.ts";
import { TokenService } from "./token-service.ts";

export interface AccessDeps {
  readonly documents: Documents;
  readonly names: ScopeNames;
  /** Whether the rules let the caller pull anything of the repository. */
  mayPull(identity: Identity, repo: RepoRef): boolean;
  /** The key, PEM, that signs where none is given: made by the first who wants it, and the same ever after. */
  storedKey(): Promise<Secret>;
  readonly clock: Clock;
  readonly log: Log;
}

/** The ways to sign in that are configured. */
export interface Access {
  readonly authenticator: Authenticator;
  /** Undefined where there is no built-in service. */
  readonly tokens: TokenService | undefined;
  /** Loads what is loaded when it is wanted only, so that a start finds out whether it can be. */
  ready(): Promise<void>;
}

/**
 * Undefined where nobody signs in. Reads the files that the configuration names, and connects to nothing.
 *
 * @throws AccessFileError naming the key of a file that cannot be used
 */
export function createAccess(config: SignInConfig, deps: AccessDeps): Access | undefined {
  const { htpasswd, token, oidc, mtls } = config;
  if (htpasswd === undefined && token === undefined && oidc === undefined && mtls === undefined) {
    return undefined;
  }
  const { clock, log, names } = deps;
  const passwords =
    htpasswd && new Passwords({ file: new Htpasswd(htpasswd.file, { clock, log }), clock, verify: verifyBcrypt });
  const signIn = new SignIn({ config, passwords, oidc: oidc && new OidcTokens(oidc, deps) });
  const own = token?.kind === "built-in" ? createOwnTokens(token, deps) : undefined;
  const external = token?.kind === "external" ? new ExternalTokens(token, deps) : undefined;
  return {
    authenticator: new Authenticator({ config, signIn, own: own?.tokens, external, names, clock }),
    tokens:
      own &&
      token &&
      new TokenService({
        service: token.service,
        anonymous: config.anonymous,
        signIn,
        own: own.tokens,
        names,
        mayPull: (identity, repo) => deps.mayPull(identity, repo),
      }),
    async ready() {
      await Promise.all([passwords && import("bcrypt"), own?.signingKey()]);
    },
  };
}

function createOwnTokens(config: BuiltInTokenServiceConfig, { storedKey, clock }: AccessDeps) {
  const given = config.key === undefined ? undefined : readSigningKey("access.token.key", config.key);
  const oldKeys = config.oldKeys.map((path, i) => readPublicKey(`access.token.oldKeys[${i}]`, path));
  let kept: SigningKey | undefined = given;
  const signingKey = async (): Promise<SigningKey> => {
    kept ??= parseSigningKey((await storedKey()).reveal());
    return kept;
  };
  return { tokens: new OwnTokens({ config, signingKey, oldKeys, clock }), signingKey };
}

/** What is wrong with the files that the configuration names; what is only fetched, or made, is left alone. */
export function checkAccessFiles(config: SignInConfig, deps: Pick<AccessDeps, "clock" | "log">): void {
  createAccess(config, {
    ...deps,
    documents: { read: () => Promise.reject(new Error("nothing is fetched for a check")) },
    names: { repoOf: () => undefined },
    mayPull: () => false,
    storedKey: () => Promise.reject(new Error("nothing is made for a check")),
  });
}
