import { describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { OCI_INDEX } from "../../../src/oci/media-types.ts";
import type { ScriptEntry } from "../../support/scripted-server.ts";
import {
  brief,
  challenge,
  credential,
  failure,
  manifestReply,
  o,
  openUpstream,
  PASSWORD,
  serve,
  tag,
  tokenEntry,
} from "./bench.ts";

const DIGEST = digestOf(Buffer.from("blob"));
const BLOB_PATH = `/v2/app/blobs/${DIGEST}`;
const FIRST_BYTE = { status: 206, headers: { "content-range": "bytes 0-0/4" }, body: "b" };

/** A registry whose answers to `path` want the scope `scope`, from its own token service. */
function withToken(path: string, scope: string, reply: ScriptEntry["reply"]): readonly ScriptEntry[] {
  return [
    { when: { path, headers: { authorization: /^Bearer token-/ } }, reply },
    { when: { path }, reply: challenge("/token", scope) },
  ];
}

describe("ecr", () => {
  const BASIC = `Basic ${Buffer.from(`AWS:${PASSWORD}`).toString("base64")}`;
  const aws = credential({ username: "AWS" });

  test("upstreams.md 7: the password is sent before it is asked for, so that nothing costs a 401", async () => {
    const registry = await serve([
      { when: { path: "/v2/app/manifests/1", headers: { authorization: BASIC } }, reply: manifestReply },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "ecr", credentials: [aws] });
    await upstream.headManifest("app", tag("1"), o());
    await upstream.getManifest("app", tag("1"), o());
    expect(brief(registry.ledger)).toEqual([`HEAD /v2/app/manifests/1 ${BASIC}`, `GET /v2/app/manifests/1 ${BASIC}`]);
  });

  test("upstreams.md 7: without a credential it denies everything, and the error says what to do", async () => {
    const registry = await serve([
      {
        when: { path: "/v2/app/manifests/1", headers: { authorization: undefined } },
        reply: {
          status: 401,
          headers: {
            "www-authenticate": 'Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"',
          },
          body: "Not Authorized",
        },
      },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "ecr" });
    const error = await failure(upstream.headManifest("app", tag("1"), o()));
    expect(error).toMatchObject({ fault: "denied", credential: undefined });
    expect(error.message).toContain("configure upstreams.reg.example.credentials");
    expect(registry.ledger).toHaveLength(1);
  });

  test("U5 upstreams.md 7: a 403 that tells of an expired password is the credential's, any other the repository's", async () => {
    const says = (message: string): ScriptEntry["reply"] => ({
      status: 403,
      body: JSON.stringify({ errors: [{ code: "DENIED", message }] }),
    });
    const registry = await serve([
      {
        when: { path: "/v2/app/manifests/old" },
        reply: says("Your authorization token has expired. Reauthenticate and try again."),
      },
      { when: { path: "/v2/app/manifests/no" }, reply: says("User is not authorized to perform: ecr:BatchGetImage") },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "ecr", credentials: [aws] });
    expect((await failure(upstream.getManifest("app", tag("no"), o()))).fault).toBe("denied");
    expect((await failure(upstream.getManifest("app", tag("old"), o()))).fault).toBe("credential");
    expect(registry.ledger).toHaveLength(2);
  });

  test.each([
    ["ecr", 1000],
    ["ecr-public", 1000],
    ["quay", 100],
  ] as const)("M11 %s: no more than %i tags are asked for at once", async (type, most) => {
    const registry = await serve([{ when: { path: "/v2/app/tags/list" }, reply: { body: '{"tags":["1"]}' } }]);
    const { upstream } = openUpstream(registry.url, { type });
    await upstream.listTags("app", { n: most + 1, last: "0" }, o());
    await upstream.listTags("app", { n: 5 }, o());
    await upstream.listTags("app", { cursor: { n: String(most), last: "x" } }, o());
    expect(registry.ledger.map(({ query }) => query.get("n"))).toEqual([String(most), "5", String(most)]);
  });
});

describe("ecr-public", () => {
  const SCOPE = "aws";

  test("B12 upstreams.md 8: a blob is proved by its first byte, and by no HEAD, which is refused", async () => {
    const registry = await serve([
      tokenEntry(),
      ...withToken(BLOB_PATH, SCOPE, { status: 307, headers: { location: "/cdn" } }),
      { when: { path: "/cdn", method: "GET", headers: { range: "bytes=0-0" } }, reply: FIRST_BYTE },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "ecr-public" });
    expect(await upstream.headBlob("app", DIGEST, o())).toEqual({ size: 4 });
    expect(await upstream.headBlob("app", DIGEST, o())).toEqual({ size: 4 });
    expect(registry.lines).toEqual([
      `GET ${BLOB_PATH}`,
      "GET /token",
      `GET ${BLOB_PATH}`,
      "GET /cdn",
      `GET ${BLOB_PATH}`,
      "GET /cdn",
    ]);
  });

  test("upstreams.md 8: one token does for every repository", async () => {
    const registry = await serve([
      tokenEntry(),
      ...withToken("/v2/a/manifests/1", SCOPE, manifestReply),
      ...withToken("/v2/b/manifests/1", SCOPE, manifestReply),
    ]);
    const { upstream } = openUpstream(registry.url, { type: "ecr-public" });
    await upstream.headManifest("a", tag("1"), o());
    await upstream.headManifest("b", tag("1"), o());
    expect(registry.lines.filter((line) => line === "GET /token")).toHaveLength(1);
    expect(registry.ledger[1]?.query.getAll("scope")).toEqual(["aws"]);
  });
});

describe("registry.k8s.io", () => {
  test("rule 14: its redirect proves nothing, the answer behind it does", async () => {
    const unknown = digestOf(Buffer.from("unknown"));
    const registry = await serve([
      { when: { path: BLOB_PATH }, reply: { status: 307, headers: { location: "/bucket/known" } } },
      { when: { path: `/v2/app/blobs/${unknown}` }, reply: { status: 307, headers: { location: "/bucket/unknown" } } },
      { when: { path: "/bucket/known", headers: { range: "bytes=0-0" } }, reply: FIRST_BYTE },
      { when: { path: "/bucket/unknown" }, reply: { status: 404 } },
    ]);
    const { upstream } = openUpstream(registry.url, { name: "registry.k8s.io" });
    expect(await upstream.headBlob("app", DIGEST, o())).toEqual({ size: 4 });
    expect(await failure(upstream.headBlob("app", unknown, o()))).toMatchObject({ fault: "absent", absent: "blob" });
  });

  test("upstreams.md 10: manifests and lists of tags are followed to another registry, without the token", async () => {
    const other = await serve(
      [
        { when: { path: "/v2/k8s/app/manifests/1", headers: { authorization: undefined } }, reply: manifestReply },
        {
          when: { path: "/v2/k8s/app/tags/list", headers: { authorization: undefined } },
          reply: { body: '{"tags":["1"]}' },
        },
      ],
      { host: "127.0.0.2" },
    );
    const to = (path: string): ScriptEntry["reply"] => ({
      status: 307,
      headers: { location: `${other.url.origin}/v2/k8s/app/${path}` },
    });
    const registry = await serve([
      tokenEntry(),
      ...withToken("/v2/app/manifests/1", "repository:app:pull", to("manifests/1")),
      ...withToken("/v2/app/tags/list", "repository:app:pull", to("tags/list")),
    ]);
    const { upstream } = openUpstream(registry.url, { name: "registry.k8s.io", redirects: { allow: ["127.0.0.2"] } });
    expect((await upstream.headManifest("app", tag("1"), o())).digest).toBeDefined();
    expect((await upstream.listTags("app", {}, o())).tags).toEqual(["1"]);
  });
});

describe("ghcr", () => {
  test.each([401, 403])(
    "rule 7, upstreams.md 9: a %i DENIED of the token service is about the repository, and parks no credential",
    async (status) => {
      const registry = await serve([
        { when: { path: "/token", query: { scope: "repository:mine:pull" } }, reply: { body: '{"token":"token-1"}' } },
        { when: { path: "/token" }, reply: { status, body: '{"errors":[{"code":"DENIED"}]}' } },
        ...withToken("/v2/theirs/manifests/1", "repository:theirs:pull", manifestReply),
        ...withToken("/v2/mine/manifests/1", "repository:mine:pull", manifestReply),
      ]);
      const { upstream } = openUpstream(registry.url, { type: "ghcr", credentials: [credential()] });
      expect((await failure(upstream.headManifest("theirs", tag("1"), o()))).fault).toBe("denied");
      await upstream.headManifest("mine", tag("1"), o());
      expect(upstream.credentialStatus()[0]?.parkedUntilMs).toBeUndefined();
    },
  );

  test("M12 upstreams.md 9: referrers that redirect to a page are no API, and the page's host is not asked", async () => {
    const registry = await serve([
      {
        when: { path: `/v2/app/referrers/${DIGEST}` },
        reply: { status: 303, headers: { location: "https://github.invalid/-/v2/packages" } },
      },
    ]);
    const { upstream, exchanges, breakers } = openUpstream(registry.url, { type: "ghcr" });
    expect(await upstream.listReferrers("app", DIGEST, o())).toBeUndefined();
    expect(exchanges).toHaveLength(1);
    expect(breakers).toEqual([]);
  });

  test("the answer of a registry that has the API is read all the same", async () => {
    const registry = await serve([
      {
        when: { path: `/v2/app/referrers/${DIGEST}` },
        reply: { headers: { "content-type": OCI_INDEX }, body: '{"schemaVersion":2,"manifests":[]}' },
      },
    ]);
    expect(await openUpstream(registry.url, { type: "ghcr" }).upstream.listReferrers("app", DIGEST, o())).toEqual([]);
  });
});

describe("acr", () => {
  test("upstreams.md 10: lists of tags ask for metadata_read by themselves; no 401 after the first request", async () => {
    const registry = await serve([
      {
        when: { path: "/token" },
        reply: ({ query }) => ({ body: JSON.stringify({ access_token: `for-${query.get("scope")}` }) }),
      },
      {
        when: { path: "/v2/app/manifests/1", headers: { authorization: "Bearer for-repository:app:pull" } },
        reply: manifestReply,
      },
      { when: { path: "/v2/app/manifests/1" }, reply: challenge("/token", "repository:app:pull") },
      {
        when: { path: "/v2/app/tags/list", headers: { authorization: "Bearer for-repository:app:metadata_read" } },
        reply: { body: '{"name":"app","tags":["1"]}' },
      },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "acr" });
    await upstream.headManifest("app", tag("1"), o());
    await upstream.listTags("app", {}, o());
    await upstream.listTags("app", {}, o());
    await upstream.headManifest("app", tag("1"), o());
    expect(registry.lines).toEqual([
      "HEAD /v2/app/manifests/1",
      "GET /token",
      "HEAD /v2/app/manifests/1",
      "GET /token",
      "GET /v2/app/tags/list",
      "GET /v2/app/tags/list",
      "HEAD /v2/app/manifests/1",
    ]);
  });
});

describe("quay", () => {
  test("upstreams.md 4: a HEAD of a manifest may take 30 s, and no other request longer than timeouts.headers", async () => {
    const registry = await serve([{ when: { path: /.*/ }, reply: { hang: true } }]);
    const bench = openUpstream(registry.url, { type: "quay" });
    let given = 0;
    const ask = (call: Promise<unknown>) => failure(call).finally(() => (given += 1));
    const head = ask(bench.upstream.headManifest("app", tag("1"), o()));
    const get = ask(bench.upstream.getManifest("app", tag("1"), o()));
    await expect.poll(() => registry.ledger.length).toBe(2);
    bench.clock.turn(15_000);
    expect((await get).fault).toBe("timeout");
    expect(given).toBe(1);
    bench.clock.turn(15_000);
    expect((await head).fault).toBe("timeout");
  });

  test("upstreams.md 4: a namespace that is switched off is a denial, an expired tag is absent", async () => {
    const says = (status: number, code: string): ScriptEntry["reply"] => ({
      status,
      body: JSON.stringify({ errors: [{ code }] }),
    });
    const registry = await serve([
      { when: { path: "/v2/off/manifests/1" }, reply: says(405, "DENIED") },
      { when: { path: "/v2/app/manifests/old" }, reply: says(404, "TAG_EXPIRED") },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "quay" });
    expect((await failure(upstream.getManifest("off", tag("1"), o()))).fault).toBe("denied");
    expect(await failure(upstream.getManifest("app", tag("old"), o()))).toMatchObject({
      fault: "absent",
      absent: "manifest",
    });
  });
});

describe("gcr", () => {
  test("upstreams.md 5: what Google adds to a list of tags disturbs nothing", async () => {
    const body = JSON.stringify({
      child: ["sub"],
      manifest: { [DIGEST]: { imageSizeBytes: "7", layerId: "", mediaType: "x", tag: ["1"], timeCreatedMs: "0" } },
      name: "p/app",
      tags: ["1"],
    });
    const registry = await serve([{ when: { path: "/v2/p/app/tags/list" }, reply: { body } }]);
    const { upstream } = openUpstream(registry.url, { type: "gcr" });
    expect(await upstream.listTags("p/app", {}, o())).toEqual({ tags: ["1"], next: undefined });
  });
});

describe("gitlab", () => {
  test("U2 upstreams.md 6: registry.gitlab.com gives its credentials to gitlab.com, and a self-managed one does not", async () => {
    const registry = await serve([
      { when: { path: "/v2/g/p/manifests/1" }, reply: challenge("http://gitlab.com/jwt/auth", "repository:g/p:pull") },
    ]);
    const refused = (name: string) =>
      failure(
        openUpstream(
          registry.url,
          { name, type: "gitlab", credentials: [credential()] },
          { lookup: () => Promise.reject(new Error("not looked up here")) },
        ).upstream.headManifest("g/p", tag("1"), o()),
      );
    expect((await refused("registry.gitlab.example")).message).toContain("upstreams.registry.gitlab.example.realms");
    expect(await refused("registry.gitlab.com")).toMatchObject({ fault: "connect" });
  });
});
