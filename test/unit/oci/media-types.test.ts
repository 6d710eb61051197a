import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  acceptsType,
  baseMediaType,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  isIndex,
  isSchema1,
  MANIFEST_ACCEPT,
  OCI_INDEX,
  OCI_MANIFEST,
  SCHEMA1,
  SCHEMA1_SIGNED,
} from "../../../src/oci/media-types.ts";

test("upstreams are asked with the full list, the wildcard last", () => {
  expect(MANIFEST_ACCEPT).toBe(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
      "application/vnd.docker.distribution.manifest.list.v2+json, " +
      "application/vnd.docker.distribution.manifest.v2+json, */*",
  );
});

test("indexes and schema1 are told from the rest", () => {
  expect([OCI_INDEX, DOCKER_LIST].map(isIndex)).toEqual([true, true]);
  expect([OCI_MANIFEST, DOCKER_MANIFEST, SCHEMA1, ""].some(isIndex)).toBe(false);
  expect([SCHEMA1, SCHEMA1_SIGNED].map(isSchema1)).toEqual([true, true]);
  expect([OCI_MANIFEST, DOCKER_MANIFEST].some(isSchema1)).toBe(false);
});

test.each([
  ["application/json", "application/json"],
  ["Application/JSON; charset=utf-8", "application/json"],
  [" text/html ;x", "text/html"],
  ["", ""],
  [";", ""],
])("the type of %j is %j", (contentType, type) => {
  expect(baseMediaType(contentType)).toBe(type);
});

describe("Accept", () => {
  const containerd = `${DOCKER_MANIFEST}, ${DOCKER_LIST}, ${OCI_MANIFEST}, ${OCI_INDEX}, */*`;

  test.each([
    ["nothing said", undefined, OCI_INDEX],
    ["empty", "", OCI_INDEX],
    ["commas only", " , ,", OCI_INDEX],
    ["everything", "*/*", OCI_INDEX],
    ["the family", "application/*", OCI_INDEX],
    ["containerd", containerd, "application/vnd.cncf.helm.config.v1+json"],
    ["the type itself", OCI_INDEX, OCI_INDEX],
    ["in upper case", OCI_INDEX.toUpperCase(), OCI_INDEX],
    ["with a weight", `${OCI_INDEX};q=0.5`, OCI_INDEX],
    ["with parameters", `${OCI_INDEX}; charset="a,b"; q=0.1`, OCI_INDEX],
    ["with a weight that is rubbish", `${OCI_INDEX};q=lots`, OCI_INDEX],
    ["refused by the wildcard, named itself", `*/*;q=0, ${OCI_INDEX}`, OCI_INDEX],
    ["named twice", `${OCI_INDEX};q=0, ${OCI_INDEX}`, OCI_INDEX],
  ])("%s: accepted", (_name, accept, type) => {
    expect(acceptsType(accept, type)).toBe(true);
  });

  test.each([
    ["another type", DOCKER_MANIFEST, OCI_INDEX],
    ["single manifests only", `${DOCKER_MANIFEST}, ${OCI_MANIFEST}`, DOCKER_LIST],
    ["refused by name", `${OCI_INDEX};q=0, */*`, OCI_INDEX],
    ["refused by name, with spaces", `${OCI_INDEX} ; Q = 0.000, */*`, OCI_INDEX],
    ["refused by family", "application/*;q=0, */*", OCI_INDEX],
    ["everything refused", "*/*;q=0", OCI_INDEX],
    ["another family", "text/*", OCI_INDEX],
    ["a longer type", `${OCI_INDEX}2`, OCI_INDEX],
    ["hidden in quotes", `text/plain;x="${OCI_INDEX}, */*"`, OCI_INDEX],
    ["a half wildcard", "*/json", OCI_INDEX],
    ["rubbish", "constructor", OCI_INDEX],
  ])("%s: not accepted", (_name, accept, type) => {
    expect(acceptsType(accept, type)).toBe(false);
  });

  test("never throws, and order does not matter", () => {
    const range = fc.constantFrom(OCI_INDEX, OCI_MANIFEST, "*/*", "application/*", `${OCI_INDEX};q=0`, "*/*;q=0", "x");
    fc.assert(
      fc.property(fc.array(range), fc.string(), (ranges, text) => {
        acceptsType(text, text);
        const backwards = ranges.toReversed().join(",");
        expect(acceptsType(ranges.join(","), OCI_INDEX)).toBe(acceptsType(backwards, OCI_INDEX));
      }),
    );
  });
});
