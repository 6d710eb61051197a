import { randomUUID } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { Secret } from "../base/secret.ts";
import type { BuiltInTokenServiceConfig } from "../config/types.ts";
import type { Scope } from "../oci/scope.ts";
import { type JWTPayload, verifyToken } from "./jwt.ts";
import { badToken } from "./sign-in-error.ts";
import type { PublicKey, SigningKey } from "./token-keys.ts";

/** Who a token of ours is about. */
export interface TokenSubject {
  /** Undefined = anonymous. */
  readonly account: string | undefined;
  readonly groups: readonly string[];
  /** What stood for the account in the htpasswd file; undefined for accounts that come from elsewhere. */
  readonly mark: string | undefined;
  /** When what it was shown by runs out; undefined where that does not. */
  readonly expiresAtMs: number | undefined;
}

/** A token of ours, verified. */
export interface OwnToken extends Omit<TokenSubject, "expiresAtMs"> {
  /** The `access` claim, as it stands in the token. */
  readonly access: unknown;
  readonly expiresAtMs: number;
}

export interface IssuedToken {
  readonly token: Secret;
  readonly issuedAtMs: number;
  /** Seconds. */
  readonly lifetimeS: number;
}

/** The two kinds are told apart by their `typ`, so that one never passes for the other. */
const ACCESS_TYPE = "JWT";
const REFRESH_TYPE = "weir-refresh+jwt";

export interface OwnTokensDeps {
  readonly config: BuiltInTokenServiceConfig;
  /** Asked for each time, so that a key that cannot be had now may be had later. */
  signingKey(): Promise<SigningKey>;
  /** Whose tokens still count. */
  readonly oldKeys: readonly PublicKey[];
  readonly clock: Clock;
}

/** Signs and verifies the tokens of the built-in service (distribution token spec, JWT). */
export class OwnTokens {
  readonly #deps: OwnTokensDeps;

  constructor(deps: OwnTokensDeps) {
    this.#deps = deps;
  }

  /** A token that opens what `access` lists, for some minutes. */
  async issue(subject: TokenSubject, access: readonly Scope[]): Promise<IssuedToken> {
    return await this.#sign(subject, this.#deps.config.lifetimeMs, ACCESS_TYPE, { access });
  }

  /** A token that stands for the password, until that changes. */
  async issueRefresh(subject: TokenSubject): Promise<IssuedToken> {
    return await this.#sign(subject, this.#deps.config.refreshLifetimeMs, REFRESH_TYPE, {});
  }

  /** Rejects with a SignInError. */
  verify(token: Secret): Promise<OwnToken> {
    return this.#verify(token, ACCESS_TYPE);
  }

  /** Rejects with a SignInError. */
  verifyRefresh(token: Secret): Promise<OwnToken> {
    return this.#verify(token, REFRESH_TYPE);
  }

  async #sign(
    { account, groups, mark, expiresAtMs = Number.POSITIVE_INFINITY }: TokenSubject,
    lifetimeMs: number,
    typ: string,
    claims: JWTPayload,
  ): Promise<IssuedToken> {
    const { config, clock, signingKey } = this.#deps;
    const [{ SignJWT }, key] = await Promise.all([import("jose"), signingKey()]);
    const issuedAtMs = clock.now();
    const issuedAtS = Math.floor(issuedAtMs / 1000);
    // Never longer than what it stands for, which may have run out within the tolerance for clocks.
    const lifetimeS = Math.max(1, Math.floor(Math.min(lifetimeMs, expiresAtMs - issuedAtMs) / 1000));
    const token = await new SignJWT({
      ...claims,
      iss: config.service,
      aud: config.service,
      // As the spec has it for a token without an account.
      sub: account ?? "",
      iat: issuedAtS,
      nbf: issuedAtS,
      exp: issuedAtS + lifetimeS,
      jti: randomUUID(),
      weir: { groups, ...(mark === undefined ? {} : { mark }) },
    })
      .setProtectedHeader({ typ, alg: key.alg, kid: key.kid })
      .sign(key.private);
    return { token: new Secret(token), issuedAtMs, lifetimeS };
  }

  async #verify(token: Secret, typ: string): Promise<OwnToken> {
    const { config, clock, signingKey, oldKeys } = this.#deps;
    const keys = [await signingKey(), ...oldKeys];
    const { sub, exp, access, weir } = await verifyToken(
      token.reveal(),
      ({ kid }) => {
        const known = keys.find((key) => key.kid === kid);
        if (known === undefined) throw badToken("is signed by a key that does not count here, or not any more");
        return known.public;
      },
      {
        issuer: config.service,
        audiences: [config.service],
        algorithms: ["ES256", "RS256"],
        typ,
        nowMs: clock.now(),
      },
    );
    const { groups, mark } = (weir ?? {}) as { readonly groups?: readonly string[]; readonly mark?: string };
    return {
      account: sub === undefined || sub === "" ? undefined : sub,
      groups: groups ?? [],
      mark,
      access,
      expiresAtMs: (exp ?? 0) * 1000,
    };
  }
}
