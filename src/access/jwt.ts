import { KeyObject } from "node:crypto";
import type { CryptoKey, JWTHeaderParameters, JWTPayload, JWTVerifyOptions } from "jose";
import { badToken, SignInError } from "./sign-in-error.ts";
import { MIN_RSA_BITS } from "./token-keys.ts";

export type { JWTPayload } from "jose";

/** Clocks differ by so much at most; as the distribution registry has it. Seconds. */
const CLOCK_TOLERANCE_S = 60;

/** Algorithms of issuers elsewhere; every one of them signs with one key and verifies with another. */
export const ASYMMETRIC = [
  ...["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
  ...["ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
];

export interface TokenExpectations extends Pick<JWTVerifyOptions, "typ"> {
  readonly issuer: string;
  /** One of them. */
  readonly audiences: readonly string[];
  readonly algorithms: readonly string[];
  readonly nowMs: number;
}

/** The key that a token's header leads to. Rejects with a SignInError where there is none. */
export type FindKey = (header: JWTHeaderParameters) => Promise<KeyObject | CryptoKey> | KeyObject;

/** What a token claims, once its signature, times, issuer and audience have turned out right. Rejects with a SignInError. */
export async function verifyToken(token: string, find: FindKey, expected: TokenExpectations): Promise<JWTPayload> {
  const { jwtVerify } = await import("jose");
  try {
    const findFitting = async (header: JWTHeaderParameters): Promise<KeyObject | CryptoKey> => {
      const key = await find(header);
      if (key instanceof KeyObject && !fits(key, header.alg)) {
        throw badToken("is signed by an algorithm that is not its key's");
      }
      if (rsaBitsOf(key) < MIN_RSA_BITS) {
        throw badToken(`is signed by an RSA key of less than ${MIN_RSA_BITS} bits`);
      }
      return key;
    };
    const { payload } = await jwtVerify(token, async (header) => await findFitting(header as JWTHeaderParameters), {
      issuer: expected.issuer,
      audience: [...expected.audiences],
      algorithms: [...expected.algorithms],
      clockTolerance: CLOCK_TOLERANCE_S,
      currentDate: new Date(expected.nowMs),
      requiredClaims: ["exp"],
      ...(expected.typ === undefined ? {} : { typ: expected.typ }),
    });
    return payload;
  } catch (error) {
    throw refusal(error);
  }
}

/** What keys the algorithms are for: the kind, or the curve. */
const KEYS: readonly (readonly [algorithms: RegExp, key: string])[] = [
  [/^[RP]S\d+$/, "rsa"],
  [/^ES256$/, "prime256v1"],
  [/^ES384$/, "secp384r1"],
  [/^ES512$/, "secp521r1"],
  [/^(?:EdDSA|Ed25519)$/, "ed25519"],
];

/** The algorithm is the token's word, the key is ours: the library takes what does not go together for a mistake of ours. */
function fits({ asymmetricKeyType: kind, asymmetricKeyDetails: details }: KeyObject, algorithm: string): boolean {
  const wanted = KEYS.find(([algorithms]) => algorithms.test(algorithm))?.[1];
  return wanted !== undefined && (wanted === kind || wanted === details?.namedCurve);
}

/** Infinity for a key of another kind. */
function rsaBitsOf(key: KeyObject | CryptoKey): number {
  const details = key instanceof KeyObject ? (key.asymmetricKeyDetails ?? {}) : key.algorithm;
  const { modulusLength = Number.POSITIVE_INFINITY } = details as { readonly modulusLength?: number };
  return modulusLength;
}

/** Who a token says has issued it, before anything of it is verified; undefined for what is no such token. */
export function claimedIssuer(token: string): string | undefined {
  const [, payload, signature, ...others] = token.split(".");
  if (payload === undefined || signature === undefined || others.length > 0) {
    return undefined;
  }
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString("utf8"));
    return typeof claims === "object" && claims !== null && "iss" in claims && typeof claims.iss === "string"
      ? claims.iss
      : undefined;
  } catch {
    return undefined;
  }
}

/** The library's errors in our words: theirs may quote the token. */
function refusal(error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (error instanceof SignInError || typeof code !== "string" || !code.startsWith("ERR_J")) {
    return error;
  }
  switch (code) {
    case "ERR_JWT_EXPIRED":
      return badToken("has expired", true);
    case "ERR_JWT_CLAIM_VALIDATION_FAILED":
      return badToken(`has not the ${claimOf(error)} that is expected here`);
    case "ERR_JWS_SIGNATURE_VERIFICATION_FAILED":
      return badToken("has a signature that is not its issuer's");
    case "ERR_JOSE_ALG_NOT_ALLOWED":
      return badToken("is signed by an algorithm that is not accepted");
    case "ERR_JWKS_NO_MATCHING_KEY":
    case "ERR_JWKS_MULTIPLE_MATCHING_KEYS":
      return badToken("is signed by a key that its issuer does not list");
    default:
      return badToken("is none that could be understood");
  }
}

/** One of a closed set: the library names what it was told to look at. */
function claimOf(error: unknown): string {
  return error instanceof Error && "claim" in error ? String(error.claim) : "claims";
}
