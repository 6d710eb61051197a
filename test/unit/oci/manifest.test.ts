import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isDigest } from "../../../src/oci/digest.ts";
import { OciError } from "../../../src/oci/errors.ts";
import { inferMediaType, parseManifest, platformChild } from "../../../src/oci/manifest.ts";
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, SCHEMA1 } from "../../../src/oci/media-types.ts";

const A = `sha256:${"a".repeat(64)}`;
const B = `sha256:${"b".repeat(64)}`;
const C = `sha512:${"c".repeat(128)}`;

function bytes(document: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(document));
}

function parse(document: unknown): ReturnType<typeof parseManifest> {
  return parseManifest(bytes(document));
}

test("an image manifest: config and layers are its blobs", () => {
  const config = { mediaType: "application/vnd.oci.image.config.v1+json", digest: A, size: 2 };
  const layers = [
    { mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: B, size: 3, annotations: { x: "y" } },
    { mediaType: "application/vnd.oci.image.layer.v1.tar+zstd", digest: C, size: 0 },
  ];
  const parsed = parse({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers });
  expect(parsed).toMatchObject({ mediaType: OCI_MANIFEST, schemaVersion: 2, shape: "manifest", children: [] });
  expect(parsed.blobs.map(({ digest, size }) => [digest, size])).toEqual([
    [A, 2],
    [B, 3],
    [C, 0],
  ]);
  expect(parsed.subject).toBeUndefined();
});

test("an index: its entries with their platforms", () => {
  const parsed = parse({
    schemaVersion: 2,
    manifests: [
      { mediaType: OCI_MANIFEST, digest: A, size: 1, platform: { os: "linux", architecture: "arm64", variant: "v8" } },
      { mediaType: OCI_MANIFEST, digest: B, size: 2, platform: { os: "linux", architecture: "amd64" } },
      { mediaType: OCI_MANIFEST, digest: C, size: 3, platform: { os: "unknown", architecture: "unknown" } },
      { mediaType: OCI_MANIFEST, digest: C, size: 4 },
    ],
  });
  expect(parsed.shape).toBe("index");
  expect(parsed.children.map(({ platform }) => platform?.variant)).toEqual(["v8", undefined, undefined, undefined]);
  expect(parsed.children.map(({ platform }) => platform?.architecture)).toEqual([
    "arm64",
    "amd64",
    "unknown",
    undefined,
  ]);
  expect(platformChild(parsed, { os: "linux", architecture: "amd64" })?.digest).toBe(B);
  expect(platformChild(parsed, { os: "windows", architecture: "amd64" })).toBeUndefined();
});

test("an OCI artifact manifest, a subject, an artifact type", () => {
  const parsed = parse({
    mediaType: "application/vnd.oci.artifact.manifest.v1+json",
    artifactType: "application/vnd.example",
    blobs: [{ mediaType: "text/plain", digest: A, size: 1 }],
    subject: { mediaType: OCI_MANIFEST, digest: B, size: 2 },
  });
  expect(parsed.blobs).toEqual([{ mediaType: "text/plain", digest: A, size: 1 }]);
  expect(parsed.subject?.digest).toBe(B);
  expect(parsed.artifactType).toBe("application/vnd.example");
});

test("descriptors that are malformed or cannot be verified are left out, the others stay", () => {
  const good = { mediaType: "x/y", digest: A, size: 1 };
  const bad = [
    null,
    "text",
    [],
    {},
    { ...good, digest: "sha256:abc" },
    { ...good, digest: `md5:${"a".repeat(32)}` },
    { ...good, digest: 7 },
    { ...good, size: -1 },
    { ...good, size: 1.5 },
    { ...good, size: "1" },
    { ...good, size: 2 ** 60 },
    { ...good, mediaType: null },
  ];
  const parsed = parse({ layers: [...bad, good], manifests: [...bad, good], config: bad[4], subject: bad[5] });
  expect(parsed.blobs).toEqual([good]);
  expect(parsed.children).toEqual([{ ...good, platform: undefined }]);
  expect(parsed.subject).toBeUndefined();
});

