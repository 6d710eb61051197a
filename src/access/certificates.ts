import { type KeyObject, X509Certificate } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { readUsing } from "./read-file.ts";
import { badToken } from "./sign-in-error.ts";
import { keyId } from "./token-keys.ts";

/** Certificates of a token's own chain; real ones have two or three. */
const MAX_CHAIN = 8;

/** Certificates whose keys sign tokens, or whose holders say whose keys do. */
export class CertificateBundle {
  readonly #trusted: readonly X509Certificate[];
  readonly #keys: ReadonlyMap<string, KeyObject>;
  readonly #clock: Clock;

  /** @param pem one certificate after the other. @throws Error where there is none, or one that cannot be read */
  constructor(pem: string, clock: Clock) {
    const texts = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    if (texts.length === 0) {
      throw new Error("holds no certificate in PEM");
    }
    this.#trusted = texts.map((text) => new X509Certificate(text));
    this.#keys = new Map(this.#trusted.map(({ publicKey }) => [keyId(publicKey), publicKey]));
    this.#clock = clock;
  }

  /** @throws AccessFileError */
  static read(name: string, path: string, clock: Clock): CertificateBundle {
    return readUsing(name, path, (pem) => new CertificateBundle(pem, clock));
  }

  /** The key of a certificate in the bundle. */
  byId(kid: string): KeyObject | undefined {
    return this.#keys.get(kid);
  }

  /**
   * The key of the certificate that a token brings, if it leads to one of the bundle.
   *
   * @param chain `x5c` of the token's header (RFC 7515, 4.1.6)
   * @throws SignInError
   */
  byChain(chain: unknown): KeyObject {
    if (!Array.isArray(chain) || chain.length === 0 || chain.length > MAX_CHAIN) {
      throw badToken(`has no chain of 1 to ${MAX_CHAIN} certificates in its x5c`);
    }
    const certificates = chain.map(parseCertificate);
    const [first] = certificates;
    if (first === undefined || !this.#leadsHere(first, certificates.slice(1))) {
      throw badToken("is signed by a certificate that none of access.token.external.certificates vouches for");
    }
    return first.publicKey;
  }

  #leadsHere(start: X509Certificate, between: readonly X509Certificate[]): boolean {
    let current = start;
    for (let step = 0; step <= MAX_CHAIN; step += 1) {
      if (!this.#isInForce(current)) return false;
      const { fingerprint256 } = current;
      if (this.#trusted.some((known) => known.fingerprint256 === fingerprint256)) return true;
      const child = current;
      if (this.#trusted.some((known) => this.#isInForce(known) && vouches(known, child))) return true;
      const next = between.find(
        (certificate) => certificate.fingerprint256 !== fingerprint256 && vouches(certificate, child),
      );
      if (next === undefined) return false;
      current = next;
    }
    return false;
  }

  #isInForce({ validFromDate, validToDate }: X509Certificate): boolean {
    const now = this.#clock.now();
    return validFromDate.getTime() <= now && now <= validToDate.getTime();
  }
}

function vouches(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function parseCertificate(encoded: unknown): X509Certificate {
  try {
    return new X509Certificate(Buffer.from(String(encoded), "base64"));
  } catch {
    throw badToken("has something in its x5c that is no certificate");
  }
}
