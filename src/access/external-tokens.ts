import type { KeyObject } from "node:crypto";
import type { CryptoKey } from "jose";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Secret } from "../base/secret.ts";
import type { ExternalTokenServiceConfig } from "../config/types.ts";
import { CertificateBundle } from "./certificates.ts";
import { ASYMMETRIC, type JWTPayload, verifyToken } from "./jwt.ts";
import { KeySet, type KeySetDeps } from "./key-set.ts";
import { badToken } from "./sign-in-error.ts";

/** Verifies the tokens of a token server that serves registries, as the distribution registry does. */
export class ExternalTokens {
  readonly #config: ExternalTokenServiceConfig;
  readonly #clock: Clock;
  readonly #certificates: CertificateBundle | undefined;
  readonly #keySet: KeySet | undefined;

  /** @throws AccessFileError where the certificates cannot be read */
  constructor(config: ExternalTokenServiceConfig, deps: KeySetDeps) {
    const { issuer, jwks, certificates, ca } = config;
    this.#config = config;
    this.#clock = deps.clock;
    this.#certificates =
      certificates === undefined
        ? undefined
        : CertificateBundle.read("access.token.external.certificates", certificates, deps.clock);
    this.#keySet =
      jwks === undefined
        ? undefined
        : new KeySet({ section: "access.token.external", issuer, place: jwks, ca, tokenFile: undefined }, deps);
  }

  /** Rejects with a SignInError, or an OciError UNAVAILABLE where the issuer's keys cannot be had. */
  verify(token: Secret, o: CallOptions): Promise<JWTPayload> {
    const { issuer, service } = this.#config;
    const expected = { issuer, audiences: [service], algorithms: ASYMMETRIC, nowMs: this.#clock.now() };
    return verifyToken(token.reveal(), (header) => this.#keyOf(header, o), expected);
  }

  async #keyOf(
    header: { readonly alg: string; readonly kid?: string; readonly x5c?: unknown },
    o: CallOptions,
  ): Promise<KeyObject | CryptoKey> {
    const { kid } = header;
    if (header.x5c !== undefined && this.#certificates !== undefined) {
      return this.#certificates.byChain(header.x5c);
    }
    const known = kid === undefined ? undefined : this.#certificates?.byId(kid);
    if (known !== undefined) {
      return known;
    }
    if (this.#keySet === undefined) {
      throw badToken("names no key (kid) of access.token.external.certificates, and brings no certificate (x5c)");
    }
    return await this.#keySet.find(kid === undefined ? { alg: header.alg } : { alg: header.alg, kid }, o);
  }
}
