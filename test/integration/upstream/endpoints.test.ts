import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { EndpointConfig, UpstreamConfig } from "../../../src/config/types.ts";
import { digestOf } from "../../../src/oci/digest.ts";
import { OCI_INDEX } from "../../../src/oci/media-types.ts";
import type { ScriptEntry, ScriptedServer, ScriptReply } from "../../support/scripted-server.ts";
import {
  type Bench,
  brief,
  challenge,
  credential,
  failure,
  MANIFEST_DIGEST,
  manifestReply,
  o,
  openUpstream,
  PASSWORD,
  readAll,
  serve,
  tag,
  tokenEntry,
} from "./bench.ts";

const BLOB = Buffer.from("0123456789".repeat(100));
const DIGEST = digestOf(BLOB);
const BASIC = `Basic ${Buffer.from(`robot:${PASSWORD}`).toString("base64")}`;

/** Everything, or nothing while its state is a status. */
function registry(prefix = ""): readonly ScriptEntry[] {
  const path = `/v2/${prefix}a`;
  return [
    ...[401, 403, 404, 429, 500, 503].map((status) => ({
      when: { path: /.*/, state: String(status) },
      reply: { status },
    })),
    { when: { path: /.*/, state: "cut" }, reply: { cut: "request" } },
    { when: { path: /.*/, state: "page" }, reply: { headers: { "content-type": "text/html" }, body: "<html>" } },
    { when: { path: `${path}/manifests/1` }, reply: manifestReply },
    { when: { path: `${path}/tags/list` }, reply: { body: '{"tags":["1"]}' } },
    {
      when: { path: `${path}/blobs/${DIGEST}`, headers: { range: "bytes=500-" } },
      reply: { status: 206, headers: { "content-range": "bytes 500-999/1000" }, body: BLOB.subarray(500) },
    },
    { when: { path: `${path}/blobs/${DIGEST}` }, reply: { body: BLOB } },
  ];
}

const at = ({ url }: ScriptedServer, over: Partial<EndpointConfig> = {}): EndpointConfig => ({
  url,
  prefix: "",
  type: "generic",
  credentials: [],
  ...over,
});

function chained(endpoints: readonly EndpointConfig[], over: Partial<UpstreamConfig> = {}): Bench {
  return openUpstream(new URL("http://unused.invalid"), { ...over, endpoints });
}

async function pair(): Promise<{ bench: Bench; first: ScriptedServer; second: ScriptedServer }> {
  const [first, second] = [await serve(registry()), await serve(registry(), { host: "127.0.0.2" })];
  return { bench: chained([at(first), at(second)]), first, second };
}

