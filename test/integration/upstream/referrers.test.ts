import { describe, expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { OCI_INDEX } from "../../../src/oci/media-types.ts";
import type { ScriptEntry, ScriptReply } from "../../support/scripted-server.ts";
import { brief, challenge, failure, LIMITS, o, openUpstream, serve, tokenEntry } from "./bench.ts";

const SUBJECT = digestOf(Buffer.from("the signed image"));
const PATH = `/v2/a/b/referrers/${SUBJECT}`;

function entry(name: string, more: Record<string, unknown> = {}) {
  return {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: digestOf(Buffer.from(name)),
    size: 5,
    ...more,
  };
}

const SIGNATURE = entry("sig", { artifactType: "application/vnd.example.sig", annotations: { by: "me" } });
const SBOM = entry("sbom", { artifactType: "application/spdx+json" });

function index(manifests: unknown, headers: Record<string, string> = {}): ScriptReply {
  return {
    headers: { "content-type": OCI_INDEX, ...headers },
    body: JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }),
  };
}

function oci(status: number, code: string): ScriptReply {
  return {
    status,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ errors: [{ code, message: "said so" }] }),
  };
}

/** What one registry that answers like this is taken to say. */
async function list(reply: ScriptReply, ...more: readonly ScriptEntry[]) {
  const registry = await serve([...more, { when: { path: PATH }, reply }]);
  const { upstream } = openUpstream(registry.url, { redirects: { allow: ["127.0.0.1"] } });
  return await upstream.listReferrers("a/b", SUBJECT, o());
}

