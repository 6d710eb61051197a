import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { OciError } from "../../../src/oci/errors.ts";
import { UpstreamError } from "../../../src/upstream/upstream.ts";
import { type HttpReply, type HttpRequestOptions, httpRequest } from "../../support/network.ts";
import {
  BLOB,
  BLOB_DIGEST,
  BLOB_PATH,
  blobAnswer,
  bytesOf,
  type Front,
  MANIFEST,
  MANIFEST_DIGEST,
  manifestAnswer,
  startFront,
} from "./front.ts";

let stack: AsyncDisposableStack;
let front: Front;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  front = await startFront(stack);
});

afterEach(() => stack.disposeAsync());

const ask = (path: string, options?: HttpRequestOptions): Promise<HttpReply> => httpRequest(front.url + path, options);

/** Without what Node adds to every answer. */
function headersOf(reply: HttpReply): Record<string, unknown> {
  const { date, connection, "keep-alive": _, ...headers } = reply.headers;
  return headers;
}

function errorOf(reply: HttpReply): { code: string; message: string; detail?: unknown } {
  expect(reply.headers["content-type"]).toBe("application/json");
  const { errors } = JSON.parse(reply.body.toString()) as { errors: [{ code: string; message: string }] };
  expect(errors).toHaveLength(1);
  return errors[0];
}

describe("ping", () => {
  test.each(["/v2/", "/v2", "/docker.io/v2/", "/v2/?ns=docker.io"])("%s is 200 and {}", async (path) => {
    const reply = await ask(path);
    expect([reply.status, reply.body.toString()]).toEqual([200, "{}"]);
    expect(headersOf(reply)).toMatchObject({
      "content-type": "application/json",
      "content-length": "2",
      "docker-distribution-api-version": "registry/2.0",
      "cache-status": "weir",
      "x-request-id": "made-1",
    });
    expect(front.proxy.calls).toEqual([]);
  });

  test("HEAD has GET's headers and no body", async () => {
    const get = await ask("/v2/", { headers: { "x-request-id": "same" } });
    const head = await ask("/v2/", { method: "HEAD", headers: { "x-request-id": "same" } });
    expect([head.status, head.body.length]).toEqual([200, 0]);
    expect(headersOf(head)).toEqual(headersOf(get));
  });
});

