import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { dockerList, multiArchImage, smallImage } from "../../../support/images.ts";
import { startArtifactoryDouble } from "../../../support/registries/artifactory.ts";
import { startDistributionDouble } from "../../../support/registries/distribution.ts";
import { startForgejoDouble } from "../../../support/registries/forgejo.ts";
import { startHarborDouble } from "../../../support/registries/harbor.ts";
import { startK8sDouble } from "../../../support/registries/k8s.ts";
import { startMcrDouble } from "../../../support/registries/mcr.ts";
import { NGC_USER, startNvcrDouble } from "../../../support/registries/nvcr.ts";
import { startRedhatDouble } from "../../../support/registries/redhat.ts";
import { ask, askRealm, challengeOf, codeOf, manyTags, pull, tagsOf, tokenFor } from "./client.ts";

// upstreams.md section 10 "registry.k8s.io, MCR, ACR, NGC, Red Hat, others"; the titles quote its rows.
const image = smallImage("presets");
const multi = multiArchImage("presets multi");
const blob = image.blobs[1] ?? image.root;

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

describe("registry.k8s.io", () => {
  test('"/token issues a 32-hex correlation id, expires_in 3600, any such bearer gives 200. Content never needs it"', async () => {
    const k8s = await startK8sDouble(stack);
    const challenged = await ask(k8s, "/v2/");
    expect(challengeOf(challenged)).toEqual({ realm: `${k8s.url}/token`, service: "registry.k8s.io" });
    const body = JSON.parse((await askRealm(k8s, challenged)).text);
    expect([body.token, body.expires_in]).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/), 3600]);
    expect((await ask(k8s, "/v2/", { token: "0".repeat(32) })).status).toBe(200);
  });

  test('"Manifests redirect too: 307 to an Artifact Registry host /v2/k8s-artifacts-prod/images/<path>"; blobs and tags as well; unknown digests too', async () => {
    const k8s = await startK8sDouble(stack);
    k8s.add("pause", image, ["3.9"]);
    for (const path of ["manifests/3.9", `blobs/${blob.digest}`, "tags/list", `blobs/${multi.root.digest}`]) {
      const reply = await ask(k8s, `/v2/pause/${path}`);
      const location = `${k8s.backing.url}/v2/k8s-artifacts-prod/images/pause/${path}`;
      expect([reply.status, reply.headers.location]).toEqual([307, location]);
    }
    expect((await ask(k8s, `${k8s.backing.url}/v2/k8s-artifacts-prod/images/pause/manifests/3.9`)).status).toBe(200);
    expect((await ask(k8s, "/v2/_catalog")).status).toBe(404);
    expect((await ask(k8s, "/v2/pause/manifests/1", { method: "PUT" })).status).toBe(405);
  });
});

describe("MCR", () => {
  test('"No token flow", "tags/list are static documents", "No Accept → schema1", absent: 404', async () => {
    const mcr = await startMcrDouble(stack);
    mcr.add("dotnet/runtime", image, manyTags(30));
    expect((await ask(mcr, "/v2/")).status).toBe(200);
    const manifest = await ask(mcr, "/v2/dotnet/runtime/manifests/t0000");
    expect(manifest.headers["docker-content-digest"]).toBe(image.root.digest);
    expect(tagsOf(await ask(mcr, "/v2/dotnet/runtime/tags/list?n=2"))).toHaveLength(30);
    expect((await ask(mcr, "/v2/absent/manifests/1")).status).toBe(404);
    const reply = await ask(mcr, `/v2/dotnet/runtime/blobs/${blob.digest}`);
    expect([reply.status, reply.headers.location?.startsWith(mcr.urlOf("cdn"))]).toEqual([307, true]);
  });
});

