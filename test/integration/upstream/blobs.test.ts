import { describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { UpstreamError } from "../../../src/upstream/upstream.ts";
import type { ScriptReply } from "../../support/scripted-server.ts";
import { brief, failure, o, openUpstream, readAll, serve } from "./bench.ts";

const BLOB = Buffer.from("0123456789".repeat(100));
const DIGEST = digestOf(BLOB);
const PATH = `/v2/a/blobs/${DIGEST}`;
const REGISTRY_ONLY = { signal: new AbortController().signal };

async function registryWith(reply: ScriptReply): Promise<ReturnType<typeof openUpstream>> {
  return openUpstream((await serve([{ when: { path: PATH }, reply }])).url);
}

const range = (contentRange: string | undefined, body: Buffer): ScriptReply => ({
  status: 206,
  headers: contentRange === undefined ? {} : { "content-range": contentRange },
  body,
});

describe("getBlob", () => {
  test("from the start asks without Range", async () => {
    const registry = await serve([{ when: { path: PATH, headers: { range: undefined } }, reply: { body: BLOB } }]);
    const { upstream, received } = openUpstream(registry.url);
    const { start, total, body } = await upstream.getBlob("a", DIGEST, { ...REGISTRY_ONLY, start: 0 });
    expect([start, total]).toEqual([0, BLOB.byteLength]);
    expect(await readAll(body)).toEqual(BLOB);
    expect(received.get("blob")).toBe(BLOB.byteLength);
    expect(registry.ledger[0]?.headers["accept-encoding"]).toBe("identity");
  });

  test("B13 an empty blob, and one of unknown length", async () => {
    const empty = await registryWith({ body: "" });
    const none = await empty.upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    expect([none.total, (await readAll(none.body)).byteLength]).toEqual([0, 0]);
    const chunked = await registryWith({ body: [BLOB.subarray(0, 500), BLOB.subarray(500)] });
    const some = await chunked.upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    expect(some.total).toBeUndefined();
    expect(await readAll(some.body)).toEqual(BLOB);
  });

  test("a range is answered by its start and the whole size", async () => {
    const registry = await serve([
      {
        when: { path: PATH, headers: { range: "bytes=990-" } },
        reply: range("bytes 990-999/1000", BLOB.subarray(990)),
      },
      {
        when: { path: PATH, headers: { range: "bytes=10-19" } },
        reply: range("bytes 10-19/1000", BLOB.subarray(10, 20)),
      },
      {
        when: { path: PATH, headers: { range: "bytes=990-2000" } },
        reply: range("bytes 990-999/1000", BLOB.subarray(990)),
      },
      { when: { path: PATH, headers: { range: "bytes=0-9" } }, reply: range("bytes 0-9/*", BLOB.subarray(0, 10)) },
    ]);
    const { upstream } = openUpstream(registry.url);
    for (const [start, end, total] of [
      [990, undefined, 1000],
      [10, 19, 1000],
      [990, 2000, 1000],
      [0, 9, undefined],
    ] as const) {
      const wanted = { ...o(), start, ...(end === undefined ? {} : { end }) };
      const blob = await upstream.getBlob("a", DIGEST, wanted);
      expect([blob.start, blob.total]).toEqual([start, total]);
      expect(await readAll(blob.body)).toEqual(BLOB.subarray(start, (end ?? 1000) + 1));
    }
  });

  test("B4 a 200 to a range starts at 0", async () => {
    const { upstream } = await registryWith({ body: BLOB });
    const blob = await upstream.getBlob("a", DIGEST, { ...o(), start: 500 });
    expect([blob.start, blob.total]).toEqual([0, 1000]);
    expect(await readAll(blob.body)).toEqual(BLOB);
  });

  test.each([
    ["another start", "bytes 499-999/1000"],
    ["another end", "bytes 500-998/1000"],
    ["a total below its end", "bytes 500-999/600"],
    ["nonsense", "bytes half"],
    ["no Content-Range (several parts)", undefined],
  ])("B4 a lying Content-Range is a bad answer: %s", async (_, header) => {
    const { upstream } = await registryWith(range(header, BLOB.subarray(500)));
    const error = await failure(upstream.getBlob("a", DIGEST, { ...o(), start: 500, end: 999 }));
    expect(error.fault).toBe("bad-answer");
  });

  test("B4 a Content-Length that contradicts the Content-Range is a bad answer", async () => {
    const { upstream } = await registryWith(range("bytes 500-999/1000", BLOB.subarray(600)));
    expect((await failure(upstream.getBlob("a", DIGEST, { ...o(), start: 500 }))).fault).toBe("bad-answer");
  });

  test("B4 416 and an unwanted 206 are bad answers", async () => {
    const beyond = await registryWith({ status: 416, headers: { "content-range": "bytes */1000" } });
    const error = await failure(beyond.upstream.getBlob("a", DIGEST, { ...o(), start: 2000 }));
    expect(error).toMatchObject({ fault: "bad-answer", status: 416 });
    const partial = await registryWith(range("bytes 0-9/1000", BLOB.subarray(0, 10)));
    expect((await failure(partial.upstream.getBlob("a", DIGEST, { ...o(), start: 0 }))).fault).toBe("bad-answer");
  });

  test("B13 a content-encoded blob is refused", async () => {
    const { upstream } = await registryWith({ headers: { "content-encoding": "gzip" }, body: BLOB });
    expect((await failure(upstream.getBlob("a", DIGEST, { ...o(), start: 0 }))).fault).toBe("bad-answer");
  });

  test("is never retried: the fill decides", async () => {
    const { upstream, exchanges } = await registryWith({ status: 503 });
    expect(await failure(upstream.getBlob("a", DIGEST, { ...o(), start: 0 }))).toMatchObject({ fault: "status" });
    expect(exchanges).toHaveLength(1);
  });

  test("404 is an absent blob", async () => {
    const { upstream } = await registryWith({ status: 404 });
    const error = await failure(upstream.getBlob("a", DIGEST, { ...o(), start: 0 }));
    expect(error).toMatchObject({ fault: "absent", absent: "blob" });
  });

  test("a body that breaks or ends short fails with an UpstreamError", async () => {
    const cut = await registryWith({ body: BLOB, cut: 300 });
    const short = await registryWith({
      raw: (socket) => socket.end(`HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n${BLOB.subarray(0, 300)}`),
    });
    for (const { upstream } of [cut, short]) {
      const { body } = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
      expect((await failure(readAll(body))).fault).toBe("connect");
    }
  });

  test("a body that stalls is a time-out", async () => {
    const registry = await serve([
      {
        when: { path: PATH },
        reply: { raw: (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123") },
      },
    ]);
    const { upstream } = openUpstream(registry.url, { timeouts: { connectMs: 5_000, headersMs: 5_000, bodyMs: 100 } });
    const { body } = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    expect((await failure(readAll(body))).fault).toBe("timeout");
  });

  test("an abort in mid-body ends it with the reason, and a destroyed body frees the connection", async () => {
    const registry = await serve([
      {
        when: { path: PATH },
        reply: { raw: (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123") },
      },
    ]);
    const { upstream } = openUpstream(registry.url, { maxConnections: 1 });
    const client = new AbortController();
    const first = await upstream.getBlob("a", DIGEST, { signal: client.signal, start: 0 });
    const reason = new Error("enough");
    const read = readAll(first.body);
    client.abort(reason);
    await expect(read).rejects.toBe(reason);

    const second = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    second.body.on("error", () => {});
    second.body.destroy();
    const third = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    expect(third.total).toBe(1000);
  });

  test.each(["generic", "ecr-public"] as const)(
    "U8 bodies under way keep no proof of a blob waiting: %s",
    async (type) => {
      const registry = await serve([
        {
          when: { path: PATH, method: "GET", headers: { range: "bytes=0-0" } },
          reply: range("bytes 0-0/1000", BLOB.subarray(0, 1)),
        },
        {
          when: { path: PATH, method: "GET" },
          reply: { raw: (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123") },
        },
        { when: { path: PATH, method: "HEAD" }, reply: { body: BLOB } },
      ]);
      const { upstream } = openUpstream(registry.url, { type, maxConnections: 4 });
      const open = Array.from({ length: 64 }, () => upstream.getBlob("a", DIGEST, { ...o(), start: 0 }));
      for (const blob of open) blob.catch(() => {});
      // One place is left for another repository.
      await Promise.all(open.slice(0, 3));
      expect(await upstream.headBlob("a", DIGEST, o())).toEqual({ size: 1000 });
      const bodies = registry.ledger.filter(({ method, headers }) => method === "GET" && headers.range === undefined);
      expect(bodies).toHaveLength(3);
    },
  );

  test("U8 bodies of one repository, under way and queued, keep no other repository's waiting", async () => {
    const registry = await serve([
      {
        when: { path: /^\/v2\/\w+\/blobs\// },
        reply: { raw: (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123") },
      },
    ]);
    const { upstream } = openUpstream(registry.url, { maxConnections: 4 });
    const get = (repository: string) => upstream.getBlob(repository, DIGEST, { ...o(), start: 0 });
    const greedy = Array.from({ length: 64 }, () => get("greedy"));
    for (const blob of greedy) blob.catch(() => {});
    const [first] = await Promise.all(greedy.slice(0, 3));
    await get("modest");
    expect(registry.lines).toHaveLength(4);
    // Full now: whoever is next has its turn when a place is free, before the 61 that wait.
    const next = get("next");
    first?.body.on("error", () => {}).destroy();
    await next;
    expect(registry.lines.map((line) => line.split("/")[2])).toEqual(["greedy", "greedy", "greedy", "modest", "next"]);
  });
});

describe("through a redirect", () => {
  test("U2 B4 the target sees no Authorization; its 403 is an expired signature, not a denial", async () => {
    const cdn = await serve([
      {
        when: { path: "/blob", headers: { authorization: undefined, cookie: undefined }, state: "" },
        reply: { body: BLOB },
      },
      { when: { path: "/blob", headers: { authorization: undefined } }, reply: { status: 403, body: "<Expired/>" } },
    ]);
    const registry = await serve([
      { when: { path: "/token" }, reply: { body: '{"token":"t"}' } },
      {
        when: { path: PATH, headers: { authorization: "Bearer t" } },
        reply: {
          status: 307,
          headers: { location: `${cdn.url.origin}/blob?sig=1`, "set-cookie": "a=b" },
          body: "moved",
        },
      },
      { when: { path: PATH }, reply: { status: 401, headers: { "www-authenticate": 'Bearer realm="/token"' } } },
    ]);
    const { upstream, exchanges } = openUpstream(registry.url, { redirects: { allow: ["127.0.0.1"] } });
    const { body } = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    expect(await readAll(body)).toEqual(BLOB);
    expect(exchanges.map(({ kind, status, hop }) => [kind, status, hop])).toEqual([
      ["blob", 401, 0],
      ["token", 200, 0],
      ["blob", 307, 0],
      ["blob", 200, 1],
    ]);

    cdn.state = "expired";
    const error = await failure(upstream.getBlob("a", DIGEST, { ...o(), start: 0 }));
    expect(error).toMatchObject({ fault: "status", status: 403, trouble: true });
    expect(brief(cdn.ledger)).toEqual(["GET /blob -", "GET /blob -"]);
  });

  test("a redirect on the same origin may be relative and keeps the Range (Artifact Registry)", async () => {
    const registry = await serve([
      { when: { path: PATH }, reply: { status: 302, headers: { location: "/artifacts-downloads/token" } } },
      { when: { path: "/artifacts-downloads/token" }, reply: range("bytes 500-999/1000", BLOB.subarray(500)) },
    ]);
    const { upstream } = openUpstream(registry.url);
    const { start, body } = await upstream.getBlob("a", DIGEST, { ...o(), start: 500 });
    expect(start).toBe(500);
    expect(await readAll(body)).toEqual(BLOB.subarray(500));
    expect(registry.ledger[1]?.headers.range).toBe("bytes=500-");
  });
});

describe("headBlob and blobSize", () => {
  test("the registry's own answer tells the size, its redirect proves that the blob is there", async () => {
    const own = await registryWith({ body: BLOB });
    expect(await own.upstream.headBlob("a", DIGEST, o())).toEqual({ size: 1000 });
    const elsewhere = await registryWith({ status: 307, headers: { location: "https://cdn.invalid/x" } });
    expect(await elsewhere.upstream.headBlob("a", DIGEST, o())).toEqual({ size: undefined });
    const absent = await registryWith({ status: 404 });
    expect(await failure(absent.upstream.headBlob("a", DIGEST, o()))).toMatchObject({
      fault: "absent",
      absent: "blob",
    });
  });

  test.each([
    ["206", range("bytes 0-0/1000", BLOB.subarray(0, 1)), 1000],
    ["206 that does not know", range("bytes 0-0/*", BLOB.subarray(0, 1)), undefined],
    ["200, whose body is not read", { body: BLOB }, 1000],
    ["B13 416 of an empty blob", { status: 416, headers: { "content-range": "bytes */0" } }, 0],
  ])("B12 the size from a GET of one byte: %s", async (_, reply, expected) => {
    const registry = await serve([
      {
        when: { path: PATH, method: "GET", headers: { range: "bytes=0-0" } },
        reply: { status: 307, headers: { location: "/x" } },
      },
      { when: { path: "/x", method: "GET", headers: { range: "bytes=0-0" } }, reply },
    ]);
    expect(await openUpstream(registry.url).upstream.blobSize("a", DIGEST, o())).toBe(expected);
  });

  test("B12 a range that was not asked for is a bad answer", async () => {
    const { upstream } = await registryWith(range("bytes 5-5/1000", BLOB.subarray(0, 1)));
    expect((await failure(upstream.blobSize("a", DIGEST, o()))).fault).toBe("bad-answer");
  });
});

test("bodies fail with the error class that the contract promises", async () => {
  const { upstream } = await registryWith({ body: BLOB, cut: 1 });
  const { body } = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
  await expect(readAll(body)).rejects.toBeInstanceOf(UpstreamError);
});
