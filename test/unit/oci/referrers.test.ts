import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import {
  formatReferrers,
  isReferrer,
  mergeReferrers,
  type Referrer,
  readReferrers,
  referrersOfType,
} from "../../../src/oci/referrers.ts";

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";

function referrer(name: string, more: Readonly<Record<string, unknown>> = {}): Referrer {
  return { mediaType: MANIFEST_TYPE, digest: digestOf(Buffer.from(name)), size: 7, ...more };
}

const SIGNATURE = referrer("signature", {
  artifactType: "application/vnd.dev.sigstore.bundle.v0.3+json",
  annotations: { "org.opencontainers.image.created": "2026-09-01T10:00:00Z" },
});
const SBOM = referrer("sbom", { artifactType: "application/spdx+json", data: "e30=", "com.example.later": [1, {}] });

describe("readReferrers", () => {
  test("gives the entries as they came, members that are not known included", () => {
    expect(readReferrers({ schemaVersion: 2, manifests: [SIGNATURE, SBOM] })).toEqual([SIGNATURE, SBOM]);
  });

  test.each([[[]], [null]])("manifests of %j: none", (manifests) => {
    expect(readReferrers({ schemaVersion: 2, manifests })).toEqual([]);
  });

  test.each([undefined, null, [], "index", 7, {}, { manifests: {} }, { manifests: "x" }, { layers: [] }])(
    "%j is no index",
    (document) => {
      expect(readReferrers(document)).toBeUndefined();
    },
  );

  test("what is no descriptor is left out", () => {
    const deep = JSON.parse(`${'{"a":'.repeat(100_000)}0${"}".repeat(100_000)}`);
    const rubbish = [
      null,
      "x",
      [],
      {},
      { ...SBOM, digest: "md5:00" },
      { ...SBOM, digest: "blake3:00" },
      { ...SBOM, size: -1 },
      { ...SBOM, size: 0.5 },
      { ...SBOM, mediaType: 1 },
      { ...SBOM, annotations: deep },
    ];
    expect(readReferrers({ manifests: [...rubbish, SIGNATURE, ...rubbish] })).toEqual([SIGNATURE]);
  });

  test("whatever it takes from any JSON can be written and read again", () => {
    const entry = fc.oneof(
      fc.jsonValue(),
      fc.record({ mediaType: fc.string(), digest: fc.constant(SBOM.digest), size: fc.nat(), x: fc.jsonValue() }),
    );
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.record({ manifests: fc.array(entry) })), (value) => {
        const document: unknown = JSON.parse(JSON.stringify(value));
        const referrers = readReferrers(document);
        if (referrers !== undefined) {
          expect(referrers.every(isReferrer)).toBe(true);
          expect(readReferrers(JSON.parse(Buffer.from(formatReferrers(referrers)).toString()))).toEqual(referrers);
        }
      }),
    );
  });
});

test("pages become one list in their order, each entry once", () => {
  const third = referrer("third");
  expect(mergeReferrers([[SIGNATURE, SBOM], [], [{ ...SBOM, size: 9 }, third]])).toEqual([SIGNATURE, SBOM, third]);
  expect(mergeReferrers([])).toEqual([]);
});

test("M12 the filter lets its artifact type through, to the letter", () => {
  const untyped = referrer("untyped");
  const list = [SIGNATURE, SBOM, untyped, referrer("odd", { artifactType: ["application/spdx+json"] })];
  expect(referrersOfType(list, "application/spdx+json")).toEqual([SBOM]);
  expect(referrersOfType(list, "application/SPDX+json")).toEqual([]);
  expect(referrersOfType(list, "")).toEqual([]);
});

test("a list is written as an index", () => {
  expect(JSON.parse(Buffer.from(formatReferrers([SBOM])).toString())).toEqual({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [SBOM],
  });
});
