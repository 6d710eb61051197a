import { describe, expect, test } from "vitest";
import type { ScriptReply } from "../../support/scripted-server.ts";
import { failure, LIMITS, o, openUpstream, serve } from "./bench.ts";

async function list(reply: ScriptReply): Promise<ReturnType<ReturnType<typeof openUpstream>["upstream"]["listTags"]>> {
  const registry = await serve([{ when: { path: "/v2/a/tags/list" }, reply }]);
  return openUpstream(registry.url).upstream.listTags("a", {}, o());
}

describe("M11 listTags", () => {
  test("asks for one page, with the upstream's own cursor", async () => {
    const registry = await serve([
      { when: { path: "/v2/a/tags/list" }, reply: { body: '{"name":"a","tags":["1","2"],"child":[],"manifest":{}}' } },
    ]);
    const { upstream } = openUpstream(registry.url);
    const page = { n: 5, last: "v 1&x", cursor: { next_page: "opaque+token/=" } };
    expect(await upstream.listTags("a", page, o())).toEqual({ tags: ["1", "2"], next: undefined });
    expect(Object.fromEntries(registry.ledger[0]?.query ?? [])).toEqual({
      n: "5",
      last: "v 1&x",
      next_page: "opaque+token/=",
    });
  });

  test.each([
    ["path", '</v2/a/tags/list?n=100&last=v1>; rel="next"', { n: "100", last: "v1" }],
    ["query only", '<?last=v1>; rel="next"', { last: "v1" }],
    [
      "absolute, with another cursor",
      '<https://other.example/v2/a/tags/list?next_page=g%2BA>; rel="next"',
      { next_page: "g+A" },
    ],
    ["a path that is wrong (Artifactory)", "</v2/wrong/tags/list?last=v1&n=2&ns=x>; rel=next", { last: "v1", n: "2" }],
    ["another relation", '</v2/a/tags/list?last=v1>; rel="prev"', undefined],
    ["no query", '</v2/a/tags/list>; rel="next"', undefined],
    ["nonsense", "next page please", undefined],
  ])("the next page's query: %s", async (_, link, next) => {
    expect((await list({ headers: { link }, body: '{"tags":[]}' })).next).toEqual(next);
  });

  test("null means none", async () => {
    expect((await list({ body: '{"name":"a","tags":null}' })).tags).toEqual([]);
  });

  test("100,000 tags are one page, if they fit into the limit", async () => {
    const tags = Array.from({ length: 100_000 }, (_, n) => `v1.${n}`);
    expect((await list({ body: JSON.stringify({ tags }) })).tags).toEqual(tags);
  });

  test.each([
    ["a page", { headers: { "content-type": "text/html" }, body: '{"tags":[]}' }],
    ["no JSON", { body: "<xml/>" }],
    ["no tags", { body: "{}" }],
    ["tags that are no strings", { body: '{"tags":["1",2]}' }],
    ["tags that are no list", { body: '{"tags":{}}' }],
    ["too much", { body: JSON.stringify({ tags: ["x".repeat(LIMITS.manifestSize)] }) }],
  ])("%s: a bad answer", async (_, reply) => {
    expect((await failure(list(reply))).fault).toBe("bad-answer");
  });

  test("404 is an absent repository", async () => {
    expect(await failure(list({ status: 404 }))).toMatchObject({ fault: "absent", absent: "repository" });
  });
});
