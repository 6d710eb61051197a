import fc from "fast-check";
import { expect, test } from "vitest";
import { formatContentRange, parseContentRange, parseRange, resolveRange } from "../../../src/oci/range.ts";

test.each([
  ["bytes=0-", { kind: "from", start: 0 }],
  ["bytes=0-0", { kind: "from", start: 0, end: 0 }],
  ["bytes=100-199", { kind: "from", start: 100, end: 199 }],
  ["bytes=-5", { kind: "suffix", length: 5 }],
  ["bytes=-0", { kind: "suffix", length: 0 }],
  ["Bytes = 7-", { kind: "from", start: 7 }],
  [" bytes=7- ", { kind: "from", start: 7 }],
  ["bytes=007-008", { kind: "from", start: 7, end: 8 }],
  [`bytes=${"9".repeat(400)}-`, { kind: "from", start: Number.MAX_SAFE_INTEGER }],
])("B11 the range %s", (header, range) => {
  expect(parseRange(header)).toEqual(range);
});

test.each([
  undefined,
  "",
  "bytes",
  "bytes=",
  "bytes=-",
  "bytes=5-4",
  "bytes=a-b",
  "bytes=1-2-3",
  "bytes=--5",
  "bytes=+1-2",
  "bytes=1.5-2",
  "bytes=0x1-",
  "bytes=0-1,5-6",
  "bytes=0-1,",
  "items=0-1",
  "0-1",
  "bytes:0-1",
  "bytes=٣-",
])("B11 %j is answered as if there were no range", (header) => {
  expect(parseRange(header)).toBeUndefined();
});

test.each([
  ["bytes=0-", 10, { start: 0, end: 9 }],
  ["bytes=0-0", 10, { start: 0, end: 0 }],
  ["bytes=9-", 10, { start: 9, end: 9 }],
  ["bytes=5-99", 10, { start: 5, end: 9 }],
  ["bytes=-3", 10, { start: 7, end: 9 }],
  ["bytes=-99", 10, { start: 0, end: 9 }],
  ["bytes=10-", 10, "unsatisfiable"],
  ["bytes=10-20", 10, "unsatisfiable"],
  ["bytes=-0", 10, "unsatisfiable"],
  ["bytes=0-", 0, "unsatisfiable"],
  ["bytes=-1", 0, "unsatisfiable"],
])("B11 %s of %d bytes", (header, size, expected) => {
  const range = parseRange(header);
  expect(range && resolveRange(range, size)).toEqual(expected);
});

test("Content-Range is written as RFC 9110 has it", () => {
  expect(formatContentRange({ start: 0, end: 99 }, 200)).toBe("bytes 0-99/200");
  expect(formatContentRange({ start: 0, end: 99 }, undefined)).toBe("bytes 0-99/*");
  expect(formatContentRange("unsatisfiable", 200)).toBe("bytes */200");
});

test.each([
  ["bytes 0-9/10", { start: 0, end: 9, total: 10 }],
  ["bytes 5-9/*", { start: 5, end: 9, total: undefined }],
  ["Bytes  5-5/100 ", { start: 5, end: 5, total: 100 }],
])("the Content-Range %s", (header, expected) => {
  expect(parseContentRange(header)).toEqual(expected);
});

test.each([
  undefined,
  "",
  "bytes */10",
  "bytes 9-5/10",
  "bytes 0-10/10",
  "bytes 0-9",
  "bytes=0-9/10",
  "bytes 0-9/ten",
  "bytes -9/10",
  "items 0-9/10",
  "bytes 0-9/10, bytes 0-9/10",
  `bytes 0-${"9".repeat(30)}/*`,
  `bytes 0-9/${"9".repeat(30)}`,
])("B4 %j is no Content-Range to trust", (header) => {
  expect(parseContentRange(header)).toBeUndefined();
});

test("a resolved range lies inside the content, and its Content-Range reads back", () => {
  const range = fc.oneof(
    fc.record({ kind: fc.constant("from" as const), start: fc.maxSafeNat() }),
    fc.record({ kind: fc.constant("suffix" as const), length: fc.maxSafeNat() }),
    fc
      .tuple(fc.nat(1_000), fc.nat(1_000))
      .map(([start, more]) => ({ kind: "from" as const, start, end: start + more })),
  );
  fc.assert(
    fc.property(range, fc.nat(2_000), (wanted, size) => {
      const span = resolveRange(wanted, size);
      if (span !== "unsatisfiable") {
        expect(span.start).toBeGreaterThanOrEqual(0);
        expect(span.start).toBeLessThanOrEqual(span.end);
        expect(span.end).toBeLessThan(size);
        expect(parseContentRange(formatContentRange(span, size))).toEqual({ ...span, total: size });
      }
    }),
  );
});

test("any text is read without throwing", () => {
  fc.assert(
    fc.property(fc.string(), fc.stringMatching(/^[\d, \-*/]{0,40}$/), (text, digits) => {
      for (const header of [text, `bytes=${digits}`, `bytes ${digits}`]) {
        parseRange(header);
        parseContentRange(header);
      }
    }),
  );
});
