import { describe, expect, onTestFinished, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { type Upstream, UpstreamError } from "../../../src/upstream/upstream.ts";
import { createAuthority } from "../../support/certificates.ts";
import type { ScriptEntry, ScriptedServer, ScriptReply } from "../../support/scripted-server.ts";
import {
  type Bench,
  challenge,
  failure,
  MANIFEST,
  manifestReply,
  o,
  openUpstream,
  readAll,
  serve,
  tag,
  tokenEntry,
} from "./bench.ts";

const BLOB = Buffer.from("0123456789".repeat(100));
const DIGEST = digestOf(BLOB);
const BLOB_PATH = `/v2/a/blobs/${DIGEST}`;

/** Beyond the first pause of a breaker, below every deadline. */
const PAUSE_MS = 1_000;

const everything = (reply: ScriptReply): ScriptEntry => ({ when: { path: /.*/ }, reply });

/** Longer pauses and deadlines pass at once. */
const until = { connectMs: 5_000, headersMs: 5_000, bodyMs: 30_000 };

/** Asks until the breaker opens, and no longer than that should take. */
async function askUntilOpen(bench: Bench): Promise<void> {
  for (let asked = 0; asked < 5 && bench.breakers.length === 0; asked += 1) {
    expect(await failure(bench.upstream.headManifest("a", tag("1"), o()))).toMatchObject({ trouble: true });
  }
}

/** The error of a call that fails before anything could have come over a connection. */
async function failureAtOnce(call: Promise<unknown>): Promise<UpstreamError> {
  let error: unknown;
  call.catch((reason: unknown) => {
    error = reason;
  });
  await new Promise((resolve) => setImmediate(resolve));
  if (!(error instanceof UpstreamError)) throw new Error(`there is no UpstreamError after one tick, but ${error}`);
  return error;
}

function everyQuestion(upstream: Upstream): readonly (() => Promise<unknown>)[] {
  return [
    () => upstream.headManifest("a", tag("1"), o()),
    () => upstream.getManifest("a", tag("1"), o()),
    () => upstream.headBlob("a", DIGEST, o()),
    () => upstream.blobSize("a", DIGEST, o()),
    () => upstream.getBlob("a", DIGEST, { ...o(), start: 0 }),
    () => upstream.listTags("a", {}, o()),
    () => upstream.listReferrers("a", DIGEST, o()),
    () => upstream.isPublic("a", tag("1"), o()),
  ];
}

describe("U7 M4 a registry that fails five times in a row is not asked any more", () => {
  const registry = (reply: ScriptReply) => async () => openUpstream((await serve([everything(reply)])).url);

  const cases: readonly [string, () => Promise<Bench>, Partial<UpstreamError>, string][] = [
    ["answers 500", registry({ status: 500 }), { fault: "status", status: undefined }, "status 500"],
    ["answers 503 in HTML", registry({ status: 503, body: "<html>" }), { fault: "status" }, "status 503"],
    ["resets connections", registry({ cut: "request" }), { fault: "connect" }, "connect"],
    [
      "refuses connections",
      async () => {
        const gone = await serve([]);
        await gone.close();
        return openUpstream(gone.url);
      },
      { fault: "connect" },
      "connect",
    ],
    [
      "has no address",
      async () =>
        openUpstream(
          new URL("http://reg.example"),
          {},
          {
            lookup: () => Promise.reject(Object.assign(new Error("no such host"), { code: "ENOTFOUND" })),
          },
        ),
      { fault: "connect" },
      "connect",
    ],
    [
      "has a certificate that nobody knows",
      async () => {
        const stack = new AsyncDisposableStack();
        onTestFinished(() => stack.disposeAsync());
        const tls = await (await createAuthority(stack)).issue(["127.0.0.1"]);
        return openUpstream((await serve([], { tls })).url);
      },
      { fault: "tls" },
      "tls",
    ],
  ];

  test.each(cases)("%s", async (_, start, error, reason) => {
    const bench = await start();
    await askUntilOpen(bench);
    const { origin } = new URL(bench.exchanges[0]?.url ?? "");
    expect(bench.breakers).toEqual([{ upstream: "reg.example", origin, role: "registry", open: true, reason }]);
    expect(bench.exchanges).toHaveLength(5);
    for (const ask of everyQuestion(bench.upstream)) {
      const refused = await failureAtOnce(ask());
      expect(refused).toMatchObject({ ...error, trouble: true, breakerOpen: true });
      expect(refused.retryAfterMs).toBeGreaterThan(0);
      expect(refused.retryAfterMs).toBeLessThanOrEqual(PAUSE_MS);
      expect(refused.message).toMatch(/^reg\.example: https?:\/\/\S+ is not asked before 2026-09-01T\S+: 5 requests/);
      expect(refused.message).toContain(reason);
    }
    expect(bench.exchanges).toHaveLength(5);
  });

  test("accepts and is silent", async () => {
    const silent = await serve([everything({ hang: true })]);
    const bench = openUpstream(silent.url, { timeouts: until });
    for (let asked = 1; asked <= 5; asked += 1) {
      const late = failure(bench.upstream.headManifest("a", tag("1"), o()));
      while (silent.ledger.length < asked) await new Promise((resolve) => setImmediate(resolve));
      bench.clock.turn(until.headersMs);
      expect(await late).toMatchObject({ fault: "timeout", breakerOpen: false });
    }
    for (const ask of everyQuestion(bench.upstream)) {
      expect(await failureAtOnce(ask())).toMatchObject({ fault: "timeout", breakerOpen: true });
    }
    expect(silent.ledger).toHaveLength(5);
  });

  test("sends headers and no body", async () => {
    const stalled = await serve([
      everything({ raw: (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{") }),
    ]);
    const bench = openUpstream(stalled.url, { timeouts: { ...until, bodyMs: 100 } });
    const asked = Array.from({ length: 5 }, () => failure(bench.upstream.getManifest("a", tag("1"), o())));
    for (const error of await Promise.all(asked)) expect(error.fault).toBe("timeout");
    expect(await failureAtOnce(bench.upstream.headManifest("a", tag("1"), o()))).toMatchObject({ breakerOpen: true });
  });
});

describe("U7 what opens no breaker", () => {
  test.each<[string, ScriptReply]>([
    ["a denied repository", { status: 403 }],
    ["a challenge that leads nowhere", { status: 401 }],
    ["an absent one", { status: 404 }],
    ["a spent quota", { status: 429, headers: { "retry-after": "60" } }],
    ["a login page", { headers: { "content-type": "text/html" }, body: "<html>" }],
    ["a method that is not offered", { status: 501 }],
  ])("%s", async (_, reply) => {
    const registry = await serve([everything(reply)]);
    const { upstream, breakers, clock } = openUpstream(registry.url);
    for (let asked = 1; asked <= 20; asked += 1) {
      await failure(upstream.getManifest("a", tag("1"), o()));
      expect(registry.ledger).toHaveLength(asked);
      // Past whatever a 429 keeps from the registry by itself.
      clock.turn(3_600_000);
    }
    expect(breakers).toEqual([]);
  });

  test("clients that leave before the answer", async () => {
    const silent = await serve([everything({ hang: true })]);
    const { upstream, breakers } = openUpstream(silent.url);
    for (let asked = 1; asked <= 20; asked += 1) {
      const client = new AbortController();
      const left = upstream.headManifest("a", tag("1"), { signal: client.signal });
      while (silent.ledger.length < asked) await new Promise((resolve) => setImmediate(resolve));
      client.abort(new Error("enough"));
      await expect(left).rejects.toThrow("enough");
    }
    expect(breakers).toEqual([]);
  });

  test("failures with answers between them", async () => {
    const registry = await serve([
      { when: { path: "/v2/broken/manifests/1" }, reply: { status: 500 } },
      { when: { path: "/v2/a/manifests/1" }, reply: manifestReply },
    ]);
    const { upstream, breakers } = openUpstream(registry.url);
    for (let round = 0; round < 10; round += 1) {
      await failure(upstream.headManifest("broken", tag("1"), o()));
      await upstream.headManifest("a", tag("1"), o());
    }
    expect(breakers).toEqual([]);
  });

  test("a blob host that cuts every connection, as long as each delivers something", async () => {
    const registry = await serve([{ when: { path: BLOB_PATH }, reply: { body: BLOB, cut: 300 } }]);
    const { upstream, breakers } = openUpstream(registry.url);
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const { body } = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
      expect((await failure(readAll(body))).fault).toBe("connect");
    }
    expect(breakers).toEqual([]);
  });
});

describe("U7 half-open", () => {
  test("one probe goes through, the others fail at once until it is answered", async () => {
    const gate = Promise.withResolvers<void>();
    const registry = await serve([
      { when: { path: "/v2/a/manifests/1", state: "down" }, reply: { status: 500 } },
      {
        when: { path: "/v2/a/manifests/1", state: "up" },
        reply: () => ({
          ...manifestReply,
          body: (async function* () {
            yield MANIFEST.subarray(0, 5);
            await gate.promise;
            yield MANIFEST.subarray(5);
          })(),
        }),
      },
    ]);
    registry.state = "down";
    const bench = openUpstream(registry.url);
    await askUntilOpen(bench);
    registry.state = "up";
    bench.clock.turn(PAUSE_MS);

    const before = registry.ledger.length;
    const probe = bench.upstream.getManifest("a", tag("1"), o());
    for (let i = 0; i < 10; i += 1) {
      const refused = await failureAtOnce(bench.upstream.getManifest("a", tag("1"), o()));
      expect(refused).toMatchObject({ breakerOpen: true, retryAfterMs: 1_000 });
    }
    gate.resolve();
    await probe;
    expect(registry.ledger).toHaveLength(before + 1);
    await Promise.all(Array.from({ length: 10 }, () => bench.upstream.getManifest("a", tag("1"), o())));
    expect(bench.breakers.map(({ open }) => open)).toEqual([true, false]);
  });

  test("a probe that fails is one request, and the pause is longer", async () => {
    const registry = await serve([everything({ status: 502 })]);
    const bench = openUpstream(registry.url);
    await askUntilOpen(bench);
    for (const pauseMs of [1_500, 3_000, 6_000]) {
      bench.clock.turn(60_000);
      const before = registry.ledger.length;
      await failure(bench.upstream.headManifest("a", tag("1"), o()));
      expect(registry.ledger).toHaveLength(before + 1);
      bench.clock.turn(pauseMs - 500);
      expect((await failureAtOnce(bench.upstream.headManifest("a", tag("1"), o()))).breakerOpen).toBe(true);
    }
    expect(bench.breakers).toHaveLength(1);
  });
});

describe("U7 trouble stays where it is", () => {
  async function withCdn(): Promise<{ bench: Bench; registry: ScriptedServer; cdn: ScriptedServer }> {
    const cdn = await serve(
      [
        { when: { path: "/blob", state: "503" }, reply: { status: 503 } },
        {
          when: { path: "/blob", state: "no body" },
          reply: {
            raw: (socket) =>
              socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", () => socket.resetAndDestroy()),
          },
        },
        { when: { path: "/blob", state: "up" }, reply: { body: BLOB } },
      ],
      { host: "127.0.0.3" },
    );
    const registry = await serve([
      { when: { path: BLOB_PATH }, reply: { status: 307, headers: { location: `${cdn.url.origin}/blob?sig=1` } } },
      { when: { path: "/v2/a/manifests/1" }, reply: manifestReply },
    ]);
    return { bench: openUpstream(registry.url, { redirects: { allow: ["127.0.0.3"] } }), registry, cdn };
  }

  const getBlob = async ({ upstream }: Bench): Promise<Buffer> => {
    const { body } = await upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    return readAll(body);
  };

  test.each(["503", "no body"])("a CDN outage leaves manifests alone: %s", async (outage) => {
    const { bench, cdn } = await withCdn();
    cdn.state = outage;
    for (let attempt = 0; attempt < 5; attempt += 1) {
      expect(await failure(getBlob(bench))).toMatchObject({ trouble: true, breakerOpen: false });
    }
    const { origin } = cdn.url;
    expect(bench.breakers).toMatchObject([{ origin, role: "blob", open: true }]);
    for (let attempt = 0; attempt < 5; attempt += 1) {
      const refused = await failure(getBlob(bench));
      expect(refused).toMatchObject({ breakerOpen: true, trouble: true });
      expect(refused.message).not.toContain("sig=");
      await bench.upstream.headManifest("a", tag("1"), o());
      await bench.upstream.headBlob("a", DIGEST, o());
    }
    expect(cdn.ledger).toHaveLength(5);

    cdn.state = "up";
    bench.clock.turn(PAUSE_MS);
    expect(await getBlob(bench)).toEqual(BLOB);
    expect(bench.breakers).toMatchObject([{ open: true }, { origin, role: "blob", open: false, reason: undefined }]);
  });

  test("a failing token realm opens its own breaker only, and is asked by nobody while that is open", async () => {
    const realm = await serve([{ when: { path: "/token", state: "down" }, reply: { status: 500 } }, tokenEntry()]);
    realm.state = "down";
    const registry = await serve([
      { when: { path: "/v2/a/manifests/1", headers: { authorization: /^Bearer / } }, reply: manifestReply },
      { when: { path: "/v2/open/manifests/1" }, reply: manifestReply },
      { when: { path: "/v2/a/manifests/1" }, reply: challenge(`${realm.url.origin}/token`, "repository:a:pull") },
    ]);
    const bench = openUpstream(registry.url);
    await askUntilOpen(bench);
    const { origin } = realm.url;
    expect(bench.breakers).toMatchObject([{ origin, role: "realm", open: true }]);
    expect(realm.ledger).toHaveLength(5);

    const before = registry.ledger.length;
    for (let i = 0; i < 5; i += 1) {
      expect(await failureAtOnce(bench.upstream.headManifest("a", tag("1"), o()))).toMatchObject({
        fault: "status",
        breakerOpen: true,
        trouble: true,
      });
    }
    expect(realm.ledger).toHaveLength(5);
    expect(registry.ledger).toHaveLength(before);

    realm.state = "up";
    bench.clock.turn(PAUSE_MS);
    await bench.upstream.headManifest("a", tag("1"), o());
    expect(bench.breakers.map(({ open }) => open)).toEqual([true, false]);
  });

  test("for a registry that is down no token is fetched and no place among the bodies is waited for", async () => {
    const realm = await serve([tokenEntry()]);
    const registry = await serve([
      {
        when: { path: BLOB_PATH, state: "up", headers: { authorization: /^Bearer / } },
        reply: { raw: (socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123") },
      },
      { when: { path: /.*/, state: "up" }, reply: challenge(`${realm.url.origin}/token`, "repository:a:pull") },
      { when: { path: /.*/, state: "down" }, reply: { status: 500 } },
    ]);
    registry.state = "up";
    const bench = openUpstream(registry.url, { maxConnections: 1 });
    const { body } = await bench.upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    body.on("error", () => {});
    registry.state = "down";
    await askUntilOpen(bench);
    expect(bench.breakers).toMatchObject([{ role: "registry", open: true }]);
    const tokens = realm.ledger.length;
    for (const repository of ["a", "b"]) {
      const refused = await failureAtOnce(bench.upstream.getBlob(repository, DIGEST, { ...o(), start: 0 }));
      expect(refused.breakerOpen).toBe(true);
    }
    expect(realm.ledger).toHaveLength(tokens);
    body.destroy();
  });
});

test("what is open when an upstream is closed is reported as closed", async () => {
  const bench = openUpstream((await serve([everything({ status: 500 })])).url);
  await askUntilOpen(bench);
  await bench.upstream.close();
  expect(bench.breakers.map(({ open }) => open)).toEqual([true, false]);
});
