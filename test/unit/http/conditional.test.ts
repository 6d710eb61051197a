import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { entityTag, matchesEntityTag, rangeApplies } from "../../../src/http/conditional.ts";
import { digestOf } from "../../../src/oci/digest.ts";

const DIGEST = digestOf(Buffer.from("content"));
const OTHER = digestOf(Buffer.from("other"));

describe("matchesEntityTag", () => {
  test.each([
    [undefined, false],
    ["", false],
    ["*", true],
    [" * ", true],
    [`"${DIGEST}"`, true],
    [DIGEST, true],
    [`W/"${DIGEST}"`, true],
    [`"${OTHER}"`, false],
    [`"${OTHER}", W/"a,b", "${DIGEST}"`, true],
    [`"${OTHER}","${DIGEST}"`, true],
    [`${OTHER}, ${DIGEST}`, true],
    [`"*"`, false],
    [`"a ${DIGEST}"`, false],
    [`"a, ${DIGEST}, b"`, false],
    [DIGEST.slice(0, -1), false],
    [DIGEST.toUpperCase(), false],
  ])("%s: %s", (header, matches) => {
    expect(matchesEntityTag(header, DIGEST)).toBe(matches);
  });

  test("finds the entity among any others", () => {
    const tag = fc.stringMatching(/^(W\/)?"[!#-~]*"$/);
    fc.assert(
      fc.property(fc.array(tag), fc.array(tag), (before, after) => {
        expect(matchesEntityTag([...before, entityTag(DIGEST), ...after].join(", "), DIGEST)).toBe(true);
      }),
    );
  });
});

describe("rangeApplies", () => {
  test.each([
    [undefined, true],
    [`"${DIGEST}"`, true],
    [DIGEST, true],
    [`W/"${DIGEST}"`, false],
    [`"${OTHER}"`, false],
    ["Tue, 01 Jan 2030 00:00:00 GMT", false],
    ["", false],
  ])("%s: %s", (header, applies) => {
    expect(rangeApplies(header, DIGEST)).toBe(applies);
  });
});