describe("nvcr.io", () => {
  test('"no service"; "public images work anonymously through the same realm"; $oauthtoken + key for the others', async () => {
    const nvcr = await startNvcrDouble(stack, { accounts: [{ username: NGC_USER, password: "key" }] });
    nvcr.add("nvidia/cuda", image, ["12"]);
    nvcr.add("org/secret", image, ["1"], "private");
    expect(challengeOf(await ask(nvcr, "/v2/nvidia/cuda/manifests/12"))).toEqual({
      realm: `${nvcr.url}/proxy_auth`,
      scope: "repository:nvidia/cuda:pull,push",
    });
    expect((await pull(nvcr, "/v2/nvidia/cuda/manifests/12")).status).toBe(200);
    expect((await pull(nvcr, "/v2/org/secret/manifests/1")).status).toBe(401);
    expect((await pull(nvcr, "/v2/org/secret/manifests/1", { login: `${NGC_USER}:key` })).status).toBe(200);
  });

  test('"After token expiry the challenge becomes realm=https://authn.nvidia.com/token,service=registry,error=invalid_token, which refuses anonymous callers"', async () => {
    const nvcr = await startNvcrDouble(stack);
    nvcr.add("nvidia/cuda", image, ["12"]);
    const token = await tokenFor(nvcr, "/v2/nvidia/cuda/manifests/12");
    nvcr.revokeTokens();
    const stale = await ask(nvcr, "/v2/nvidia/cuda/manifests/12", { token });
    expect(challengeOf(stale)).toEqual({
      realm: `${nvcr.urlOf("api")}/token`,
      service: "registry",
      error: "invalid_token",
    });
    expect((await askRealm(nvcr, stale)).status).toBe(401);
    expect((await pull(nvcr, "/v2/nvidia/cuda/manifests/12")).status).toBe(200);
  });
});

describe("Red Hat", () => {
  test('"realm …/auth/realms/rhcc/protocol/redhat-docker-v2/auth, service docker-registry; anonymous → 401 with a please login text"; user with a pipe', async () => {
    const redhat = await startRedhatDouble(stack, { accounts: [{ username: "12345678|ci", password: "jwt" }] });
    redhat.add("ubi9/ubi", image, manyTags(150));
    const challenged = await ask(redhat, "/v2/ubi9/ubi/manifests/t0000");
    expect(challengeOf(challenged)).toMatchObject({
      realm: `${redhat.url}/auth/realms/rhcc/protocol/redhat-docker-v2/auth`,
      service: "docker-registry",
    });
    const refused = await askRealm(redhat, challenged);
    expect([refused.status, refused.text]).toEqual([401, expect.stringMatching(/please login/i)]);
    const login = "12345678|ci:jwt";
    expect((await pull(redhat, "/v2/ubi9/ubi/manifests/t0000", { login })).status).toBe(200);
    const missing = await pull(redhat, "/v2/ubi9/ubi/manifests/none", { login });
    expect([missing.status, codeOf(missing)]).toEqual([404, "UNKNOWN"]);
    const tags = await pull(redhat, "/v2/ubi9/ubi/tags/list", { login });
    expect(tags.headers.link).toBe('</v2/ubi9/ubi/tags/list?last=t0099&n=100>; rel="next"');
  });

  test('"registry.access.redhat.com: same content, anonymous"', async () => {
    const redhat = await startRedhatDouble(stack, { access: true });
    redhat.add("ubi9/ubi", image, ["1"]);
    expect((await ask(redhat, "/v2/ubi9/ubi/manifests/1")).status).toBe(200);
    expect((await ask(redhat, "/v2/ubi9/absent/manifests/1")).status).toBe(404);
  });
});

describe("others", () => {
  test('Codeberg "sends two schemes in one header: Bearer realm=…,service=…,scope="*",Basic realm=…"', async () => {
    const codeberg = await startForgejoDouble(stack, { accounts: [{ username: "u", password: "p" }] });
    codeberg.add("u/app", image, ["1"]);
    codeberg.add("u/secret", image, ["1"], "private");
    const reply = await ask(codeberg, "/v2/u/app/manifests/1");
    expect(reply.headers["www-authenticate"]).toMatch(
      /^Bearer realm="[^"]*\/v2\/token",service="container_registry",scope="\*",Basic realm="[^"]*"$/,
    );
    expect((await ask(codeberg, "/v2/u/secret/manifests/1", { login: "u:p" })).status).toBe(200);
  });

  test('Harbor: "realm https://<h>/service/token, service harbor-registry; 404 code NOT_FOUND"; robot$project+name', async () => {
    const login = "robot$project+ci:secret";
    const harbor = await startHarborDouble(stack, { accounts: [{ username: "robot$project+ci", password: "secret" }] });
    harbor.add("project/app", image, ["1"], "private");
    const challenged = await ask(harbor, "/v2/project/app/manifests/1");
    expect(challengeOf(challenged)).toMatchObject({ realm: `${harbor.url}/service/token`, service: "harbor-registry" });
    expect((await pull(harbor, "/v2/project/app/manifests/1", { login })).status).toBe(200);
    for (const path of ["/v2/project/app/manifests/none", "/v2/project/absent/manifests/1"]) {
      const reply = await pull(harbor, path, { login });
      expect([reply.status, codeOf(reply)]).toEqual([404, "NOT_FOUND"]);
    }
  });

  test('Artifactory: "Basic realm="Artifactory Realm" (not a URL); POST token → 401; 403 for a missing tag; Link lacks the virtual-repo prefix"', async () => {
    const jfrog = await startArtifactoryDouble(stack, { accounts: [{ username: "u", password: "p" }] });
    jfrog.add("virtual/app", image, manyTags(3));
    jfrog.add("virtual/secret", image, ["1"], "private");
    const challenged = await ask(jfrog, "/v2/virtual/secret/manifests/1");
    expect(challenged.headers["www-authenticate"]).toBe('Basic realm="Artifactory Realm"');
    expect((await ask(jfrog, jfrog.tokenUrl, { method: "POST" })).status).toBe(401);
    expect((await ask(jfrog, "/v2/virtual/app/manifests/none")).status).toBe(403);
    const { headers } = await ask(jfrog, "/v2/virtual/app/tags/list?n=2");
    expect(headers.link).toBe('</v2/app/tags/list?last=t0001&n=2>; rel="next"');
    expect((await ask(jfrog, "/v2/virtual/secret/manifests/1", { login: "u:p" })).status).toBe(200);
  });
});

