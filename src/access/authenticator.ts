import { createHmac, randomBytes } from "node:crypto";
import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Secret } from "../base/secret.ts";
import type { SignInConfig } from "../config/types.ts";
import { formatChallenge } from "../oci/challenge.ts";
import type { ClientCertificate } from "./client-certificate.ts";
import { parseAuthorization } from "./credentials.ts";
import type { ExternalTokens } from "./external-tokens.ts";
import { grantsCatalog, readAccessClaim, type ScopeNames } from "./granted-scopes.ts";
import { anonymous, type Identity } from "./identity.ts";
import type { OwnTokens } from "./own-tokens.ts";
import type { SignedIn, SignIn } from "./sign-in.ts";
import { badToken, SignInError, type TokenProblem } from "./sign-in-error.ts";

/** Tokens that are known to be good, some kilobyte each with what they grant. */
const MAX_KNOWN_TOKENS = 5_000;

/** A token of an issuer elsewhere may have been revoked there, whatever its own lifetime. */
const MAX_KNOWN_MS = 5 * 60 * 1000;

/** What a request shows of who sends it. */
export interface Presented {
  /** The header. */
  readonly authorization: string | undefined;
  readonly certificate: ClientCertificate | undefined;
  readonly address: string | undefined;
}

/** What a challenge is to say. */
export interface ChallengeOptions {
  /** Where clients reach the built-in token service: `https://weir.example/auth/token`. */
  readonly realm: string;
  /** What the request needs, as a scope; undefined where it needs none. */
  readonly scope: string | undefined;
  readonly problem: TokenProblem | undefined;
}

export interface AuthenticatorDeps {
  readonly config: SignInConfig;
  readonly signIn: SignIn;
  /** Of the built-in service. */
  readonly own: OwnTokens | undefined;
  readonly external: ExternalTokens | undefined;
  readonly names: ScopeNames;
  readonly clock: Clock;
}

type Known = Omit<Identity, "address"> & {
  /** Of a token that stands for a password. */
  readonly mark: string | undefined;
};

/** Finds out who sends a request, and tells who does not say how to. */
export class Authenticator {
  readonly #deps: AuthenticatorDeps;
  readonly #key = randomBytes(32);
  readonly #known: LRUCache<string, Known>;

  constructor(deps: AuthenticatorDeps) {
    this.#deps = deps;
    this.#known = new LRUCache({ ...atMost(MAX_KNOWN_TOKENS), ttl: MAX_KNOWN_MS, ttlResolution: 0, perf: deps.clock });
  }

  /**
   * Whether a client that asks whether there is a registry (`/v2/`) is to be told to sign in although it could do without: Docker
   * and Podman learn only there how to, and without an account they then get a token for nobody.
   */
  get asksAtPing(): boolean {
    return this.#deps.config.token !== undefined;
  }

  /**
   * Rejects with a {@link SignInError} where what was sent is wrong, or nothing was and somebody has to be; with an OciError
   * UNAVAILABLE where that cannot be found out now. Credentials of a kind that no way to sign in takes count as not sent.
   */
  async identify({ authorization, certificate, address }: Presented, o: CallOptions): Promise<Identity> {
    const { config, signIn } = this.#deps;
    const credentials = parseAuthorization(authorization);
    const takesTokens = this.#takesTokens;
    if (credentials.kind === "password" && signIn.takesPasswords) {
      return identityOf(await signIn.byPassword(credentials.username, credentials.password, address, o), address);
    }
    if (credentials.kind === "bearer" && takesTokens) {
      return await this.#byToken(credentials.token, address, o);
    }
    if (credentials.kind === "unknown" && (takesTokens || signIn.takesPasswords)) {
      throw new SignInError("the Authorization header is neither Basic nor Bearer, or cannot be understood");
    }
    const unsigned = this.#withoutCredentials(certificate, address);
    if (unsigned === undefined) {
      throw new SignInError(`nobody is served here without ${waysOf(config)}`, { harmless: true });
    }
    return unsigned;
  }

  /** What {@link identify} comes to, where nothing has to be waited for; undefined where it has to find out, or refuses. */
  known({ authorization, certificate, address }: Presented): Identity | undefined {
    const credentials = parseAuthorization(authorization);
    if (credentials.kind === "bearer" && this.#takesTokens) {
      const known = this.#known.get(this.#keyOf(credentials.token));
      return known === undefined || known.mark !== undefined ? undefined : identityOf(known, address);
    }
    return credentials.kind === "none" ? this.#withoutCredentials(certificate, address) : undefined;
  }