describe("manifests", () => {
  const byDigest = `/v2/quay.io/coreos/etcd/manifests/${MANIFEST_DIGEST}`;

  test("M6 by tag: the bytes and the type as they are held, every header, HEAD the same", async () => {
    front.proxy.onManifest = ({ head }) =>
      manifestAnswer({
        mediaType: "application/vnd.example.thing+json",
        cache: { outcome: "hit", ttlS: 540 },
        ...(head && { bytes: undefined }),
      });
    const headers = { "x-request-id": "client-1.a_b", "accept-encoding": "gzip, zstd" };
    const get = await ask("/v2/library/nginx/manifests/1.27", { headers });
    expect([get.status, get.body]).toEqual([200, MANIFEST]);
    expect(headersOf(get)).toEqual({
      "content-type": "application/vnd.example.thing+json",
      "content-length": String(MANIFEST.length),
      "docker-content-digest": MANIFEST_DIGEST,
      etag: `"${MANIFEST_DIGEST}"`,
      "cache-control": "no-cache",
      "docker-distribution-api-version": "registry/2.0",
      "cache-status": "weir; hit; ttl=540",
      "x-request-id": "client-1.a_b",
    });
    const head = await ask("/v2/library/nginx/manifests/1.27", { method: "HEAD", headers });
    expect([head.status, head.body.length]).toEqual([200, 0]);
    expect(headersOf(head)).toEqual(headersOf(get));
  });

  test("asks the proxy what the client asked", async () => {
    front.proxy.onManifest = () => manifestAnswer();
    await ask("/v2/nginx/manifests/1.27", {
      headers: { accept: ["a/b", "c/d;q=0.5"], "x-request-id": "r", "user-agent": "ctr" },
    });
    await ask(byDigest, { method: "HEAD" });
    expect(front.proxy.calls).toMatchObject([
      {
        repo: { upstream: "docker.io", repository: "library/nginx" },
        reference: { kind: "tag", tag: "1.27" },
        head: false,
        accept: "a/b, c/d;q=0.5",
        requestId: "r",
        caller: { identity: { account: undefined, via: "anonymous", address: "127.0.0.1" }, client: "127.0.0.1 ctr" },
      },
      {
        repo: { upstream: "quay.io", repository: "coreos/etcd" },
        reference: { kind: "digest", digest: MANIFEST_DIGEST },
        head: true,
        accept: undefined,
      },
    ]);
  });

  test.each(["public", "private"] as const)("by digest a %s one may be kept for ever", async (visibility) => {
    front.proxy.onManifest = () => manifestAnswer({ visibility });
    const { headers } = await ask(byDigest);
    expect(headers["cache-control"]).toBe(`${visibility}, max-age=31536000, immutable`);
  });

  test.each([`"${MANIFEST_DIGEST}"`, MANIFEST_DIGEST, `W/"${MANIFEST_DIGEST}"`, `"other", "${MANIFEST_DIGEST}"`, "*"])(
    "If-None-Match: %s is 304",
    async (header) => {
      front.proxy.onManifest = () => manifestAnswer();
      for (const method of ["GET", "HEAD"]) {
        const reply = await ask("/v2/library/nginx/manifests/1.27", { method, headers: { "if-none-match": header } });
        expect([reply.status, reply.body.length]).toEqual([304, 0]);
        expect(reply.headers).toMatchObject({ etag: `"${MANIFEST_DIGEST}"`, "cache-control": "no-cache" });
      }
    },
  );

  test("If-None-Match of another digest is 200", async () => {
    front.proxy.onManifest = () => manifestAnswer();
    const reply = await ask(byDigest, { headers: { "if-none-match": '"sha256:other"' } });
    expect(reply.status).toBe(200);
  });

  test("a stale one says so", async () => {
    front.proxy.onManifest = () =>
      manifestAnswer({
        cache: { outcome: "stale", fwdStatus: 503, detail: "stale-if-error", warning: 'docker.io says "busy"\r\n' },
      });
    const { headers } = await ask("/v2/library/nginx/manifests/1.27");
    expect(headers["cache-status"]).toBe("weir; fwd=stale; fwd-status=503; detail=stale-if-error");
    expect(headers.warning).toBe('299 - "docker.io says \\"busy\\"??"');
  });

  test("a namespace that was asked for is echoed as it came", async () => {
    front.proxy.onManifest = () => manifestAnswer();
    const named = await ask("/v2/library/nginx/manifests/1.27?ns=Registry-1.docker.io");
    expect(named.headers["oci-namespace"]).toBe("Registry-1.docker.io");
    const plain = await ask("/v2/library/nginx/manifests/1.27");
    expect(plain.headers).not.toHaveProperty("oci-namespace");
  });

  test("a media type that no header can hold is a 500, and the connection lives on", async () => {
    front.proxy.onManifest = () => manifestAnswer({ mediaType: "a\nb" });
    expect(errorOf(await ask(byDigest)).code).toBe("UNKNOWN");
  });

  test("an X-Request-Id that is not safe to repeat is replaced", async () => {
    for (const bad of ["a b", "x".repeat(65), "é", ""]) {
      const { headers } = await ask("/v2/", { headers: { "x-request-id": Buffer.from(bad).toString("latin1") } });
      expect(headers["x-request-id"]).toMatch(/^made-\d+$/);
    }
  });
});

