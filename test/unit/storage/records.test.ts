import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import {
  formatRecord,
  parseBlobRecord,
  parseManifestRecord,
  parseReferrersRecord,
  parseRepoRecord,
  parseTagRecord,
} from "../../../src/storage/records.ts";

const digest = digestOf(Buffer.from("record"));

/** Every record as it is written, with the reader that must give it back. */
const RECORDS = [
  ["tag", { digest, checkedAtMs: 1_700_000_000_000 }, parseTagRecord],
  ["tag, gone, with etag", { digest, checkedAtMs: 1, goneSinceMs: 2, etag: '"abc"' }, parseTagRecord],
  [
    "referrers list",
    {
      referrers: [{ mediaType: "a/b", digest, size: 3, artifactType: "c/d", annotations: { e: "f" } }],
      checkedAtMs: 1,
    },
    parseReferrersRecord,
  ],
  ["referrers list, empty and gone", { referrers: [], checkedAtMs: 1, goneSinceMs: 2 }, parseReferrersRecord],
  ["manifest", { mediaType: "application/vnd.oci.image.index.v1+json", size: 1234 }, parseManifestRecord],
  ["blob", { public: false, upstreams: ["registry.gitlab.com", "reg.example:5000"] }, parseBlobRecord],
  ["repository", { visibility: "private", visibilityAtMs: 5, provedAtMs: 6 }, parseRepoRecord],
] as const;

describe.each(RECORDS)("the record of a %s", (_, record, parse) => {
  test("reads back as it was written", () => {
    expect(parse(formatRecord(record))).toEqual(record);
  });

  test("may have fields that are not known", () => {
    const later = Buffer.from(JSON.stringify({ ...record, addedLater: { deep: [1] } }));
    expect(parse(later)).toEqual(record);
  });

  test("is none when a field is missing or of another type", () => {
    for (const field of Object.keys(record)) {
      for (const value of [null, "", -1, [1], {}, Number.NaN]) {
        expect(parse(Buffer.from(JSON.stringify({ ...record, [field]: value })))?.[field as never]).toBe(
          field === "etag" && value === "" ? value : undefined,
        );
      }
    }
  });

  test("is none when it is cut anywhere, or zeros", () => {
    const whole = formatRecord(record);
    for (let length = 0; length < whole.length; length += 1) expect(parse(whole.subarray(0, length))).toBeUndefined();
    expect(parse(Buffer.alloc(whole.length))).toBeUndefined();
  });
});

test("any bytes and any JSON are a record or none, never an error", () => {
  const parsers = RECORDS.map(([, , parse]) => parse);
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map((json) => Buffer.from(json)),
      ),
      (bytes) => {
        for (const parse of parsers) parse(bytes);
      },
    ),
  );
});