  get #takesTokens(): boolean {
    const { token, oidc } = this.#deps.config;
    return token !== undefined || oidc !== undefined;
  }

  /** Undefined where somebody has to sign in. */
  #withoutCredentials(certificate: ClientCertificate | undefined, address: string | undefined): Identity | undefined {
    const { config, signIn } = this.#deps;
    const certified = signIn.byCertificate(certificate);
    if (certified !== undefined) {
      return identityOf(certified, address);
    }
    return config.anonymous ? anonymous(address) : undefined;
  }

  /** The value of `WWW-Authenticate`; undefined where a client could do nothing about it. */
  challenge({ realm, scope, problem }: ChallengeOptions): string | undefined {
    const { token } = this.#deps.config;
    if (token === undefined) {
      return this.passwordChallenge();
    }
    const at = token.kind === "external" ? token.realm.href : realm;
    return formatChallenge("Bearer", { realm: at, service: token.service, scope, error: problem });
  }

  /** The same where no tokens are taken. */
  passwordChallenge(): string | undefined {
    return this.#deps.signIn.takesPasswords ? formatChallenge("Basic", { realm: "Weir" }) : undefined;
  }

  /**
   * The catalog lists what the rules let the caller see; a token has to grant the catalog itself.
   *
   * @throws SignInError
   */
  forCatalog(identity: Identity): Identity {
    if (identity.grants !== undefined && !grantsCatalog(identity.grants)) {
      throw new SignInError("the token does not grant the catalog", { problem: "insufficient_scope", harmless: true });
    }
    return identity.grants === undefined ? identity : { ...identity, grants: undefined };
  }

  async #byToken(token: Secret, address: string | undefined, o: CallOptions): Promise<Identity> {
    const key = this.#keyOf(token);
    let known = this.#known.get(key);
    if (known === undefined) {
      const { expiresAtMs, ...verified } = await this.#verify(token, o);
      known = verified;
      const ttl = Math.min(MAX_KNOWN_MS, expiresAtMs - this.#deps.clock.now());
      // Within the tolerance for clocks a token is good for a little longer than it says.
      if (ttl > 0) this.#known.set(key, known, { ttl });
    }
    const { mark, account } = known;
    if (mark !== undefined && account !== undefined && (await this.#deps.signIn.markOf(account)) !== mark) {
      throw badToken("is of somebody who is gone, or has another password since");
    }
    return identityOf(known, address);
  }

  #keyOf(token: Secret): string {
    return createHmac("sha256", this.#key).update(token.reveal()).digest("base64");
  }

  async #verify(token: Secret, o: CallOptions): Promise<Known & { readonly expiresAtMs: number }> {
    const { signIn, own, external, names } = this.#deps;
    if (signIn.isIdToken(token)) {
      const { account, groups, via, expiresAtMs = 0 } = await signIn.byIdToken(token, o);
      return { account, groups, via, grants: undefined, mark: undefined, expiresAtMs };
    }
    if (own !== undefined) {
      const { access, ...rest } = await own.verify(token);
      if (rest.account === undefined && !this.#deps.config.anonymous) {
        throw badToken("is nobody's, and nobody is served here any more without an account", true);
      }
      return { ...rest, via: "token", grants: readAccessClaim(access, names) };
    }
    if (external !== undefined) {
      const { sub = "", access, exp = 0 } = await external.verify(token, o);
      const account = sub === "" ? undefined : sub;
      return {
        account,
        groups: [],
        via: "token",
        grants: readAccessClaim(access, names),
        mark: undefined,
        expiresAtMs: exp * 1000,
      };
    }
    throw badToken("is of no issuer in access.oidc.issuers");
  }
}

function identityOf(found: SignedIn | Known, address: string | undefined): Identity {
  const { account, groups, via } = found;
  return { account, groups, via, address, grants: "grants" in found ? found.grants : undefined };
}

/** For somebody who is refused for being nobody. */
function waysOf({ htpasswd, token, oidc, mtls }: SignInConfig): string {
  const ways = [
    htpasswd && "a user name and a password",
    token && "a token",
    oidc && "an ID token",
    mtls && "a client certificate",
  ].filter((way) => way !== undefined);
  return ways.join(" or ");
}