describe("U7 which endpoint is asked", () => {
  test("the first, and no other, while it answers", async () => {
    const { bench, first, second } = await pair();
    await bench.upstream.headManifest("a", tag("1"), o());
    await bench.upstream.getManifest("a", tag("1"), o());
    await bench.upstream.headBlob("a", DIGEST, o());
    await bench.upstream.blobSize("a", DIGEST, o());
    await bench.upstream.listTags("a", {}, o());
    expect(first.ledger).toHaveLength(5);
    expect(second.ledger).toHaveLength(0);
  });

  test.each(["500", "503", "429", "cut", "page"])(
    "the next at once where the first is in trouble: %s",
    async (trouble) => {
      const { bench, first, second } = await pair();
      first.state = trouble;
      const startedMs = bench.clock.now();
      await bench.upstream.headManifest("a", tag("1"), o());
      expect(bench.clock.now()).toBe(startedMs);
      expect(first.lines).toEqual(["HEAD /v2/a/manifests/1"]);
      expect(second.lines).toEqual(["HEAD /v2/a/manifests/1"]);
    },
  );

  test.each([
    ["404", "absent"],
    ["403", "denied"],
    ["401", "denied"],
  ])("no other where the first is clear: %s", async (answer, fault) => {
    const { bench, first, second } = await pair();
    first.state = answer;
    expect((await failure(bench.upstream.headManifest("a", tag("1"), o()))).fault).toBe(fault);
    expect(second.ledger).toEqual([]);
  });

  test("a 404 of any but the first goes on to the next", async () => {
    const [first, second, third] = [await serve(registry()), await serve(registry()), await serve(registry())];
    first.state = "503";
    second.state = "404";
    const { upstream } = chained([at(first), at(second), at(third)]);
    expect((await upstream.headManifest("a", tag("1"), o())).digest).toBe(MANIFEST_DIGEST);
    expect([first, second, third].map(({ ledger }) => ledger.length)).toEqual([1, 1, 1]);
  });

  test.each(["404", "403", "503"])(
    "where no other delivers (%s), the first's trouble is told, and retried as ever",
    async (answer) => {
      const { bench, first, second } = await pair();
      first.state = "500";
      second.state = answer;
      const error = await failure(bench.upstream.headManifest("a", tag("1"), o()));
      expect(error).toMatchObject({ fault: "status", status: 500 });
      expect(error.message).toContain(first.url.origin);
      expect([first.ledger.length, second.ledger.length]).toEqual([3, 3]);
    },
  );

  test("the first again once its breaker lets one through, and the next meanwhile without asking it", async () => {
    const { bench, first, second } = await pair();
    first.state = "503";
    for (let i = 0; i < 5; i += 1) {
      await bench.upstream.headManifest("a", tag("1"), o());
    }
    expect(bench.breakers).toMatchObject([
      { upstream: "reg.example", origin: first.url.origin, role: "registry", open: true },
    ]);
    await Promise.all(Array.from({ length: 20 }, () => bench.upstream.headManifest("a", tag("1"), o())));
    expect([first.ledger.length, second.ledger.length]).toEqual([5, 25]);

    first.state = "";
    bench.clock.turn(1_000);
    for (let i = 0; i < 5; i += 1) {
      await bench.upstream.headManifest("a", tag("1"), o());
    }
    expect([first.ledger.length, second.ledger.length]).toEqual([10, 25]);
    expect(bench.breakers.map(({ open }) => open)).toEqual([true, false]);
  });

  test("M4 one that is down for good costs nothing but its breaker: with both open nobody is asked", async () => {
    const { bench, first, second } = await pair();
    first.state = second.state = "503";
    for (let i = 0; i < 2; i += 1) {
      await failure(bench.upstream.headManifest("a", tag("1"), o()));
    }
    expect([first.ledger.length, second.ledger.length]).toEqual([5, 5]);
    const error = await failure(bench.upstream.headManifest("a", tag("1"), o()));
    expect(error).toMatchObject({ breakerOpen: true, trouble: true });
    expect([first.ledger.length, second.ledger.length]).toEqual([5, 5]);
  });

  test("what the operator sees of an endpoint stands under the upstream's name", async () => {
    const { bench, first } = await pair();
    first.state = "503";
    await bench.upstream.headManifest("a", tag("1"), o());
    expect(bench.exchanges.map(({ upstream, status }) => [upstream, status])).toEqual([
      ["reg.example", 503],
      ["reg.example", 200],
    ]);
  });

  test("a client that leaves ends it where it is", async () => {
    const { bench, first, second } = await pair();
    first.add({ when: { path: /.*/ }, reply: { hang: true } });
    const client = new AbortController();
    const asked = bench.upstream.headManifest("a", tag("1"), { signal: client.signal });
    await expect.poll(() => first.ledger.length).toBe(1);
    const reason = new Error("enough");
    client.abort(reason);
    await expect(asked).rejects.toBe(reason);
    expect(second.ledger).toEqual([]);
  });
});

