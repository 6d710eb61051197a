import { describe, expect, test } from "vitest";
import type { ScriptEntry, ScriptedServer } from "../../support/scripted-server.ts";
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

const BASIC = `Basic ${Buffer.from(`robot:${PASSWORD}`).toString("base64")}`;

/** A registry whose manifests want a token from `realm` (its own `/token` if left out), with any scope. */
function bearerRegistry(realm?: () => string): readonly ScriptEntry[] {
  return [
    tokenEntry(),
    {
      when: { path: /^\/v2\/.*\/manifests\//, headers: { authorization: /^Bearer token-/ } },
      reply: manifestReply,
    },
    {
      when: { path: /^\/v2\/.*\/manifests\// },
      reply: ({ path }) => {
        const repository = path.slice("/v2/".length, path.indexOf("/manifests/"));
        return challenge(realm?.() ?? "/token", `repository:${repository}:pull`) as never;
      },
    },
  ];
}

describe("Bearer", () => {
  test("a cold repository costs one 401, a warm one none, and another one of the same registry none either", async () => {
    const registry = await serve(bearerRegistry());
    const { upstream } = openUpstream(registry.url);

    await upstream.headManifest("a/b", tag("1"), o());
    expect(brief(registry.ledger)).toEqual([
      "HEAD /v2/a/b/manifests/1 -",
      "GET /token -",
      "HEAD /v2/a/b/manifests/1 Bearer token-1",
    ]);
    expect(registry.ledger[1]?.query.toString()).toBe("service=reg&scope=repository%3Aa%2Fb%3Apull");

    await upstream.headManifest("a/b", tag("2"), o());
    await upstream.headManifest("c", tag("1"), o());
    expect(brief(registry.ledger.slice(3))).toEqual([
      "HEAD /v2/a/b/manifests/2 Bearer token-1",
      "GET /token -",
      "HEAD /v2/c/manifests/1 Bearer token-2",
    ]);
    expect(registry.ledger[4]?.query.getAll("scope")).toEqual(["repository:c:pull"]);
  });

  test("many requests at once share one token", async () => {
    const registry = await serve(bearerRegistry());
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("warm", tag("1"), o());
    await Promise.all(Array.from({ length: 20 }, () => upstream.headManifest("a", tag("1"), o())));
    expect(registry.lines.filter((line) => line === "GET /token")).toHaveLength(2);
  });

  test("U5 a token is renewed before it expires, and asks no 401", async () => {
    const registry = await serve([tokenEntry((n) => ({ token: `token-${n}`, expires_in: 300 })), ...bearerRegistry()]);
    const { upstream, clock } = openUpstream(registry.url);
    await upstream.headManifest("a", tag("1"), o());
    clock.turn(269_000);
    await upstream.headManifest("a", tag("1"), o());
    clock.turn(1_000);
    await upstream.headManifest("a", tag("1"), o());
    expect(brief(registry.ledger.slice(2))).toEqual([
      "HEAD /v2/a/manifests/1 Bearer token-1",
      "HEAD /v2/a/manifests/1 Bearer token-1",
      "GET /token -",
      "HEAD /v2/a/manifests/1 Bearer token-2",
    ]);
  });

  test("U5 a revoked token is replaced once, in the middle of a pull", async () => {
    const registry = await serve(bearerRegistry());
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("a", tag("1"), o());
    registry.add({
      when: { path: "/v2/a/manifests/1", headers: { authorization: "Bearer token-1" } },
      reply: challenge("/token", "repository:a:pull", ',error="invalid_token"'),
    });
    await upstream.headManifest("a", tag("1"), o());
    expect(brief(registry.ledger.slice(3))).toEqual([
      "HEAD /v2/a/manifests/1 Bearer token-1",
      "GET /token -",
      "HEAD /v2/a/manifests/1 Bearer token-2",
    ]);
  });

  test("U5 a fresh token that lacks the scope means denied, and is not asked for again", async () => {
    const registry = await serve([
      tokenEntry(),
      {
        when: { path: "/v2/x/absent/manifests/1" },
        reply: challenge("/token", "repository:x/absent:pull", ',error="insufficient_scope"'),
      },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "dockerhub" });
    const error = await failure(upstream.getManifest("x/absent", tag("1"), o()));
    expect(error).toMatchObject({ fault: "denied", status: 401, trouble: false });
    expect(registry.ledger).toHaveLength(3);

    await failure(upstream.getManifest("x/absent", tag("1"), o()));
    expect(brief(registry.ledger.slice(3))).toEqual(["GET /token -", "GET /v2/x/absent/manifests/1 Bearer token-2"]);
  });

  test("on Docker Hub a fresh token that is called invalid is trouble, not a denial", async () => {
    const registry = await serve([
      tokenEntry(),
      {
        when: { path: "/v2/x/y/manifests/1" },
        reply: challenge("/token", "repository:x/y:pull", ',error="invalid_token"'),
      },
    ]);
    const { upstream } = openUpstream(registry.url, { type: "dockerhub" });
    expect(await failure(upstream.headManifest("x/y", tag("1"), o()))).toMatchObject({
      fault: "status",
      trouble: true,
    });
  });

  test("U5 a stale token answered with another realm is dropped and the registry asked bare (nvcr.io)", async () => {
    const registry: ScriptedServer = await serve([
      tokenEntry(),
      { when: { path: "/elsewhere" }, reply: { status: 401 } },
      {
        when: { path: "/v2/a/manifests/1", headers: { authorization: undefined } },
        reply: challenge("/token", "repository:a:pull,push"),
      },
      {
        when: { path: "/v2/a/manifests/1", headers: { authorization: "Bearer token-1" }, state: "revoked" },
        reply: challenge("/elsewhere", "repository:a:pull", ',error="invalid_token"'),
      },
      { when: { path: "/v2/a/manifests/1" }, reply: manifestReply },
    ]);
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("a", tag("1"), o());
    expect(registry.ledger[1]?.query.getAll("scope")).toEqual(["repository:a:pull"]);
    registry.state = "revoked";
    await upstream.headManifest("a", tag("1"), o());
    expect(brief(registry.ledger.slice(3))).toEqual([
      "HEAD /v2/a/manifests/1 Bearer token-1",
      "HEAD /v2/a/manifests/1 -",
      "GET /token -",
      "HEAD /v2/a/manifests/1 Bearer token-2",
    ]);
  });

  test("a scope that is no repository's serves every repository (ECR Public)", async () => {
    const registry = await serve([
      tokenEntry(),
      { when: { path: /manifests/, headers: { authorization: "Bearer token-1" } }, reply: manifestReply },
      { when: { path: /manifests/ }, reply: challenge("/token", "aws") },
    ]);
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("docker/library/nginx", tag("1"), o());
    await upstream.headManifest("other/repo", tag("1"), o());
    expect(registry.lines.slice(1)).toEqual([
      "GET /token",
      "HEAD /v2/docker/library/nginx/manifests/1",
      "HEAD /v2/other/repo/manifests/1",
    ]);
    expect(registry.ledger[1]?.query.getAll("scope")).toEqual(["aws"]);
  });

  test("tag lists may want another action than pull (ACR), learned once for all repositories", async () => {
    const listed = { body: '{"name":"a","tags":["1"]}' };
    const registry = await serve([
      {
        when: { path: "/token" },
        reply: ({ query }) => ({ body: JSON.stringify({ token: `for-${query.get("scope")}` }) }),
      },
      { when: { path: /manifests/, headers: { authorization: /:pull$/ } }, reply: manifestReply },
      { when: { path: /manifests/ }, reply: challenge("/token", "repository:a:pull") },
      { when: { path: /tags\/list/, headers: { authorization: /:metadata_read$/ } }, reply: listed },
      {
        when: { path: /tags\/list/ },
        reply: ({ path }) => challenge("/token", `repository:${path.split("/")[2]}:metadata_read`) as never,
      },
    ]);
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("a", tag("1"), o());
    await upstream.listTags("a", {}, o());
    const before = registry.ledger.length;
    await upstream.listTags("b", {}, o());
    await upstream.headManifest("a", tag("1"), o());
    expect(registry.lines.slice(before)).toEqual(["GET /token", "GET /v2/b/tags/list", "HEAD /v2/a/manifests/1"]);
  });

  test("a registry that maps names gets the scope that it challenged for, per repository", async () => {
    const registry = await serve([
      {
        when: { path: "/token" },
        reply: ({ query }) => ({ body: JSON.stringify({ token: `for-${query.get("scope")}` }) }),
      },
      {
        when: { path: "/v2/a/manifests/1", headers: { authorization: "Bearer for-repository:group/a:pull" } },
        reply: manifestReply,
      },
      { when: { path: "/v2/a/manifests/1" }, reply: challenge("/token", "repository:group/a:pull") },
    ]);
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("a", tag("1"), o());
    await upstream.headManifest("a", tag("1"), o());
    expect(registry.lines).toHaveLength(4);
  });

  test("U1 several challenges in one header: Bearer is taken before Basic", async () => {
    const registry = await serve([
      tokenEntry(),
      { when: { path: /manifests/, headers: { authorization: "Bearer token-1" } }, reply: manifestReply },
      {
        when: { path: /manifests/ },
        reply: {
          status: 401,
          headers: {
            "www-authenticate":
              'BASIC realm="x, y", bearer REALM="/token", service="a\\"b",scope="repository:a:pull,push"',
          },
        },
      },
    ]);
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("a", tag("1"), o());
    expect(registry.ledger[1]?.query.get("service")).toBe('a"b');
  });

  test("U1 a challenge without service and scope is answered with the scope that the request needs", async () => {
    const registry = await serve([
      tokenEntry(),
      { when: { path: /manifests/, headers: { authorization: "Bearer token-1" } }, reply: manifestReply },
      { when: { path: /manifests/ }, reply: { status: 401, headers: { "www-authenticate": 'Bearer realm="/token"' } } },
    ]);
    const { upstream } = openUpstream(registry.url);
    await upstream.headManifest("a/b", tag("1"), o());
    expect(registry.ledger[1]?.query.toString()).toBe("scope=repository%3Aa%2Fb%3Apull");
  });

  test("U1 a 401 without a challenge that can be answered is a denial", async () => {
    for (const header of [undefined, "Negotiate", 'Bearer service="no realm"', 'Basic realm="anonymous has none"']) {
      const reply = { status: 401, headers: header === undefined ? {} : { "www-authenticate": header } };
      const registry = await serve([{ when: { path: /manifests/ }, reply }]);
      const { upstream } = openUpstream(registry.url);
      expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("denied");
      expect(registry.ledger).toHaveLength(1);
    }
  });

  test("a realm in trouble is forgotten, so that a registry whose realm has moved is asked where", async () => {
    const registry = await serve([
      tokenEntry(),
      { when: { path: "/old" }, reply: { body: '{"token":"token-0"}' }, once: true },
      { when: { path: "/old" }, reply: { status: 404 } },
      { when: { path: /manifests/, headers: { authorization: /^Bearer/ } }, reply: manifestReply },
      { when: { path: /manifests/, state: "moved" }, reply: challenge("/token", "repository:a:pull") },
      { when: { path: /manifests/ }, reply: challenge("/old", "repository:a:pull") },
    ]);
    const { upstream, clock } = openUpstream(registry.url);
    await upstream.headManifest("a", tag("1"), o());
    registry.state = "moved";
    clock.turn(60_000);
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("status");
    await upstream.headManifest("a", tag("1"), o());
  });
});

describe("token answers", () => {
  const cases: readonly [string, ScriptEntry["reply"], string, boolean][] = [
    ["401 to an anonymous caller", { status: 401 }, "denied", false],
    ["403 (GHCR, Artifact Registry)", { status: 403, body: '{"errors":[{"code":"DENIED"}]}' }, "denied", false],
    ["429", { status: 429, body: "Retry later", headers: { "retry-after": "47" } }, "quota", false],
    ["400", { status: 400 }, "status", false],
    ["404", { status: 404 }, "status", false],
    ["an HTML page", { body: "<html>sign in</html>", headers: { "content-type": "text/html" } }, "bad-answer", false],
    ["JSON without a token", { body: "{}" }, "bad-answer", false],
    ["JSON that is no object", { body: "null" }, "bad-answer", false],
    ["a token that is no string", { body: '{"token":7}' }, "bad-answer", false],
    ["a token with a line break", { body: '{"token":"a\\r\\nx: y"}' }, "bad-answer", false],
    ["a body over 64 KiB", { body: JSON.stringify({ token: "x".repeat(64 * 1024) }) }, "bad-answer", false],
    ["401 to a credential", { status: 401 }, "credential", true],
    ["403 to a credential", { status: 403 }, "denied", true],
  ];

  test.each(cases)("U5 %s: %s", async (_, reply, fault, withCredential) => {
    const registry = await serve([
      { when: { path: "/token" }, reply },
      { when: { path: /manifests/ }, reply: challenge("/token", "repository:a:pull") },
    ]);
    const { upstream } = openUpstream(registry.url, { credentials: withCredential ? [credential()] : [] });
    const error = await failure(upstream.headManifest("a", tag("1"), o()));
    expect(error.fault).toBe(fault);
    expect(error.credential).toBe(withCredential ? "ci" : undefined);
    expect(error.retryAfterMs).toBe(fault === "quota" ? 47_000 : undefined);
    expect(registry.lines).toEqual(["HEAD /v2/a/manifests/1", "GET /token"]);
  });

  test("U5 access_token will do, and a token of 20 KiB too", async () => {
    const long = "x".repeat(20 * 1024);
    const registry = await serve([
      { when: { path: "/token" }, reply: { body: JSON.stringify({ access_token: long }) } },
      { when: { path: /manifests/, headers: { authorization: `Bearer ${long}` } }, reply: manifestReply },
      { when: { path: /manifests/ }, reply: challenge("/token", "repository:a:pull") },
    ]);
    await openUpstream(registry.url).upstream.headManifest("a", tag("1"), o());
  });

  test("a token service that fails in passing is asked again", async () => {
    const registry = await serve([
      { when: { path: "/token" }, reply: { status: 503 }, once: true },
      { when: { path: "/token" }, reply: { cut: "request" }, once: true },
      ...bearerRegistry(),
    ]);
    await openUpstream(registry.url).upstream.headManifest("a", tag("1"), o());
    expect(registry.lines.filter((line) => line === "GET /token")).toHaveLength(3);
  });
});

describe("credentials", () => {
  test("U2 go to the realm as Basic and to nobody else", async () => {
    const registry = await serve(bearerRegistry());
    const { upstream } = openUpstream(registry.url, { credentials: [credential()] });
    await upstream.headManifest("a", tag("1"), o());
    await upstream.headManifest("a", tag("1"), o());
    expect(brief(registry.ledger)).toEqual([
      "HEAD /v2/a/manifests/1 -",
      `GET /token ${BASIC}`,
      "HEAD /v2/a/manifests/1 Bearer token-1",
      "HEAD /v2/a/manifests/1 Bearer token-1",
    ]);
    expect(registry.ledger[1]?.query.get("account")).toBe("robot");
  });

  test("Basic challenges are answered at the registry, from the second request on at once", async () => {
    const registry = await serve([
      { when: { path: /manifests/, headers: { authorization: BASIC } }, reply: manifestReply },
      { when: { path: /manifests/ }, reply: { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } } },
    ]);
    const { upstream } = openUpstream(registry.url, { credentials: [credential()] });
    await upstream.headManifest("a", tag("1"), o());
    await upstream.headManifest("b", tag("1"), o());
    expect(brief(registry.ledger)).toEqual([
      "HEAD /v2/a/manifests/1 -",
      `HEAD /v2/a/manifests/1 ${BASIC}`,
      `HEAD /v2/b/manifests/1 ${BASIC}`,
    ]);
  });

  test("U4 a Basic credential that is refused is the credential's failure, with its label and not its value", async () => {
    const registry = await serve([
      { when: { path: /manifests/ }, reply: { status: 401, headers: { "www-authenticate": 'Basic realm="x"' } } },
    ]);
    const { upstream } = openUpstream(registry.url, { credentials: [credential({ label: "team" })] });
    const error = await failure(upstream.headManifest("a", tag("1"), o()));
    expect(error).toMatchObject({ fault: "credential", credential: "team", status: 401 });
    expect(error.message).toContain('"team"');
    expect(registry.ledger).toHaveLength(2);
  });

  test("a good credential without a right to this repository is a denial, not a bad credential", async () => {
    const registry = await serve([
      tokenEntry(),
      { when: { path: /manifests/ }, reply: challenge("/token", "repository:a:pull", ',error="insufficient_scope"') },
    ]);
    const { upstream } = openUpstream(registry.url, { credentials: [credential()] });
    expect(await failure(upstream.headManifest("a", tag("1"), o()))).toMatchObject({
      fault: "denied",
      credential: "ci",
    });
  });

  test("apply to the repositories that they name; the others are asked anonymously", async () => {
    const registry = await serve(bearerRegistry());
    const { upstream } = openUpstream(registry.url, { credentials: [credential({ repositories: ["mine/*"] })] });
    expect(upstream.hasCredential("mine/a")).toBe(true);
    expect(upstream.hasCredential("other/a")).toBe(false);
    await upstream.headManifest("mine/a", tag("1"), o());
    await upstream.headManifest("other/a", tag("1"), o());
    const tokens = registry.ledger.filter(({ path }) => path === "/token");
    expect(tokens.map(({ headers }) => headers.authorization)).toEqual([BASIC, undefined]);
  });

  test("U2 a foreign realm gets no credential, and the error names the key", async () => {
    const foreign = await serve([], { host: "127.0.0.2" });
    const registry = await serve(bearerRegistry(() => `${foreign.url.origin}/token`));
    const { upstream } = openUpstream(
      registry.url,
      { credentials: [credential()], redirects: { allow: ["127.0.0.2"] } },
      { classifyAddress: () => "public" },
    );
    const error = await failure(upstream.headManifest("a", tag("1"), o()));
    expect(error).toMatchObject({ fault: "refused", credential: "ci" });
    expect(error.message).toContain("upstreams.reg.example.realms");
    expect(foreign.ledger).toEqual([]);
  });

  test("U2 a foreign realm is asked anonymously, if it is where a redirect might lead", async () => {
    const foreign = await serve([tokenEntry()], { host: "127.0.0.2" });
    const entries = bearerRegistry(() => `${foreign.url.origin}/token`);
    const strict = openUpstream((await serve(entries)).url);
    const error = await failure(strict.upstream.headManifest("a", tag("1"), o()));
    expect(error.fault).toBe("refused");
    expect(foreign.ledger).toEqual([]);

    const open = openUpstream((await serve(entries)).url, {}, { classifyAddress: () => "public" });
    await open.upstream.headManifest("a", tag("1"), o());
    expect(brief(foreign.ledger)).toEqual(["GET /token -"]);
  });

  test("a realm listed under realms gets the credential, wherever it is", async () => {
    const foreign = await serve([tokenEntry()], { host: "127.0.0.2" });
    const registry = await serve(bearerRegistry(() => `${foreign.url.origin}/token`));
    const { upstream } = openUpstream(registry.url, { credentials: [credential()], realms: ["127.0.0.2"] });
    await upstream.headManifest("a", tag("1"), o());
    expect(brief(foreign.ledger)).toEqual([`GET /token ${BASIC}`]);
  });

  test("U2 a token service that redirects a credential to another origin is not followed", async () => {
    const thief = await serve([], { host: "127.0.0.2" });
    const registry = await serve([
      { when: { path: "/token" }, reply: { status: 307, headers: { location: `${thief.url.origin}/token` } } },
      ...bearerRegistry(),
    ]);
    const { upstream } = openUpstream(registry.url, {
      credentials: [credential()],
      redirects: { allow: ["127.0.0.2"] },
    });
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("refused");
    expect(thief.ledger).toEqual([]);
  });
});

describe("isPublic", () => {
  test("asks with an anonymous token of its own", async () => {
    const registry = await serve(bearerRegistry());
    const { upstream } = openUpstream(registry.url, { credentials: [credential()] });
    await upstream.headManifest("a", tag("1"), o());
    expect(await upstream.isPublic("a", tag("1"), o())).toBe(true);
    expect(brief(registry.ledger.slice(3))).toEqual(["GET /token -", "HEAD /v2/a/manifests/1 Bearer token-2"]);
  });

  test.each([401, 403])("%s is a no", async (status) => {
    const registry = await serve([{ when: { path: /manifests/ }, reply: { status } }]);
    const { upstream } = openUpstream(registry.url, { credentials: [credential()] });
    expect(await upstream.isPublic("a", tag("1"), o())).toBe(false);
  });

  test.each([429, 500, 400])("%s is no answer", async (status) => {
    const registry = await serve([{ when: { path: /manifests/ }, reply: { status } }]);
    const { upstream } = openUpstream(registry.url, { credentials: [credential()] });
    expect((await failure(upstream.isPublic("a", tag("1"), o()))).trouble).toBe(true);
  });
});

test("A4 no secret, token or signature stands in an error or in what the observer is told", async () => {
  const registry = await serve([
    tokenEntry(() => ({ token: "t0ken-value" })),
    {
      when: { path: "/v2/a/manifests/1", headers: { authorization: "Bearer t0ken-value" } },
      reply: { status: 403, body: "no t0ken-value" },
    },
    { when: { path: "/v2/a/manifests/1" }, reply: challenge("/token", "repository:a:pull") },
    {
      when: { path: "/v2/a/manifests/2" },
      reply: { status: 307, headers: { location: `/cdn/${"s1gned".repeat(40)}?X-Amz-Signature=s1gned` } },
    },
    { when: { path: /^\/cdn/ }, reply: { status: 403, body: "<Signature>s1gned</Signature>" } },
  ]);
  const { upstream, exchanges } = openUpstream(registry.url, { credentials: [credential()] });
  const errors = [
    await failure(upstream.headManifest("a", tag("1"), o())),
    await failure(upstream.getManifest("a", tag("1"), o())),
    await failure(upstream.getManifest("a", tag("2"), o())),
  ];
  const told = JSON.stringify([exchanges, errors.map((error) => [error.message, { ...error }, String(error.cause)])]);
  expect(exchanges.length).toBeGreaterThan(5);
  for (const secret of [PASSWORD, BASIC.slice("Basic ".length), "t0ken-value", "s1gned", "scope="]) {
    expect(told).not.toContain(secret);
  }
});