describe("blobs", () => {
  test("a whole one, with every header", async () => {
    front.proxy.onBlob = () => blobAnswer();
    const get = await ask(BLOB_PATH, { headers: { "x-request-id": "r", "accept-encoding": "zstd, gzip" } });
    expect([get.status, get.body]).toEqual([200, BLOB]);
    expect(headersOf(get)).toEqual({
      "content-type": "application/octet-stream",
      "content-length": "20",
      "docker-content-digest": BLOB_DIGEST,
      etag: `"${BLOB_DIGEST}"`,
      "cache-control": "public, max-age=31536000, immutable",
      "accept-ranges": "bytes",
      "docker-distribution-api-version": "registry/2.0",
      "cache-status": "weir; hit",
      "x-request-id": "r",
    });
    front.proxy.onBlob = () => blobAnswer({ body: undefined });
    const head = await ask(BLOB_PATH, { method: "HEAD", headers: { "x-request-id": "r", range: "bytes=0-1" } });
    expect([head.status, head.body.length]).toEqual([200, 0]);
    expect(headersOf(head)).toEqual(headersOf(get));
    expect(front.proxy.calls[1]).toMatchObject({ head: true, range: undefined });
  });

  test("of a private repository is for the client alone", async () => {
    front.proxy.onBlob = () => blobAnswer({ visibility: "private" });
    expect((await ask(BLOB_PATH)).headers["cache-control"]).toBe("private, max-age=31536000, immutable");
  });

  test.each([
    ["bytes=5-9", { kind: "from", start: 5, end: 9 }],
    ["bytes=5-", { kind: "from", start: 5 }],
    ["bytes=-4", { kind: "suffix", length: 4 }],
  ])("B11 Range: %s is handed on, and the part answered with 206", async (range, parsed) => {
    front.proxy.onBlob = () => blobAnswer({ part: { start: 5, end: 9 }, body: bytesOf(BLOB.subarray(5, 10)) });
    const reply = await ask(BLOB_PATH, { headers: { range } });
    expect([reply.status, reply.body.toString()]).toEqual([206, "56789"]);
    expect(reply.headers).toMatchObject({
      "content-range": "bytes 5-9/20",
      "content-length": "5",
      "accept-ranges": "bytes",
    });
    expect(front.proxy.calls[0]).toMatchObject({ range: parsed });
  });

  test.each([
    ["several ranges", { range: "bytes=0-1,4-5" }],
    ["malformed", { range: "bytes=x" }],
    ["another unit", { range: "lines=1-2" }],
    ["If-Range of another entity", { range: "bytes=0-1", "if-range": '"other"' }],
    ["If-Range with a weak tag", { range: "bytes=0-1", "if-range": `W/"${BLOB_DIGEST}"` }],
    ["If-Range with a date", { range: "bytes=0-1", "if-range": "Tue, 01 Jan 2030 00:00:00 GMT" }],
  ])("B11 a Range that does not count (%s) gets the plain 200", async (_, headers) => {
    front.proxy.onBlob = () => blobAnswer();
    const reply = await ask(BLOB_PATH, { headers });
    expect([reply.status, reply.body]).toEqual([200, BLOB]);
    expect(front.proxy.calls[0]).toMatchObject({ range: undefined });
  });

  test("B11 If-Range of this entity lets the Range count", async () => {
    front.proxy.onBlob = () => blobAnswer({ part: { start: 0, end: 1 }, body: bytesOf(BLOB.subarray(0, 2)) });
    const reply = await ask(BLOB_PATH, { headers: { range: "bytes=0-1", "if-range": `"${BLOB_DIGEST}"` } });
    expect(reply.status).toBe(206);
  });

  test("B11 a Range beyond the end is 416 with the size", async () => {
    front.proxy.onBlob = () => {
      throw new OciError("RANGE_INVALID", "beyond the end", { headers: { "content-range": "bytes */20" } });
    };
    const reply = await ask(BLOB_PATH, { headers: { range: "bytes=20-" } });
    expect([reply.status, reply.headers["content-range"], errorOf(reply).code]).toEqual([
      416,
      "bytes */20",
      "RANGE_INVALID",
    ]);
  });

  test("If-None-Match asks for the right to it only, and is 304", async () => {
    let released = 0;
    front.proxy.onBlob = () =>
      blobAnswer({
        body: undefined,
        async release() {
          released += 1;
        },
      });
    const reply = await ask(BLOB_PATH, { headers: { "if-none-match": `"${BLOB_DIGEST}"`, range: "bytes=0-1" } });
    expect([reply.status, reply.body.length, released]).toEqual([304, 0, 1]);
    expect(reply.headers).not.toHaveProperty("content-length");
    expect(front.proxy.calls).toMatchObject([{ head: true, range: undefined }]);
  });

  test("of unknown size is sent in chunks; its HEAD has no length", async () => {
    front.proxy.onBlob = ({ head }) =>
      blobAnswer({ size: undefined, cache: { outcome: "miss", stored: true }, ...(head && { body: undefined }) });
    const get = await ask(BLOB_PATH);
    expect([get.body, get.headers["transfer-encoding"], get.headers["cache-status"]]).toEqual([
      BLOB,
      "chunked",
      "weir; fwd=miss; stored",
    ]);
    const head = await ask(BLOB_PATH, { method: "HEAD" });
    expect([head.status, head.headers["content-length"]]).toEqual([200, undefined]);
  });

  test("B13 an empty one", async () => {
    front.proxy.onBlob = () => blobAnswer({ size: 0, body: bytesOf() });
    const reply = await ask(BLOB_PATH);
    expect([reply.status, reply.headers["content-length"], reply.body.length]).toEqual([200, "0", 0]);
  });
});