describe("M12 listReferrers", () => {
  test("one GET that accepts an index and filters nothing, with a token to pull", async () => {
    const registry = await serve([
      tokenEntry(),
      { when: { path: PATH, headers: { authorization: /./ } }, reply: index([SIGNATURE, SBOM]) },
    ]);
    registry.add({
      when: { path: PATH, headers: { authorization: undefined } },
      reply: challenge(`${registry.url}token`, "repository:a/b:pull"),
    });
    const { upstream, exchanges } = openUpstream(registry.url);
    expect(await upstream.listReferrers("a/b", SUBJECT, o())).toEqual([SIGNATURE, SBOM]);
    expect(brief(registry.ledger)).toEqual([`GET ${PATH} -`, "GET /token -", `GET ${PATH} Bearer token-1`]);
    expect(registry.ledger[2]).toMatchObject({ headers: { accept: OCI_INDEX } });
    expect(registry.ledger[2]?.query.size).toBe(0);
    expect(exchanges.map(({ kind }) => kind)).toEqual(["referrers", "token", "referrers"]);
  });

  test("an empty list, however it is written", async () => {
    expect(await list(index([]))).toEqual([]);
    expect(await list(index(null))).toEqual([]);
  });

  test("all pages are one list, wherever their Link leads", async () => {
    const registry = await serve([
      {
        when: { path: PATH, query: { last: "two" } },
        reply: index([SBOM, entry("third")]),
      },
      {
        when: { path: PATH },
        reply: index([SIGNATURE, SBOM], { link: `<https://elsewhere.example${PATH}?last=two&ns=x>; rel="next"` }),
      },
    ]);
    expect(await openUpstream(registry.url).upstream.listReferrers("a/b", SUBJECT, o())).toEqual([
      SIGNATURE,
      SBOM,
      entry("third"),
    ]);
    expect(registry.ledger.map(({ query }) => query.toString())).toEqual(["", "last=two"]);
  });

  test.each<[string, ScriptReply]>([
    ["404 of a router", { status: 404, headers: { "content-type": "text/plain" }, body: "404 page not found" }],
    ["404 UNSUPPORTED", oci(404, "UNSUPPORTED")],
    ["404 in HTML", { status: 404, headers: { "content-type": "text/html" }, body: "<html>" }],
    ["405", oci(405, "UNSUPPORTED")],
    ["406", { status: 406 }],
    ["200 with a page", { headers: { "content-type": "text/html" }, body: '{"manifests":[]}' }],
    ["200 with JSON of no type", { headers: { "content-type": "application/json" }, body: '{"manifests":[]}' }],
    ["200 with nothing", {}],
  ])("%s: no such API", async (_, reply) => {
    expect(await list(reply)).toBeUndefined();
  });

  test.each([200, 404, 429, 503])("GHCR's 303 to a page elsewhere that answers %i: no such API", async (status) => {
    const site = await serve([
      {
        when: { path: "/orgs/a/packages" },
        reply: { status, headers: { "content-type": "text/html" }, body: "<html>" },
      },
    ]);
    const seeOther = { status: 303, headers: { location: new URL("/orgs/a/packages", site.url).href } };
    expect(await list(seeOther)).toBeUndefined();
    expect(site.ledger).toHaveLength(1);
  });

  test("a redirect to another registry that has the API is followed", async () => {
    const other = await serve([{ when: { path: "/v2/x/referrers" }, reply: index([SBOM]) }]);
    expect(await list({ status: 307, headers: { location: new URL("/v2/x/referrers", other.url).href } })).toEqual([
      SBOM,
    ]);
  });

  test.each<[string, ScriptReply, string]>([
    ["Quay's 400 MANIFEST_INVALID", oci(400, "MANIFEST_INVALID"), "manifest"],
    ["400 in HTML", { status: 400, headers: { "content-type": "text/html" }, body: "<html>" }, "manifest"],
    ["400 of a registry that has no sha512", oci(400, "DIGEST_INVALID"), "manifest"],
    ["404 MANIFEST_UNKNOWN", oci(404, "MANIFEST_UNKNOWN"), "manifest"],
    ["404 NAME_UNKNOWN", oci(404, "NAME_UNKNOWN"), "repository"],
  ])("%s: a word about the %3$s, not about the API, and no empty list", async (_, reply, absent) => {
    expect(await failure(list(reply))).toMatchObject({ fault: "absent", absent, status: reply.status });
  });

  test.each<[string, ScriptReply, object]>([
    ["403", oci(403, "DENIED"), { fault: "denied" }],
    ["429", { status: 429, headers: { "retry-after": "7" } }, { fault: "quota", retryAfterMs: 7000 }],
    ["429 in HTML", { status: 429, headers: { "content-type": "text/html" }, body: "<html>" }, { fault: "quota" }],
    ["503", { status: 503 }, { fault: "status", status: 503 }],
    ["500 in HTML", { status: 500, headers: { "content-type": "text/html" }, body: "<html>" }, { fault: "status" }],
    ["an index that is none", { headers: { "content-type": OCI_INDEX }, body: "[]" }, { fault: "bad-answer" }],
    ["an index cut short", { headers: { "content-type": OCI_INDEX }, body: '{"manifests":[' }, { fault: "bad-answer" }],
    ["a redirect to nowhere", { status: 302 }, { fault: "bad-answer" }],
  ])("%s: trouble", async (_, reply, fault) => {
    expect(await failure(list(reply))).toMatchObject(fault);
  });

  test("a passing 503 is tried again", async () => {
    expect(await list(index([SBOM]), { when: { path: PATH }, reply: { status: 503 }, once: true })).toEqual([SBOM]);
  });

  test.each<[string, ScriptReply, string]>([
    ["404", { status: 404 }, "bad-answer"],
    ["400", oci(400, "MANIFEST_INVALID"), "bad-answer"],
    ["a page", { headers: { "content-type": "text/html" }, body: "<html>" }, "bad-answer"],
    ["502", { status: 502 }, "status"],
    ["429", { status: 429 }, "quota"],
  ])("half a list is none: the second page is %s", async (_, reply, fault) => {
    const second = { when: { path: PATH, query: { last: "1" } }, reply };
    expect((await failure(list(index([SBOM], { link: "<?last=1>; rel=next" }), second))).fault).toBe(fault);
  });

  test("U9 all pages together are bounded in bytes, and in number", async () => {
    const padding = "x".repeat(LIMITS.manifestSize / 3);
    const link = (n: number) => ({ link: `<?page=${n}>; rel="next"` });
    let pages = 0;
    const serving = async (fill: string) => {
      const reply = (): ScriptReply => {
        pages += 1;
        return index([entry(String(pages), { annotations: { fill } })], link(pages));
      };
      const registry = await serve([{ when: { path: PATH }, reply }]);
      return await failure(openUpstream(registry.url).upstream.listReferrers("a/b", SUBJECT, o()));
    };
    expect(await serving(padding)).toMatchObject({
      fault: "bad-answer",
      message: expect.stringContaining("manifestSize"),
    });
    expect(pages).toBe(3);
    pages = 0;
    expect(await serving("")).toMatchObject({ fault: "bad-answer", message: expect.stringContaining("pages") });
    expect(pages).toBe(100);
  });
});
