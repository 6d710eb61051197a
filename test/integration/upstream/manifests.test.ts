import { describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { MANIFEST_ACCEPT, OCI_INDEX, OCI_MANIFEST, SCHEMA1_SIGNED } from "../../../src/oci/media-types.ts";
import type { ScriptReply } from "../../support/scripted-server.ts";
import {
  byDigest,
  failure,
  LIMITS,
  MANIFEST,
  MANIFEST_DIGEST,
  manifestReply,
  OCI_TYPE,
  o,
  openUpstream,
  serve,
  tag,
} from "./bench.ts";

async function registryWith(reply: ScriptReply): Promise<ReturnType<typeof openUpstream>> {
  const registry = await serve([{ when: { path: /^\/v2\/a\/manifests\// }, reply }]);
  return openUpstream(registry.url);
}

describe("getManifest", () => {
  test("asks once, with the full list of types, for identity bytes, without cookies", async () => {
    const registry = await serve([{ when: { path: "/v2/a/b/manifests/1" }, reply: manifestReply }]);
    const { upstream, exchanges, received } = openUpstream(registry.url);
    expect(await upstream.getManifest("a/b", tag("1"), o())).toEqual({
      mediaType: OCI_TYPE,
      digest: MANIFEST_DIGEST,
      bytes: MANIFEST,
      etag: `"${MANIFEST_DIGEST}"`,
    });
    expect(registry.ledger).toHaveLength(1);
    expect(registry.ledger[0]?.headers).toMatchObject({ accept: MANIFEST_ACCEPT, "accept-encoding": "identity" });
    expect(registry.ledger[0]?.headers).not.toHaveProperty("cookie");
    expect(received.get("manifest")).toBe(MANIFEST.byteLength);
    expect(exchanges).toEqual([
      {
        upstream: "reg.example",
        kind: "manifest",
        method: "GET",
        url: `${registry.url.origin}/v2/a/b/manifests/1`,
        status: 200,
        fault: undefined,
        durationMs: 0,
        requestId: "req-1",
        hop: 0,
      },
    ]);
  });

  test("by digest the body must hash to it, in its own algorithm", async () => {
    const { upstream, exchanges } = await registryWith({ ...manifestReply, headers: { "content-type": OCI_TYPE } });
    const sha512 = digestOf(MANIFEST, "sha512");
    expect(await upstream.getManifest("a", byDigest(MANIFEST_DIGEST), o())).toMatchObject({ digest: MANIFEST_DIGEST });
    expect(await upstream.getManifest("a", byDigest(sha512), o())).toMatchObject({ digest: sha512 });
    const other = digestOf(Buffer.from("other"));
    const error = await failure(upstream.getManifest("a", byDigest(other), o()));
    expect(error.fault).toBe("bad-answer");
    expect(error.message).toContain(other);
    expect(exchanges.at(-1)).toMatchObject({ status: 200, fault: "bad-answer" });
  });

  test("by tag a Docker-Content-Digest that does not agree with the body is a bad answer", async () => {
    const headers = { "content-type": OCI_TYPE, "docker-content-digest": digestOf(Buffer.from("other")) };
    const { upstream } = await registryWith({ headers, body: MANIFEST });
    expect((await failure(upstream.getManifest("a", tag("1"), o()))).fault).toBe("bad-answer");
  });

  test.each([
    ["an HTML page", { headers: { "content-type": "text/html; charset=utf-8" }, body: "<html>log in</html>" }, "HTML"],
    ["an HTML page that hides", { headers: { "content-type": OCI_TYPE }, body: "<html>log in</html>" }, "not JSON"],
    ["plain text", { headers: { "content-type": "text/plain" }, body: "ok" }, "not JSON"],
    ["a JSON list", { headers: { "content-type": OCI_TYPE }, body: "[]" }, "not an object"],
    ["an empty body", { headers: { "content-type": OCI_TYPE }, body: "" }, "not JSON"],
    ["a compressed body", { headers: { "content-type": OCI_TYPE, "content-encoding": "gzip" }, body: "x" }, "encoded"],
    ["schema1 by type", { headers: { "content-type": SCHEMA1_SIGNED }, body: '{"schemaVersion":1}' }, "Docker schema1"],
    ["schema1 by content", { body: '{"schemaVersion":1,"fsLayers":[]}' }, "Docker schema1"],
    ["204", { status: 204 }, "204"],
    ["206", { ...manifestReply, status: 206 }, "206"],
    ["304 without being asked", { status: 304 }, "304"],
  ])("%s is a bad answer", async (_, reply, words) => {
    const error = await failure((await registryWith(reply)).upstream.getManifest("a", tag("1"), o()));
    expect(error).toMatchObject({ fault: "bad-answer", trouble: true });
    expect(error.message).toContain(words);
  });

  const index = '{"schemaVersion":2,"manifests":[]}';
  test.each([
    ["the registry's word", `${OCI_INDEX}; charset=utf-8`, '{"mediaType":"x/y"}', OCI_INDEX],
    ["any type of artifact", "application/vnd.cncf.helm.v1+json", "{}", "application/vnd.cncf.helm.v1+json"],
    ["the document's word for a type that says nothing", "application/json", '{"mediaType":"x/y"}', "x/y"],
    ["a historic text/plain (Red Hat)", "text/plain", '{"mediaType":"x/y"}', "x/y"],
    ["the document's look, if it says nothing", "application/octet-stream", index, OCI_INDEX],
    ["no type at all", undefined, '{"schemaVersion":2,"config":{},"layers":[]}', OCI_MANIFEST],
  ])("M6 media type: %s", async (_, contentType, body, expected) => {
    const { upstream } = await registryWith({
      headers: contentType === undefined ? {} : { "content-type": contentType },
      body,
    });
    expect(await upstream.getManifest("a", tag("1"), o())).toMatchObject({ mediaType: expected });
  });

  test.each([
    ["a byte order mark", `\uFEFF${index}`],
    ["a trailing newline", `${index}\n`],
    ["duplicate keys", '{"schemaVersion":2,"schemaVersion":2,"manifests":[]}'],
  ])("M6 bytes come out as they went in: %s", async (_, body) => {
    const { upstream } = await registryWith({ headers: { "content-type": OCI_INDEX }, body });
    const bytes = Buffer.from(body);
    expect(await upstream.getManifest("a", tag("1"), o())).toMatchObject({ bytes, digest: digestOf(bytes) });
  });

  test("M6 a manifest of exactly the limit passes, one more byte is refused by the key's name", async () => {
    const sized = (size: number): Buffer => Buffer.from(`{"a":"${"x".repeat(size - 8)}"}`);
    const limit = LIMITS.manifestSize;
    const held = await registryWith({ headers: { "content-type": OCI_TYPE }, body: sized(limit) });
    expect(await held.upstream.getManifest("a", tag("1"), o())).toMatchObject({ digest: digestOf(sized(limit)) });
    for (const body of [sized(limit + 1), [sized(limit + 1)]]) {
      const { upstream } = await registryWith({ headers: { "content-type": OCI_TYPE }, body });
      const error = await failure(upstream.getManifest("a", tag("1"), o()));
      expect(error.fault).toBe("bad-answer");
      expect(error.message).toContain("limits.manifestSize");
    }
  });

  test("M8 an entity tag makes it a conditional request", async () => {
    const registry = await serve([
      { when: { path: "/v2/a/manifests/1", headers: { "if-none-match": '"x"' } }, reply: { status: 304 } },
    ]);
    const { upstream } = openUpstream(registry.url);
    expect(await upstream.getManifest("a", tag("1"), { ...o(), etag: '"x"' })).toBe("not-modified");
  });

  test("sendNs names the upstream to another Weir", async () => {
    const registry = await serve([
      { when: { path: "/v2/a/manifests/1", query: { ns: "reg.example" } }, reply: manifestReply },
    ]);
    await openUpstream(registry.url, { sendNs: true }).upstream.getManifest("a", tag("1"), o());
  });
});

describe("headManifest", () => {
  test("tells what the headers tell", async () => {
    const { upstream } = await registryWith(manifestReply);
    expect(await upstream.headManifest("a", tag("1"), o())).toEqual({
      mediaType: OCI_TYPE,
      digest: MANIFEST_DIGEST,
      size: MANIFEST.byteLength,
      etag: `"${MANIFEST_DIGEST}"`,
    });
  });

  test("M8 without Docker-Content-Digest there is no digest, and a malformed one does not count", async () => {
    for (const headers of [{}, { "docker-content-digest": "sha256:abc" }]) {
      const { upstream } = await registryWith({ headers: { ...headers, "content-type": OCI_TYPE }, body: MANIFEST });
      expect(await upstream.headManifest("a", tag("1"), o())).toMatchObject({ digest: undefined });
      expect(await upstream.headManifest("a", byDigest(MANIFEST_DIGEST), o())).toMatchObject({
        digest: MANIFEST_DIGEST,
      });
    }
  });

  test("another digest than the one asked for, a page, and schema1 are bad answers", async () => {
    const { upstream } = await registryWith(manifestReply);
    const other = byDigest(digestOf(Buffer.from("other")));
    expect((await failure(upstream.headManifest("a", other, o()))).fault).toBe("bad-answer");
    for (const type of ["text/html", SCHEMA1_SIGNED]) {
      const wrong = await registryWith({ headers: { "content-type": type } });
      expect((await failure(wrong.upstream.headManifest("a", tag("1"), o()))).fault).toBe("bad-answer");
    }
  });
});

describe("what an answer means", () => {
  const errors = (code: string, message = "m"): string => JSON.stringify({ errors: [{ code, message }] });

  test.each([
    ["404", { status: 404 }, { fault: "absent", absent: "manifest", trouble: false }],
    [
      "404 MANIFEST_UNKNOWN",
      { status: 404, body: errors("MANIFEST_UNKNOWN") },
      { fault: "absent", absent: "manifest" },
    ],
    ["404 NAME_UNKNOWN", { status: 404, body: errors("NAME_UNKNOWN") }, { fault: "absent", absent: "repository" }],
    ["404 TAG_EXPIRED (quay)", { status: 404, body: errors("TAG_EXPIRED") }, { fault: "absent", absent: "manifest" }],
    ["404 in HTML", { status: 404, body: "<html>" }, { fault: "absent", absent: "manifest" }],
    ["403", { status: 403, body: errors("DENIED") }, { fault: "denied", status: 403, trouble: false }],
    ["400", { status: 400 }, { fault: "status", status: 400, trouble: true }],
    ["501", { status: 501 }, { fault: "status", status: 501 }],
    ["429", { status: 429, headers: { "retry-after": "7" } }, { fault: "quota", status: 429, retryAfterMs: 7_000 }],
    ["429 in HTML (quay)", { status: 429, body: "<html>" }, { fault: "quota", retryAfterMs: undefined }],
    [
      "429 with the delay in its message (GHCR)",
      { status: 429, body: errors("TOOMANYREQUESTS", "retry-after: 1.5s, allowed: 44000/minute") },
      { fault: "quota", retryAfterMs: 1_500 },
    ],
    [
      "503 that asks to be left alone",
      { status: 503, headers: { "retry-after": "60" } },
      { fault: "status", retryAfterMs: 60_000 },
    ],
  ])("U6 %s", async (_, reply, expected) => {
    const { upstream, exchanges } = await registryWith(reply);
    expect(await failure(upstream.getManifest("a", tag("1"), o()))).toMatchObject(expected);
    expect(exchanges).toHaveLength(1);
    expect(exchanges[0]).toMatchObject({ status: reply.status, fault: expected.fault });
  });

  test("a passing failure is tried again, and each attempt is counted", async () => {
    const registry = await serve([
      { when: { path: "/v2/a/manifests/1" }, reply: { status: 502 }, once: true },
      { when: { path: "/v2/a/manifests/1" }, reply: { ...manifestReply, cut: 10 }, once: true },
      { when: { path: "/v2/a/manifests/1" }, reply: manifestReply },
    ]);
    const { upstream, exchanges } = openUpstream(registry.url);
    await upstream.getManifest("a", tag("1"), o());
    expect(exchanges.map(({ status, fault }) => [status, fault])).toEqual([
      [502, "status"],
      [200, "connect"],
      [200, undefined],
    ]);
  });

  test("a failure that lasts is reported after the third attempt", async () => {
    const { upstream, exchanges } = await registryWith({ cut: "request" });
    expect(await failure(upstream.headManifest("a", tag("1"), o()))).toMatchObject({ fault: "connect", trouble: true });
    expect(exchanges.map(({ status, fault }) => [status, fault])).toEqual(Array(3).fill([undefined, "connect"]));
  });

  test("an abort rejects with its reason at once, whatever the upstream does", async () => {
    const registry = await serve([{ when: { path: /manifests/ }, reply: { hang: true } }]);
    const { upstream } = openUpstream(registry.url, { maxConnections: 1 });
    const reason = new Error("the client has left");
    const client = new AbortController();
    const calls = [1, 2].map((n) => upstream.headManifest("a", tag(String(n)), { signal: client.signal }));
    await expect.poll(() => registry.ledger.length).toBe(1);
    client.abort(reason);
    for (const call of calls) await expect(call).rejects.toBe(reason);
    expect(registry.ledger).toHaveLength(1);
  });
});