describe("listings", () => {
  const page = { repository: "library/nginx", visibility: "public", cache: { outcome: "miss" } } as const;

  test.each([
    ["/v2/nginx/tags/list?n=2", "nginx", "</v2/nginx/tags/list?n=2&last=b>"],
    [
      "/v2/library/nginx/tags/list?ns=docker.io&n=2",
      "library/nginx",
      "</v2/library/nginx/tags/list?n=2&last=b&ns=docker.io>",
    ],
    [
      "/v2/docker.io/library/nginx/tags/list?n=2",
      "docker.io/library/nginx",
      "</v2/docker.io/library/nginx/tags/list?n=2&last=b>",
    ],
    [
      "/docker.io/v2/library/nginx/tags/list?n=2",
      "library/nginx",
      "</docker.io/v2/library/nginx/tags/list?n=2&last=b>",
    ],
  ])("tags of %s keep the form that was asked", async (path, name, link) => {
    front.proxy.onTags = () => ({ ...page, tags: ["a", "b"], next: { n: "2", last: "b" } });
    const reply = await ask(path);
    expect(JSON.parse(reply.body.toString())).toEqual({ name, tags: ["a", "b"] });
    expect(reply.headers.link).toBe(`${link}; rel="next"`);
    expect(reply.headers["content-length"]).toBe(String(reply.body.length));
    expect(front.proxy.calls).toMatchObject([{ repo: { upstream: "docker.io", repository: "library/nginx" }, n: 2 }]);
  });

  test("the last page has no Link", async () => {
    front.proxy.onTags = () => ({ ...page, tags: [], next: undefined });
    const reply = await ask("/v2/library/nginx/tags/list");
    expect(reply.headers).not.toHaveProperty("link");
    expect(reply.body.toString()).toBe('{"name":"library/nginx","tags":[]}');
  });

  test("the catalog, paged", async () => {
    front.proxy.onCatalog = () => ({
      repositories: ["docker.io/library/nginx"],
      next: { last: "docker.io/library/nginx" },
    });
    const reply = await ask("/v2/_catalog?n=1");
    expect(JSON.parse(reply.body.toString())).toEqual({ repositories: ["docker.io/library/nginx"] });
    expect(reply.headers.link).toBe('</v2/_catalog?last=docker.io%2Flibrary%2Fnginx>; rel="next"');
    expect(front.proxy.calls).toMatchObject([{ upstream: undefined, n: 1 }]);
  });
});

