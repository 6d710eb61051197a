import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { readUsing } from "./read-file.ts";

/** A key that signs tokens. */
export interface SigningKey extends PublicKey {
  readonly alg: "ES256" | "RS256";
  readonly private: KeyObject;
}

/** A key that tells whose a token is. */
export interface PublicKey {
  /** As a token's header names it. */
  readonly kid: string;
  readonly public: KeyObject;
}

/** Shorter ones can be broken. */
export const MIN_RSA_BITS = 2048;

/** PEM text of a new key, EC P-256. */
export function makeSigningKey(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/**
 * @param pem EC P-256 or RSA, not encrypted
 * @throws Error that says what the key is instead; shows nothing of it
 */
export function parseSigningKey(pem: string): SigningKey {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (cause) {
    throw new Error("is no private key in PEM that can be read without a passphrase", { cause });
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: details = {} } = key;
  const isEc = type === "ec" && details.namedCurve === "prime256v1";
  const isRsa = type === "rsa" && (details.modulusLength ?? 0) >= MIN_RSA_BITS;
  if (!isEc && !isRsa) {
    throw new Error(`is ${describe(key)}; EC P-256, or RSA from ${MIN_RSA_BITS} bits, is needed`);
  }
  const publicKey = createPublicKey(key);
  return { alg: isEc ? "ES256" : "RS256", kid: keyId(publicKey), private: key, public: publicKey };
}

function describe({ asymmetricKeyType: type, asymmetricKeyDetails: details = {} }: KeyObject): string {
  const size = details.namedCurve ?? (details.modulusLength === undefined ? "" : `${details.modulusLength} bits`);
  return `a key of another kind (${type} ${size})`.replace(" )", ")");
}

/** @throws AccessFileError */
export function readSigningKey(name: string, path: string): SigningKey {
  return readUsing(name, path, parseSigningKey);
}

/** The public half of the key, or of the certificate's, in the file. @throws AccessFileError */
export function readPublicKey(name: string, path: string): PublicKey {
  return readUsing(name, path, (pem) => {
    let key: KeyObject;
    try {
      key = createPublicKey(pem);
    } catch (cause) {
      throw new Error("is no key and no certificate in PEM", { cause });
    }
    return { kid: keyId(key), public: key };
  });
}

/**
 * The name of a key as the distribution registry has it since libtrust: the first 240 bits of its SHA-256, in groups of four
 * letters. Token servers for registries write it into `kid`.
 */
export function keyId(key: KeyObject): string {
  const hash = createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest();
  const text = base32(hash.subarray(0, 30));
  return (text.match(/.{4}/g) ?? []).join(":");
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** RFC 4648, for lengths that need no padding. */
function base32(bytes: Uint8Array): string {
  let text = "";
  let value = 0;
  let bits = 0;
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET.charAt((value >> bits) & 31);
    }
  }
  return text;
}
