import { afterEach, beforeEach, expect, test } from "vitest";
import { multiArchImage, smallImage } from "../../../support/images.ts";
import {
  type GitlabDouble,
  startGitlabDependencyProxyDouble,
  startGitlabDouble,
} from "../../../support/registries/gitlab.ts";
import { ask, askRealm, challengeOf, codeOf, manyTags, pull, tagsOf } from "./client.ts";

// upstreams.md section 6 "GitLab container registry"; the titles quote its rows.
const image = smallImage("gitlab");
const blob = image.blobs[1] ?? image.root;
const LOGIN = "gitlab+deploy-token-1:secret";
const accounts = [{ username: "gitlab+deploy-token-1", password: "secret" }];

let stack: AsyncDisposableStack;
let gitlab: GitlabDouble;
let nowMs: number;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  nowMs = Date.parse("2026-09-01T10:00:00Z");
  gitlab = await startGitlabDouble(stack, { accounts, now: () => nowMs });
  gitlab.add("g/p", image, ["1"]);
  gitlab.add("g/secret", image, ["1"], "private");
});

afterEach(() => stack.disposeAsync());

test('Hosts: "The realm is on the web domain"; service container_registry; error="invalid_token" for a stale token', async () => {
  const first = await ask(gitlab, "/v2/g/p/manifests/1");
  expect(challengeOf(first)).toEqual({
    realm: `${gitlab.urlOf("token")}/jwt/auth`,
    service: "container_registry",
    scope: "repository:g/p:pull",
  });
  expect(gitlab.addressOf("token")).not.toBe(gitlab.addressOf("registry"));
  expect(challengeOf(await ask(gitlab, "/v2/g/p/manifests/1", { token: "stale" })).error).toBe("invalid_token");
});

test('Token: "Body {token}; 15 min on gitlab.com ⇒ read exp"', async () => {
  const body = JSON.parse((await askRealm(gitlab, await ask(gitlab, "/v2/g/p/manifests/1"))).text);
  expect(Object.keys(body)).toEqual(["token"]);
  const { iat, exp } = JSON.parse(Buffer.from(body.token.split(".")[1], "base64url").toString());
  expect(exp - iat).toBe(900);
});

test('Token: "Fewer/none granted → either 200 with empty access or 403 DENIED access forbidden"', async () => {
  const refused = await askRealm(gitlab, await ask(gitlab, "/v2/g/secret/manifests/1"));
  expect([refused.status, refused.text]).toEqual([403, '{"errors":[{"code":"DENIED","message":"access forbidden"}]}']);
  const lenient = await startGitlabDouble(stack, { denial: "empty" });
  expect((await askRealm(lenient, await ask(lenient, "/v2/g/none/manifests/1"))).status).toBe(200);
  expect((await pull(lenient, "/v2/g/none/manifests/1")).status).toBe(401);
  expect((await pull(gitlab, "/v2/g/secret/manifests/1", { login: LOGIN })).status).toBe(200);
});

test('Rate limit: "Only the Rails side sends RateLimit-*"; "on 429 Retry-After and body plain text Retry later"', async () => {
  const challenged = await ask(gitlab, "/v2/g/p/manifests/1");
  expect(challenged.headers["ratelimit-limit"]).toBeUndefined();
  expect((await askRealm(gitlab, challenged)).headers).toMatchObject({
    "ratelimit-limit": "500",
    "ratelimit-name": expect.stringMatching(/^throttle_/),
    "ratelimit-observed": "1",
    "ratelimit-remaining": "499",
    "ratelimit-reset": String(nowMs / 1000 + 60),
  });
  gitlab.throttled = true;
  const reply = await askRealm(gitlab, challenged);
  expect([reply.status, reply.text.trim(), reply.headers["retry-after"]]).toEqual([429, "Retry later", "47"]);
  expect((await ask(gitlab, "/v2/g/p/manifests/1")).status).toBe(401);
});

test('Ban: "30 failures in 3 min → 1 h" of 403, for everybody', async () => {
  const challenged = await ask(gitlab, "/v2/g/p/manifests/1");
  const wrong = (): Promise<{ status: number }> => askRealm(gitlab, challenged, "gitlab+deploy-token-1:no");
  for (let i = 0; i < 29; i += 1) expect((await wrong()).status).toBe(401);
  expect(gitlab.banned).toBe(false);
  await wrong();
  expect(gitlab.banned).toBe(true);
  expect((await askRealm(gitlab, challenged)).status).toBe(403);
  nowMs += 3600_000;
  expect((await askRealm(gitlab, challenged)).status).toBe(200);
});

test('Blob: "307 to cdn.registry.gitlab-static.net; redirect has Cache-Control: private, max-age=0"; may serve bytes', async () => {
  const reply = await pull(gitlab, `/v2/g/p/blobs/${blob.digest}`);
  expect([reply.status, reply.headers["cache-control"]]).toEqual([307, "private, max-age=0"]);
  expect((await ask(gitlab, reply.headers.location ?? "")).body).toEqual(Buffer.from(blob.bytes));
  const own = await startGitlabDouble(stack, { servesBlobs: true });
  own.add("g/p", image, ["1"]);
  expect((await pull(own, `/v2/g/p/blobs/${blob.digest}`)).body).toEqual(Buffer.from(blob.bytes));
});

test('tags/list: "n/last, relative Link"; missing tag: 404 MANIFEST_UNKNOWN; no referrers', async () => {
  gitlab.add("g/many", image, manyTags(5));
  const first = await pull(gitlab, "/v2/g/many/tags/list?n=2");
  expect(tagsOf(first)).toEqual(["t0000", "t0001"]);
  expect(first.headers.link).toBe('</v2/g/many/tags/list?last=t0001&n=2>; rel="next"');
  expect(tagsOf(await pull(gitlab, "/v2/g/many/tags/list?last=t0001&n=10"))).toEqual(["t0002", "t0003", "t0004"]);
  expect(codeOf(await pull(gitlab, "/v2/g/p/manifests/none"))).toBe("MANIFEST_UNKNOWN");
  expect((await pull(gitlab, `/v2/g/p/referrers/${image.root.digest}`)).status).toBe(404);
});

test('Dependency proxy: "/v2/ on the web host, realm same /jwt/auth, service dependency_proxy", with RateLimit-*', async () => {
  const proxy = await startGitlabDependencyProxyDouble(stack, { accounts });
  const path = "/v2/g/dependency_proxy/containers/alpine/manifests/3";
  proxy.add("g/dependency_proxy/containers/alpine", multiArchImage("alpine"), ["3"], "private");
  const challenged = await ask(proxy, path);
  expect(challengeOf(challenged)).toMatchObject({ realm: `${proxy.url}/jwt/auth`, service: "dependency_proxy" });
  expect(challenged.headers["ratelimit-limit"]).toBe("500");
  expect((await pull(proxy, path, { login: LOGIN })).status).toBe(200);
});
