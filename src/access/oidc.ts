import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { compileGlob } from "../base/glob.ts";
import type { Secret } from "../base/secret.ts";
import type { OidcConfig, OidcIssuerConfig } from "../config/types.ts";
import { ASYMMETRIC, claimedIssuer, type JWTPayload, verifyToken } from "./jwt.ts";
import { KeySet, type KeySetDeps } from "./key-set.ts";
import { badToken } from "./sign-in-error.ts";

/** An account's name, or a group's; longer ones are none. */
const MAX_NAME_LENGTH = 255;

/** Groups of one account that count; directories give hundreds. */
const MAX_GROUPS = 500;

/** Who an ID token is about. */
export interface OidcAccount {
  readonly account: string;
  readonly groups: readonly string[];
  readonly expiresAtMs: number;
}

interface Issuer {
  readonly config: OidcIssuerConfig;
  readonly keys: KeySet;
  readonly demands: readonly { readonly claim: string; fits(text: string): boolean }[];
}

/** Verifies ID tokens (OpenID Connect Core 1.0, 3.1.3.7) and says whose they are. */
export class OidcTokens {
  readonly #issuers: ReadonlyMap<string, Issuer>;
  readonly #clock: Clock;

  /** @throws AccessFileError where a file that is named cannot be used */
  constructor({ issuers }: OidcConfig, deps: KeySetDeps) {
    this.#clock = deps.clock;
    this.#issuers = new Map(
      issuers.map((config, i) => [
        config.issuer,
        {
          config,
          keys: new KeySet(
            {
              section: `access.oidc.issuers[${i}]`,
              issuer: config.issuer,
              place: config.jwks,
              ca: config.ca,
              tokenFile: config.tokenFile,
            },
            deps,
          ),
          demands: [...config.require].map(([claim, glob]) => ({ claim, fits: compileGlob(glob) })),
        },
      ]),
    );
  }

  /** Whether the token says that it comes from one of the issuers; nothing is verified. */
  concerns(token: Secret): boolean {
    return this.#issuers.has(claimedIssuer(token.reveal()) ?? "");
  }

  /** Rejects with a SignInError, or an OciError UNAVAILABLE where the issuer's keys cannot be had. */
  async verify(token: Secret, o: CallOptions): Promise<OidcAccount> {
    const issuer = this.#issuers.get(claimedIssuer(token.reveal()) ?? "");
    if (issuer === undefined) {
      throw badToken("is of no issuer in access.oidc.issuers");
    }
    const { config, keys, demands } = issuer;
    const claims = await verifyToken(
      token.reveal(),
      ({ alg, kid }) => keys.find(kid === undefined ? { alg } : { alg, kid }, o),
      { issuer: config.issuer, audiences: config.audiences, algorithms: ASYMMETRIC, nowMs: this.#clock.now() },
    );
    for (const { claim, fits } of demands) {
      const value = claims[claim];
      if (!textsOf(value).some(fits)) {
        throw badToken(`has a ${claim} that access.oidc does not take, or has none`);
      }
    }
    const name = claimAt(claims, config.account);
    const account = typeof name === "string" && name !== "" ? `${config.prefix}${name}` : undefined;
    if (account === undefined || !isName(account)) {
      throw badToken(`has no ${config.account.join(".")} that could be an account's name`);
    }
    const groups = config.groups === undefined ? [] : textsOf(claimAt(claims, config.groups));
    return {
      account,
      groups: groups.filter(isName).slice(0, MAX_GROUPS),
      expiresAtMs: (claims.exp ?? 0) * 1000,
    };
  }
}

function claimAt(claims: JWTPayload, path: readonly string[]): unknown {
  let value: unknown = claims;
  for (const name of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  return value;
}

/** A claim that is a text, a truth, a number or a list of such. */
function textsOf(value: unknown): readonly string[] {
  const all: readonly unknown[] = Array.isArray(value) ? value : [value];
  return all.flatMap((one) => (["string", "number", "boolean"].includes(typeof one) ? [String(one)] : []));
}

function isName(text: string): boolean {
  return text.length <= MAX_NAME_LENGTH && !/\p{Cc}/u.test(text);
}