test("M6 lists and fields of the wrong type count as missing", () => {
  const odd = {
    mediaType: 1,
    schemaVersion: "2",
    artifactType: {},
    layers: {},
    manifests: "x",
    blobs: null,
    config: [],
  };
  expect(parse(odd)).toEqual({
    mediaType: undefined,
    schemaVersion: undefined,
    shape: "other",
    children: [],
    blobs: [],
    subject: undefined,
    artifactType: undefined,
  });
});

test("M6 a byte order mark, trailing newline and duplicate keys are read", () => {
  const text = `\uFEFF{"mediaType":"a/b","mediaType":"${DOCKER_MANIFEST}"}\n`;
  expect(parseManifest(Buffer.from(text)).mediaType).toBe(DOCKER_MANIFEST);
});

test("keys that mean something to JavaScript mean nothing here", () => {
  const parsed = parseManifest(Buffer.from(`{"__proto__":{"mediaType":"evil/x"},"constructor":{}}`));
  expect(parsed.mediaType).toBeUndefined();
});

test("a document of nothing but descriptors stays bounded", () => {
  const entry = JSON.stringify({ mediaType: "x/y", digest: A, size: 1 });
  const document = `{"layers":[${Array(100_001).fill(entry).join(",")}]}`;
  expect(parseManifest(Buffer.from(document)).blobs).toHaveLength(100_000);
});

test.each([
  ["nothing", Buffer.alloc(0)],
  ["HTML", Buffer.from("<html>sign in</html>")],
  ["a list", bytes([])],
  ["null", bytes(null)],
  ["a text", bytes("x")],
  ["a number", bytes(1)],
  ["cut off", Buffer.from(`{"schemaVersion":2`)],
  ["two documents", Buffer.from("{}{}")],
  ["not UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
  ["UTF-16", Buffer.from("{}", "utf16le")],
  ["deeply nested", Buffer.from("[".repeat(1_000_000))],
])("%s is MANIFEST_INVALID", (_name, body) => {
  expect(() => parseManifest(body)).toThrow(expect.objectContaining({ code: "MANIFEST_INVALID" }));
});

describe("the media type to keep", () => {
  test.each([
    ["what the upstream says", {}, "application/vnd.acme+json; charset=utf-8", "application/vnd.acme+json"],
    ["also against the document", { mediaType: OCI_INDEX }, DOCKER_MANIFEST, DOCKER_MANIFEST],
    ["the document's own", { mediaType: DOCKER_MANIFEST, layers: [] }, "application/json", DOCKER_MANIFEST],
    ["the document's own, nothing sent", { mediaType: DOCKER_MANIFEST }, undefined, DOCKER_MANIFEST],
    ["M6 an index without mediaType", { schemaVersion: 2, manifests: [] }, undefined, OCI_INDEX],
    ["a manifest without mediaType", { config: {}, layers: [] }, "text/plain; charset=utf-8", OCI_MANIFEST],
    ["schema1", { schemaVersion: 1, fsLayers: [] }, "application/octet-stream", SCHEMA1],
    ["some JSON", { hello: "world" }, undefined, "application/json"],
    ["some JSON sent as text", { hello: "world" }, "text/plain", "text/plain"],
  ])("%s", (_name, document, contentType, expected) => {
    expect(inferMediaType(parse(document), contentType)).toBe(expected);
  });
});

test("any JSON object gives sound descriptors, anything else an OciError", () => {
  const descriptor = fc.record({
    mediaType: fc.oneof(fc.string(), fc.constant(undefined)),
    digest: fc.constantFrom(A, B, C, "sha256:", ""),
    size: fc.oneof(fc.integer(), fc.double()),
  });
  const list = fc.array(fc.oneof(descriptor, fc.jsonValue()));
  const document = fc.record({ layers: list, manifests: list, config: descriptor }, { requiredKeys: [] });
  fc.assert(
    fc.property(fc.oneof(document, fc.jsonValue()), (value) => {
      try {
        const parsed = parse(value);
        for (const { digest, size } of [...parsed.blobs, ...parsed.children]) {
          expect(isDigest(digest)).toBe(true);
          expect(Number.isSafeInteger(size) && size >= 0).toBe(true);
        }
      } catch (err) {
        expect(err).toBeInstanceOf(OciError);
      }
    }),
  );
});

test("any bytes give a manifest or an OciError", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (body) => {
      try {
        parseManifest(body);
      } catch (err) {
        expect(err).toBeInstanceOf(OciError);
      }
    }),
  );
});