describe("blobs", () => {
  test("B2 B4 a download that breaks is resumed at another endpoint, byte for byte", async () => {
    const { bench, first, second } = await pair();
    first.add({ when: { path: `/v2/a/blobs/${DIGEST}` }, reply: { body: BLOB, cut: 500 }, once: true });
    const hash = createHash("sha256");
    const begun = await bench.upstream.getBlob("a", DIGEST, { ...o(), start: 0 });
    let received = 0;
    await expect(
      (async () => {
        for await (const chunk of begun.body as AsyncIterable<Buffer>) {
          hash.update(chunk);
          received += chunk.byteLength;
        }
      })(),
    ).rejects.toMatchObject({ fault: "connect" });
    expect(received).toBe(500);
    first.state = "503";
    const rest = await bench.upstream.getBlob("a", DIGEST, { ...o(), start: received });
    expect([rest.start, rest.total]).toEqual([500, 1000]);
    hash.update(await readAll(rest.body));
    expect(`sha256:${hash.digest("hex")}`).toBe(DIGEST);
    expect(first.lines).toEqual([`GET /v2/a/blobs/${DIGEST}`, `GET /v2/a/blobs/${DIGEST}`]);
    expect(second.ledger.map(({ headers }) => headers.range)).toEqual(["bytes=500-"]);
  });

  test("a body is asked for once at each endpoint: the fill decides about more", async () => {
    const { bench, first, second } = await pair();
    first.state = second.state = "503";
    expect((await failure(bench.upstream.getBlob("a", DIGEST, { ...o(), start: 0 }))).fault).toBe("status");
    expect([first.ledger.length, second.ledger.length]).toEqual([1, 1]);
  });
});

describe("prefix and type", () => {
  test("the prefix stands in paths and scopes, and in no name above", async () => {
    const mirror = await serve([
      tokenEntry(),
      {
        when: {
          path: "/v2/group/dependency_proxy/containers/library/nginx/manifests/1",
          headers: { authorization: "Bearer token-1" },
        },
        reply: manifestReply,
      },
      {
        when: { path: /redis/, headers: { authorization: "Bearer token-2" } },
        reply: manifestReply,
      },
      {
        when: { path: /nginx/ },
        reply: challenge("/token", "repository:group/dependency_proxy/containers/library/nginx:pull"),
      },
    ]);
    const { upstream } = chained([at(mirror, { prefix: "group/dependency_proxy/containers" })]);
    await upstream.headManifest("library/nginx", tag("1"), o());
    await upstream.headManifest("library/redis", tag("1"), o());
    const scopes = mirror.ledger.filter(({ path }) => path === "/token").map(({ query }) => query.get("scope"));
    expect(scopes).toEqual([
      "repository:group/dependency_proxy/containers/library/nginx:pull",
      "repository:group/dependency_proxy/containers/library/redis:pull",
    ]);
    // The second repository starts with a token.
    expect(mirror.lines).toHaveLength(5);
  });

  test("each endpoint is spoken to as its own type", async () => {
    const [first, second] = [await serve(registry()), await serve(registry("hub/"))];
    first.state = "503";
    second.add({
      when: { path: `/v2/hub/a/blobs/${DIGEST}`, headers: { range: "bytes=0-0" } },
      reply: { status: 206, headers: { "content-range": "bytes 0-0/1000" }, body: "0" },
    });
    const { upstream } = chained([at(first), at(second, { prefix: "hub", type: "ecr-public" })]);
    expect(await upstream.headBlob("a", DIGEST, o())).toEqual({ size: 1000 });
    expect(first.lines).toEqual([`HEAD /v2/a/blobs/${DIGEST}`]);
    expect(second.lines).toEqual([`GET /v2/hub/a/blobs/${DIGEST}`]);
  });
});

