import { createHash, type Hash } from "node:crypto";
import { quote } from "../base/quote.ts";
import { OciError } from "./errors.ts";

declare const digestBrand: unique symbol;

/** A checked `sha256:<64 hex>` or `sha512:<128 hex>`, lower case (image-spec, descriptor.md, "Digests"). */
export type Digest = string & { readonly [digestBrand]: never };

export type DigestAlgorithm = "sha256" | "sha512";

const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** @throws OciError DIGEST_INVALID, also for algorithms that Weir cannot verify */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    throw new OciError(
      "DIGEST_INVALID",
      `${quote(text)} is not a digest: expected sha256: with 64 or sha512: with 128 lower-case hex digits`,
    );
  }
  return text;
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith("sha256:") ? "sha256" : "sha512";
}

/** What stands behind the colon. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = "sha256"): Digest {
  return toDigest(algorithm, createHash(algorithm).update(bytes));
}

/** A digest in the making. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  /** To be called once; nothing can be added afterwards. To look without ending, ask a {@link copy}. */
  digest(): Digest;
  /** An independent hasher that has seen the same bytes. */
  copy(): Hasher;
}

export function createHasher(algorithm: DigestAlgorithm): Hasher {
  return wrapHash(algorithm, createHash(algorithm));
}

function wrapHash(algorithm: DigestAlgorithm, hash: Hash): Hasher {
  return {
    update: (bytes) => {
      hash.update(bytes);
    },
    digest: () => toDigest(algorithm, hash),
    copy: () => wrapHash(algorithm, hash.copy()),
  };
}

function toDigest(algorithm: DigestAlgorithm, hash: Hash): Digest {
  return `${algorithm}:${hash.digest("hex")}` as Digest;
}
