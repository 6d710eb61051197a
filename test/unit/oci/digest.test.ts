import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createHasher, digestAlgorithm, digestHex, digestOf, isDigest, parseDigest } from "../../../src/oci/digest.ts";
import { OciError } from "../../../src/oci/errors.ts";

const HEX_64 = "a1".repeat(32);
const HEX_128 = "0f".repeat(64);

test("sha256 and sha512 are read", () => {
  expect(parseDigest(`sha256:${HEX_64}`)).toBe(`sha256:${HEX_64}`);
  expect(digestAlgorithm(parseDigest(`sha512:${HEX_128}`))).toBe("sha512");
  expect(digestHex(parseDigest(`sha256:${HEX_64}`))).toBe(HEX_64);
});

test.each([
  "",
  "sha256",
  "sha256:",
  HEX_64,
  `sha256:${HEX_64}a`,
  `sha256:${HEX_64.slice(1)}`,
  `sha256:${HEX_64.toUpperCase()}`,
  `SHA256:${HEX_64}`,
  `sha512:${HEX_64}`,
  `sha256:${HEX_128}`,
  `sha1:${"a".repeat(40)}`,
  `md5:${"a".repeat(32)}`,
  `blake3:${HEX_64}`,
  `sha256+b64:${HEX_64}`,
  `sha256:${"g".repeat(64)}`,
  ` sha256:${HEX_64}`,
  `sha256:${HEX_64}\n`,
  `sha256:${HEX_64.slice(0, 62)}/.`,
  `sha256:../../${"a".repeat(58)}`,
  "constructor:x",
])("R6 %j is DIGEST_INVALID", (text) => {
  expect(isDigest(text)).toBe(false);
  expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: "DIGEST_INVALID", status: 400 }));
});

test("bytes are hashed as the algorithm has it", () => {
  expect(digestOf(new Uint8Array())).toBe("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const bytes = Buffer.from("weir");
  expect(digestOf(bytes, "sha512")).toBe(`sha512:${createHash("sha512").update(bytes).digest("hex")}`);
});

test("in pieces, in one, or from a copy: the digest is the same", () => {
  const algorithms = fc.constantFrom("sha256" as const, "sha512" as const);
  fc.assert(
    fc.property(algorithms, fc.array(fc.uint8Array()), fc.uint8Array(), (algorithm, pieces, rest) => {
      const hasher = createHasher(algorithm);
      for (const piece of pieces) {
        hasher.update(piece);
      }
      const copy = hasher.copy();
      copy.update(rest);
      expect(hasher.digest()).toBe(digestOf(Buffer.concat(pieces), algorithm));
      expect(copy.digest()).toBe(digestOf(Buffer.concat([...pieces, rest]), algorithm));
    }),
  );
});

test("whatever is made is accepted, whatever else is refused by an OciError", () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.string(), (bytes, text) => {
      expect(parseDigest(digestOf(bytes))).toBe(digestOf(bytes));
      try {
        expect(isDigest(parseDigest(text))).toBe(true);
      } catch (err) {
        expect(err).toBeInstanceOf(OciError);
      }
    }),
  );
});