describe("U2 credentials", () => {
  async function secured(): Promise<ScriptedServer> {
    return await serve([
      { when: { path: /manifests/, headers: { authorization: /^Basic / } }, reply: manifestReply },
      { when: { path: /manifests/ }, reply: { status: 401, headers: { "www-authenticate": 'Basic realm="r"' } } },
    ]);
  }

  test("go to the first, and to another only where the entry names them", async () => {
    const [first, second, third] = [await secured(), await secured(), await secured()];
    first.add({ when: { path: /.*/, state: "down" }, reply: { status: 503 } });
    const { upstream } = chained([at(first, { credentials: ["ci"] }), at(second), at(third, { credentials: ["ci"] })], {
      credentials: [credential()],
    });
    await upstream.headManifest("a", tag("1"), o());
    first.state = "down";
    await upstream.headManifest("a", tag("1"), o());
    expect(brief(first.ledger).slice(0, 2)).toEqual(["HEAD /v2/a/manifests/1 -", `HEAD /v2/a/manifests/1 ${BASIC}`]);
    expect(brief(second.ledger)).toEqual(["HEAD /v2/a/manifests/1 -"]);
    expect(brief(third.ledger)).toEqual(["HEAD /v2/a/manifests/1 -", `HEAD /v2/a/manifests/1 ${BASIC}`]);
    expect(upstream.hasCredential("a")).toBe(true);
  });

  test("A1 whether a repository is public, the first alone says: an open copy elsewhere makes nothing public", async () => {
    const [first, second] = [await serve(registry()), await serve(registry())];
    const { upstream } = chained([at(first, { credentials: ["ci"] }), at(second)], { credentials: [credential()] });
    first.state = "401";
    expect(await upstream.isPublic("a", tag("1"), o())).toBe(false);
    first.state = "503";
    expect((await failure(upstream.isPublic("a", tag("1"), o()))).trouble).toBe(true);
    expect(second.ledger).toEqual([]);
  });

  test("one that is refused at the first is told, and nobody asks anonymously elsewhere instead", async () => {
    const [first, second] = [await serve(registry()), await serve(registry())];
    first.add({ when: { path: /.*/ }, reply: { status: 401, headers: { "www-authenticate": 'Basic realm="r"' } } });
    const { upstream } = chained([at(first, { credentials: ["ci"] }), at(second)], { credentials: [credential()] });
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("credential");
    expect(second.ledger).toEqual([]);
  });
});

describe("M12 referrers", () => {
  const list = (manifests: readonly unknown[]): ScriptReply => ({
    headers: { "content-type": OCI_INDEX },
    body: JSON.stringify({ schemaVersion: 2, manifests }),
  });
  const SIGNATURE = { mediaType: "application/vnd.oci.image.manifest.v1+json", digest: DIGEST, size: 5 };

  test.each<[string, ScriptReply, number | "trouble"]>([
    ["no API", { status: 404, body: "404 page not found" }, "trouble"],
    ["none", list([]), "trouble"],
    ["some", list([SIGNATURE]), 1],
  ])("another endpoint's word that there are none is not taken: %s", async (_, reply, expected) => {
    const [first, second] = [await serve(registry()), await serve([{ when: { path: /referrers/ }, reply }])];
    first.state = "503";
    const { upstream } = chained([at(first), at(second)]);
    const asked = upstream.listReferrers("a", DIGEST, o());
    if (expected === "trouble") {
      expect((await failure(asked)).trouble).toBe(true);
    } else {
      expect(await asked).toHaveLength(expected);
    }
  });

  test("the first's is", async () => {
    const [first, second] = [await serve([{ when: { path: /referrers/ }, reply: list([]) }]), await serve(registry())];
    const { upstream } = chained([at(first), at(second)]);
    expect(await upstream.listReferrers("a", DIGEST, o())).toEqual([]);
    expect(second.ledger).toEqual([]);
  });
});

test("all endpoints retire and close with the upstream", async () => {
  const { bench, first, second } = await pair();
  first.state = second.state = "503";
  for (let i = 0; i < 2; i += 1) {
    await failure(bench.upstream.headManifest("a", tag("1"), o()));
  }
  expect(bench.breakers.map(({ open }) => open)).toEqual([true, true]);
  bench.upstream.retire();
  expect(bench.breakers.map(({ open }) => open)).toEqual([true, true, false, false]);
});