describe("referrers", () => {
  const sbom = { mediaType: "a/b", digest: BLOB_DIGEST, size: 3, artifactType: "application/spdx+json" };
  const path = `/v2/library/nginx/referrers/${MANIFEST_DIGEST}`;

  test("M12 an index of exactly that type, with its length; HEAD the same", async () => {
    front.proxy.onReferrers = () => ({ referrers: [sbom], visibility: "public", cache: { outcome: "hit", ttlS: 540 } });
    const headers = { "x-request-id": "same" };
    const get = await ask(path, { headers });
    expect([get.status, JSON.parse(get.body.toString())]).toEqual([
      200,
      { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [sbom] },
    ]);
    expect(headersOf(get)).toEqual({
      "content-type": "application/vnd.oci.image.index.v1+json",
      "content-length": String(get.body.length),
      "cache-control": "no-cache",
      "docker-distribution-api-version": "registry/2.0",
      "cache-status": "weir; hit; ttl=540",
      "x-request-id": "same",
    });
    const head = await ask(path, { method: "HEAD", headers });
    expect([head.status, head.body.length]).toEqual([200, 0]);
    expect(headersOf(head)).toEqual(headersOf(get));
  });

  test.each([
    [path, undefined],
    [`${path}?ns=registry-1.docker.io`, "registry-1.docker.io"],
    [path.replace("/v2/", "/v2/docker.io/"), undefined],
    [path.replace("/v2/", "/docker.io/v2/"), undefined],
    [path.replace("/v2/", "/v2/docker.io/v2/").concat("?ns=docker.io"), "docker.io"],
  ])("M12 %s: filtered, and said so", async (form, ns) => {
    front.proxy.onReferrers = () => ({ referrers: [], visibility: "public", cache: { outcome: "miss" } });
    const type = "application/vnd.dev.sigstore.bundle.v0.3+json";
    const reply = await ask(`${form}${form.includes("?") ? "&" : "?"}artifactType=${encodeURIComponent(type)}`);
    expect(JSON.parse(reply.body.toString())).toMatchObject({ manifests: [] });
    expect(reply.headers).toMatchObject({ "oci-filters-applied": "artifactType" });
    expect(reply.headers["oci-namespace"]).toBe(ns);
    expect(front.proxy.calls).toMatchObject([
      {
        repo: { upstream: "docker.io", repository: "library/nginx" },
        digest: MANIFEST_DIGEST,
        artifactType: type,
        caller: { identity: { account: undefined } },
      },
    ]);
  });

  test("M12 a stale list says so", async () => {
    const cache = { outcome: "stale", detail: "stale-if-error", fwdStatus: 503, warning: "as of noon" } as const;
    front.proxy.onReferrers = () => ({ referrers: [sbom], visibility: "public", cache });
    const { headers } = await ask(path);
    expect(headers).toMatchObject({
      warning: '299 - "as of noon"',
      "cache-status": "weir; fwd=stale; fwd-status=503; detail=stale-if-error",
    });
    await front.accessLine(({ cache: outcome }) => outcome === "stale");
    expect(front.answered).toMatchObject([{ kind: "referrers", cache: "stale" }]);
  });

  test.each([
    new UpstreamError("docker.io", "absent", "no such API"),
    new UpstreamError("docker.io", "absent", "404", { status: 404, absent: "repository" }),
    new UpstreamError("docker.io", "denied", "401", { status: 401 }),
  ])("M12 %s: 404 without NAME_UNKNOWN, so that clients look for the tag", async (error) => {
    front.proxy.onReferrers = () => {
      throw error;
    };
    const reply = await ask(path);
    expect([reply.status, errorOf(reply).code]).toEqual([404, "UNSUPPORTED"]);
  });

  test.each(["sha256:AB", "md5:00", "latest"])("of %s: 400 DIGEST_INVALID", async (digest) => {
    const reply = await ask(`/v2/library/nginx/referrers/${digest}`);
    expect([reply.status, errorOf(reply).code]).toEqual([400, "DIGEST_INVALID"]);
    expect(front.proxy.calls).toEqual([]);
  });
});

