import { afterEach, beforeEach, expect, test } from "vitest";
import { artifact, smallImage } from "../../../support/images.ts";
import { recorder } from "../../../support/recorder/recorder.ts";
import { ACR_TOKEN_USER, type AcrDouble, startAcrDouble } from "../../../support/registries/acr.ts";
import { ask, askRealm, challengeOf, codeOf, manyTags, pull, tagsOf } from "./client.ts";

// upstreams.md section 10, row "ACR"; the titles quote it.
const image = smallImage("acr");
const blob = image.blobs[1] ?? image.root;
const CI = { username: "ci", password: "token-password" };
const accounts = [CI];

let stack: AsyncDisposableStack;
let acr: AcrDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  acr = await startAcrDouble(stack, { accounts });
  acr.add("img", image, ["1"]);
  acr.add("secret", image, ["1"], "private");
});

afterEach(() => stack.disposeAsync());

async function form(path: string, fields: Readonly<Record<string, string>>) {
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  return await ask(acr, path, { method: "POST", headers, body: new URLSearchParams(fields).toString() });
}

test('"/v2/ 401 Bearer realm=https://<reg>/oauth2/token,service=<reg> (no scope on ping); content routes add scope"', async () => {
  const service = "weirtest.azurecr.io";
  const realm = `${acr.url}/oauth2/token`;
  expect(challengeOf(await ask(acr, "/v2/"))).toEqual({ realm, service });
  expect(challengeOf(await ask(acr, "/v2/img/manifests/1"))).toEqual({ realm, service, scope: "repository:img:pull" });
});

test('"tags/list needs action metadata_read, not pull": challenge scope repository:<n>:metadata_read', async () => {
  const challenged = await ask(acr, "/v2/img/tags/list");
  expect(challengeOf(challenged).scope).toBe("repository:img:metadata_read");
  expect(tagsOf(await pull(acr, "/v2/img/tags/list"))).toEqual(["1"]);
  const body = JSON.parse((await askRealm(acr, await ask(acr, "/v2/img/manifests/1"))).text);
  expect((await ask(acr, "/v2/img/tags/list", { token: body.access_token })).status).toBe(401);
});

test('Flow (a) "Basic GET on /oauth2/token"; "no expires_in, JWT ~75 min"; missing or private: 401', async () => {
  const reply = await askRealm(acr, await ask(acr, "/v2/secret/manifests/1"), "ci:token-password");
  const body = JSON.parse(reply.text);
  expect(Object.keys(body)).toEqual(["access_token"]);
  const { iat, exp } = JSON.parse(Buffer.from(body.access_token.split(".")[1], "base64url").toString());
  expect(exp - iat).toBe(75 * 60);
  expect((await ask(acr, "/v2/secret/manifests/1", { token: body.access_token })).status).toBe(200);
  expect((await askRealm(acr, await ask(acr, "/v2/secret/manifests/1"))).status).toBe(401);
  expect((await pull(acr, "/v2/absent/manifests/1", { login: "ci:token-password" })).status).toBe(401);
});

test('Flow (b) "POST /oauth2/exchange → {refresh_token}; POST /oauth2/token grant_type=refresh_token → {access_token}"', async () => {
  const service = "weirtest.azurecr.io";
  const exchange = { grant_type: "access_token", service, tenant: "T", access_token: acr.aadTokenFor(CI) };
  const { refresh_token } = JSON.parse((await form("/oauth2/exchange", exchange)).text);
  const scope = "repository:secret:pull";
  const asked = { grant_type: "refresh_token", service, scope, refresh_token };
  const { access_token } = JSON.parse((await form("/oauth2/token", asked)).text);
  expect((await ask(acr, "/v2/secret/manifests/1", { token: access_token })).status).toBe(200);
  expect((await form("/oauth2/exchange", { ...exchange, access_token: "bad" })).status).toBe(401);
  expect((await form("/oauth2/token", { ...asked, refresh_token: "bad" })).status).toBe(401);
  acr.revokeRefreshTokens();
  expect((await form("/oauth2/token", asked)).status).toBe(401);
});

test('"docker-style login: user 00000000-0000-0000-0000-000000000000 + refresh token as password"', async () => {
  const login = `${ACR_TOKEN_USER}:${acr.refreshTokenFor(CI)}`;
  expect((await pull(acr, "/v2/secret/manifests/1", { login })).status).toBe(200);
});

test('"POST with grant_type=password → 400 (clients fall back to GET)"', async () => {
  const reply = await form("/oauth2/token", { grant_type: "password", service: "r", username: "ci", password: "p" });
  expect(reply.status).toBe(400);
});

test('"Anonymous pull optional, includes tags/list"', async () => {
  expect((await pull(acr, "/v2/img/manifests/1")).status).toBe(200);
  const shut = await startAcrDouble(stack, { accounts, anonymousPull: false });
  shut.add("img", image, ["1"]);
  expect((await askRealm(shut, await ask(shut, "/v2/img/manifests/1"))).status).toBe(401);
});

test('"Blob 307 to *.blob.core.windows.net; with Authorization → Authentication information is not given in the correct format"', async () => {
  const reply = await pull(acr, `/v2/img/blobs/${blob.digest}`);
  const location = reply.headers.location ?? "";
  expect(reply.status).toBe(307);
  expect(new URL(location).searchParams.get("se")).toMatch(/Z$/);
  // What follows brings credentials to the blob store on purpose.
  recorder.ignore(acr);
  const refused = await ask(acr, location, { token: "leaked" });
  expect([refused.status, refused.text]).toEqual([403, expect.stringContaining("not given in the correct format")]);
  expect((await ask(acr, location)).body).toEqual(Buffer.from(blob.bytes));
});

test('"Paging n/last + relative Link", "429 TOOMANYREQUESTS, Retry-After", "Multi-valued Access-Control-Expose-Headers"', async () => {
  acr.add("many", image, manyTags(3));
  const first = await pull(acr, "/v2/many/tags/list?n=2");
  expect(first.headers.link).toBe('</v2/many/tags/list?last=t0001&n=2>; rel="next"');
  const { headers } = await pull(acr, "/v2/img/manifests/1");
  expect(headers["access-control-expose-headers"]).toBe(
    "Docker-Content-Digest, WWW-Authenticate, Link, X-Ms-Correlation-Request-Id",
  );
  acr.throttled = true;
  const reply = await ask(acr, "/v2/img/manifests/1");
  expect([reply.status, codeOf(reply), reply.headers["retry-after"]]).toEqual([429, "TOOMANYREQUESTS", "5"]);
});

test("referrers (OCI 1.1): an empty list for what is not known", async () => {
  const report = artifact("report", image.root);
  acr.add("img", report, []);
  const known = await pull(acr, `/v2/img/referrers/${image.root.digest}`);
  expect(JSON.parse(known.text).manifests).toMatchObject([{ digest: report.root.digest }]);
  expect(JSON.parse((await pull(acr, `/v2/img/referrers/${blob.digest}`)).text).manifests).toEqual([]);
});
