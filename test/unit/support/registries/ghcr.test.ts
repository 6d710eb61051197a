import { afterEach, beforeEach, expect, test } from "vitest";
import { multiArchImage, smallImage } from "../../../support/images.ts";
import { type GhcrDouble, startGhcrDouble } from "../../../support/registries/ghcr.ts";
import { ask, askRealm, challengeOf, codeOf, manyTags, pull, tagsOf, tokenFor } from "./client.ts";

// upstreams.md section 9 "GHCR"; the titles quote its rows.
const image = smallImage("ghcr");
const multi = multiArchImage("ghcr multi");
const blob = image.blobs[1] ?? image.root;

let stack: AsyncDisposableStack;
let ghcr: GhcrDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const accounts = [
    { username: "octocat", password: "ghp_1" },
    { username: "stranger", password: "ghp_2", repositories: [] },
  ];
  ghcr = await startGhcrDouble(stack, { accounts });
  ghcr.add("o/i", image, ["1"]);
  ghcr.add("o/i", multi, ["multi"]);
  ghcr.add("o/private", image, ["1"], "private");
});

afterEach(() => stack.disposeAsync());

test('Challenge: "/v2/ shows the placeholder scope repository:user/image:pull literally"; without token any manifest GET 401', async () => {
  expect(challengeOf(await ask(ghcr, "/v2/"))).toEqual({
    realm: `${ghcr.url}/token`,
    service: "ghcr.io",
    scope: "repository:user/image:pull",
  });
  const reply = await ask(ghcr, "/v2/o/i/manifests/1");
  expect([reply.status, codeOf(reply), challengeOf(reply).scope]).toEqual([401, "UNAUTHORIZED", "repository:o/i:pull"]);
});

test('Token: "{token} without expires_in"', async () => {
  const body = JSON.parse((await askRealm(ghcr, await ask(ghcr, "/v2/o/i/manifests/1"))).text);
  expect(Object.keys(body)).toEqual(["token"]);
});

test.each([403, 401] as const)('Token: "Private/nonexistent anonymous: %i at the token endpoint"', async (denial) => {
  const strict = await startGhcrDouble(stack, { denial });
  strict.add("o/private", image, ["1"], "private");
  for (const path of ["/v2/o/private/manifests/1", "/v2/o/absent/manifests/1"]) {
    const reply = await askRealm(strict, await ask(strict, path));
    expect([reply.status, codeOf(reply)]).toEqual([denial, "DENIED"]);
  }
});

test('Token: "later denial 403 DENIED permission_denied: read_package"', async () => {
  const reply = await pull(ghcr, "/v2/o/private/manifests/1", { login: "stranger:ghp_2" });
  expect([reply.status, codeOf(reply)]).toEqual([403, "DENIED"]);
  expect(reply.text).toContain("permission_denied: read_package");
  expect((await pull(ghcr, "/v2/o/private/manifests/1", { login: "octocat:ghp_1" })).status).toBe(200);
});

test('Content negotiation: "OCI index with an Accept lacking it → 404 MANIFEST_UNKNOWN OCI index found, but…"; */* too, by digest too', async () => {
  for (const reference of ["multi", multi.root.digest]) {
    for (const accept of ["application/vnd.docker.distribution.manifest.v2+json", "*/*"]) {
      const reply = await pull(ghcr, `/v2/o/i/manifests/${reference}`, { headers: { accept } });
      expect([reply.status, codeOf(reply)]).toEqual([404, "MANIFEST_UNKNOWN"]);
      expect(reply.text).toContain("OCI index found, but Accept header does not support OCI indexes");
    }
    expect((await pull(ghcr, `/v2/o/i/manifests/${reference}`)).status).toBe(200);
  }
});

test('Rate limit: "429 TOOMANYREQUESTS, message retry-after: 880.092µs, allowed: 44000/minute", no header', async () => {
  ghcr.throttled = true;
  const reply = await ask(ghcr, "/v2/o/i/manifests/1");
  expect([reply.status, reply.headers["retry-after"], JSON.parse(reply.text)]).toEqual([
    429,
    undefined,
    { errors: [{ code: "TOOMANYREQUESTS", message: "retry-after: 880.092µs, allowed: 44000/minute" }] },
  ]);
});

test('tags/list: "default 100/page, n up to 1000 works, order is creation (oldest first), not lexical; relative Link"', async () => {
  ghcr.add("o/many", image, ["zz", ...manyTags(150)]);
  const first = await pull(ghcr, "/v2/o/many/tags/list");
  expect([tagsOf(first).length, tagsOf(first)[0]]).toEqual([100, "zz"]);
  expect(first.headers.link).toBe('</v2/o/many/tags/list?last=t0098&n=100>; rel="next"');
  expect(tagsOf(await pull(ghcr, "/v2/o/many/tags/list?last=t0098&n=100"))).toHaveLength(51);
  expect(tagsOf(await pull(ghcr, "/v2/o/many/tags/list?n=1000"))).toHaveLength(151);
});

test('Referrers: "2026-04: 303 to a github.com HTML page"; 404 in the past; _catalog 404', async () => {
  const token = await tokenFor(ghcr, "/v2/o/i/manifests/1");
  const reply = await ask(ghcr, `/v2/o/i/referrers/${image.root.digest}`, { token });
  expect([reply.status, reply.headers.location?.startsWith(ghcr.urlOf("page"))]).toEqual([303, true]);
  const page = await ask(ghcr, reply.headers.location ?? "");
  expect([page.status, page.headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"]);
  const old = await startGhcrDouble(stack, { referrers: "none" });
  old.add("o/i", image, ["1"]);
  expect((await pull(old, `/v2/o/i/referrers/${image.root.digest}`)).status).toBe(404);
  expect((await ask(ghcr, "/v2/_catalog", { token })).status).toBe(404);
});

test('Blob: "307 to pkg-containers.githubusercontent.com, signed, GET only"', async () => {
  const reply = await pull(ghcr, `/v2/o/i/blobs/${blob.digest}`);
  expect(reply.status).toBe(307);
  const location = reply.headers.location ?? "";
  expect((await ask(ghcr, location, { method: "HEAD" })).status).toBe(403);
  expect((await ask(ghcr, location)).body).toEqual(Buffer.from(blob.bytes));
});