describe("refusals", () => {
  test.each([
    ["POST", "/v2/library/nginx/blobs/uploads/"],
    ["PUT", "/v2/library/nginx/manifests/1"],
    ["PATCH", "/v2/quay.io/a/b/blobs/uploads/1"],
    ["DELETE", BLOB_PATH],
    ["OPTIONS", "/v2/"],
    ["GET", "/v2/library/nginx/blobs/uploads/1"],
  ])("%s %s is 405 UNSUPPORTED", async (method, path) => {
    const reply = await ask(path, { method });
    expect([reply.status, reply.headers.allow, errorOf(reply).code]).toEqual([405, "GET, HEAD", "UNSUPPORTED"]);
    expect(errorOf(reply).message).toContain("nothing can be pushed");
    expect(front.proxy.calls).toEqual([]);
  });

  test.each([
    ["the root", "/", 404, "UNSUPPORTED"],
    ["the admin routes", "/metrics", 404, "UNSUPPORTED"],
    ["a bad name", "/v2/Upper/x/manifests/1", 400, "NAME_INVALID"],
    ["a bad tag", "/v2/x/manifests/.x", 400, "TAG_INVALID"],
    ["a bad digest", "/v2/x/blobs/sha256:AB", 400, "DIGEST_INVALID"],
    ["an unknown host", "/v2/reg.example/x/manifests/1", 404, "NAME_UNKNOWN"],
    ["a bad page", "/v2/x/tags/list?n=a", 400, "PAGINATION_NUMBER_INVALID"],
    ["9 kB of URL", `/v2/library/nginx/manifests/1?ns=${"x".repeat(9000)}`, 414, "UNSUPPORTED"],
  ])("%s: an error with the headers of every answer", async (_, path, status, code) => {
    const reply = await ask(path);
    expect([reply.status, errorOf(reply).code]).toEqual([status, code]);
    expect(headersOf(reply)).toEqual({
      "content-type": "application/json",
      "content-length": String(reply.body.length),
      "docker-distribution-api-version": "registry/2.0",
      "cache-status": "weir",
      "x-request-id": "made-1",
    });
  });

  test("an error's HEAD has its status and length without the body", async () => {
    const get = await ask("/v2/reg.example/x/manifests/1");
    const head = await ask("/v2/reg.example/x/manifests/1", { method: "HEAD" });
    expect([head.status, head.body.length]).toEqual([404, 0]);
    expect(head.headers["content-length"]).toBe(get.headers["content-length"]);
  });

  test("a spent quota: 503 to ns, which containerd moves on from, 429 otherwise, never 429 for blobs", async () => {
    const fail = () => {
      throw new UpstreamError("docker.io", "quota", "docker.io: 429", { status: 429, retryAfterMs: 1500 });
    };
    front.proxy.onManifest = fail;
    front.proxy.onBlob = fail;
    for (const [path, status] of [
      ["/v2/library/nginx/manifests/1?ns=docker.io", 503],
      ["/v2/library/nginx/manifests/1", 429],
      [BLOB_PATH, 503],
      [`${BLOB_PATH}?ns=docker.io`, 503],
    ] as const) {
      const reply = await ask(path);
      expect([path, reply.status, reply.headers["retry-after"], errorOf(reply).code]).toEqual([
        path,
        status,
        "2",
        "TOOMANYREQUESTS",
      ]);
      expect(reply.headers["cache-status"]).toBe("weir; fwd=miss; fwd-status=429");
    }
  });

  test("what nobody foresaw is a 500 that gives nothing away, and is logged", async () => {
    front.proxy.onManifest = () => {
      throw new Error("the inside of Weir");
    };
    const reply = await ask("/v2/library/nginx/manifests/1");
    expect([reply.status, errorOf(reply).code]).toEqual([500, "UNKNOWN"]);
    expect(reply.body.toString()).not.toContain("inside");
    expect(front.lines).toContainEqual(
      expect.objectContaining({ level: "error", err: expect.objectContaining({ message: "the inside of Weir" }) }),
    );
  });
});