describe("distribution v2/v3 (generic)", () => {
  test('"OCI type not in Accept → 404 MANIFEST_UNKNOWN (*/* does not count); list requested by tag without list types → linux/amd64 child"', async () => {
    const registry = await startDistributionDouble(stack);
    const list = dockerList("distribution");
    registry.add("a/b", multi, ["oci"]);
    registry.add("a/b", list, ["docker"]);
    const any = await pull(registry, "/v2/a/b/manifests/oci", { headers: { accept: "*/*" } });
    expect([any.status, codeOf(any)]).toEqual([404, "MANIFEST_UNKNOWN"]);
    const accept = "application/vnd.docker.distribution.manifest.v2+json";
    const child = await pull(registry, "/v2/a/b/manifests/docker", { headers: { accept } });
    expect(child.headers["docker-content-digest"]).toBe(list.manifests[0]?.digest);
  });

  test('"If-None-Match (quoted or bare) → 304"; "no referrers route (404 page, not JSON)"; "n invalid → 400 PAGINATION_NUMBER_INVALID"', async () => {
    const registry = await startDistributionDouble(stack, { auth: "none", maxPage: 2 });
    registry.add("a/b", image, manyTags(5));
    for (const condition of [`"${image.root.digest}"`, image.root.digest]) {
      const headers = { "if-none-match": condition };
      expect((await ask(registry, "/v2/a/b/manifests/t0000", { headers })).status).toBe(304);
    }
    const referrers = await ask(registry, `/v2/a/b/referrers/${image.root.digest}`);
    expect([referrers.status, referrers.headers["content-type"]]).toEqual([404, "text/plain; charset=utf-8"]);
    expect(codeOf(await ask(registry, "/v2/a/b/tags/list?n=abc"))).toBe("PAGINATION_NUMBER_INVALID");
    expect(tagsOf(await ask(registry, "/v2/a/b/tags/list?n=100"))).toHaveLength(2);
  });

  test("Basic and token authentication; a refresh token by POST (section 13)", async () => {
    const accounts = [{ username: "u", password: "p" }];
    const basic = await startDistributionDouble(stack, { auth: "basic", accounts });
    basic.add("a", image, ["1"]);
    expect((await ask(basic, "/v2/a/manifests/1")).headers["www-authenticate"]).toMatch(/^Basic realm=/);
    expect((await ask(basic, "/v2/a/manifests/1", { login: "u:p" })).status).toBe(200);
    const registry = await startDistributionDouble(stack, { accounts });
    registry.add("a", image, ["1"], "private");
    registry.refreshTokens.set("r1", "u");
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const body = "grant_type=refresh_token&service=x&client_id=c&scope=repository:a:pull&refresh_token=r1";
    const { token } = JSON.parse((await ask(registry, registry.tokenUrl, { method: "POST", headers, body })).text);
    expect((await ask(registry, "/v2/a/manifests/1", { token })).status).toBe(200);
  });

  test("named: the URLs carry the real names, which only the double's own look-up resolves", async () => {
    const registry = await startDistributionDouble(stack, { named: true });
    expect(new URL(registry.url).hostname).toBe("registry.example");
    expect(new URL(registry.tokenUrl).hostname).toBe("auth.registry.example");
    expect(await registry.lookup("blobs.example")).toEqual([{ address: "127.0.0.3", family: 4 }]);
    await expect(registry.lookup("elsewhere.example")).rejects.toMatchObject({ code: "ENOTFOUND" });
  });
});
