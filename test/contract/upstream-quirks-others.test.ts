/** The quirks in section 10 of upstreams.md that concern pulling, beyond what every kind is asked in upstream-kinds.test.ts. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { o, readAll, type TestClock, tag } from "../integration/upstream/bench.ts";
import { tempFolder } from "../support/processes.ts";
import { ACR_TOKEN_USER, startAcrDouble } from "../support/registries/acr.ts";
import { startDistributionDouble } from "../support/registries/distribution.ts";
import { startForgejoDouble } from "../support/registries/forgejo.ts";
import { startHarborDouble } from "../support/registries/harbor.ts";
import { startK8sDouble } from "../support/registries/k8s.ts";
import { startMcrDouble } from "../support/registries/mcr.ts";
import { startNvcrDouble } from "../support/registries/nvcr.ts";
import { startRedhatDouble } from "../support/registries/redhat.ts";
import type { RegistryDouble } from "../support/registries/registry-double.ts";
import type { RegistryOptions } from "../support/registries/traits.ts";
import { ACCOUNT, blob, credentialOf, digest, doubleBench, fault, filled, image, over } from "./upstream-bench.ts";

let stack: AsyncDisposableStack;
let clock: TestClock;
let options: RegistryOptions;

beforeEach(() => {
  ({ stack, clock, options } = doubleBench());
});

afterEach(() => stack.disposeAsync());

/** Scopes of all token requests, in order. */
function scopes(double: RegistryDouble): readonly string[] {
  return double.ledger.filter(({ role }) => role === "token").flatMap(({ query }) => query.getAll("scope"));
}

describe("section 10, ACR", () => {
  test("tags/list needs metadata_read: learned without a 401 for each repository", async () => {
    const acr = filled(await startAcrDouble(stack, options));
    const upstream = over(acr, clock, { type: "acr" });
    await upstream.headManifest("team/app", tag("1"), o());
    await upstream.listTags("team/app", {}, o());
    await upstream.listTags("team/other", {}, o());
    await upstream.headManifest("team/app", tag("1"), o());
    expect(scopes(acr)).toEqual([
      "repository:team/app:pull",
      "repository:team/app:metadata_read",
      "repository:team/other:metadata_read",
    ]);
    expect(acr.count({ role: "registry", status: 401 })).toBe(1);
  });

  test("docker-style login: the all-zero user with a refresh token as password", async () => {
    const acr = filled(await startAcrDouble(stack, options));
    const password = acr.refreshTokenFor(ACCOUNT);
    const credentials = [credentialOf({ username: ACR_TOKEN_USER, password })];
    await over(acr, clock, { type: "acr", credentials }).getManifest("team/secret", tag("1"), o());
    expect(acr.count({ role: "token", method: "GET", authorization: "basic" })).toBe(1);
  });

  test("U10 POST /oauth2/token grant_type=refresh_token for the identitytoken of a docker config; revoked, it is the credential's fault", async () => {
    const acr = filled(await startAcrDouble(stack, options));
    const path = join(await tempFolder(stack), "config.json");
    const identitytoken = acr.refreshTokenFor(ACCOUNT);
    const auth = Buffer.from(`${ACR_TOKEN_USER}:`).toString("base64");
    await writeFile(path, JSON.stringify({ auths: { "weirtest.azurecr.io": { auth, identitytoken } } }));
    const credentials = [{ source: "docker-config", label: "ci", path, repositories: undefined }] as const;
    const config = { type: "acr", name: "weirtest.azurecr.io", credentials } as const;
    const upstream = over(acr, clock, config);
    await upstream.getManifest("team/secret", tag("1"), o());
    const posts = acr.ledger.filter(({ method }) => method === "POST");
    expect(posts.map(({ path: where, status, authorization }) => [where, status, authorization])).toEqual([
      ["/oauth2/token", 200, "none"],
    ]);
    expect(acr.ledger.every(({ query }) => !query.toString().includes(identitytoken))).toBe(true);
    acr.revokeRefreshTokens();
    acr.revokeTokens();
    expect(await fault(upstream.getManifest("team/secret", tag("1"), o()))).toBe("credential");
  });
});

describe("section 10, others", () => {
  test("registry.k8s.io: content needs no token, and its redirects get none", async () => {
    const k8s = await startK8sDouble(stack, options);
    k8s.add("pause", image, ["3.9"]);
    const upstream = over(k8s, clock, { name: "registry.k8s.io" });
    await upstream.getManifest("pause", tag("3.9"), o());
    await upstream.listTags("pause", {}, o());
    const { body } = await upstream.getBlob("pause", digest(blob), { ...o(), start: 0 });
    expect(await readAll(body)).toEqual(Buffer.from(blob.bytes));
    expect(k8s.lines("token")).toEqual([]);
    expect([...new Set([...k8s.ledger, ...k8s.backing.ledger].map((entry) => entry.authorization))]).toEqual(["none"]);
  });

  test("nvcr.io: pull is asked for although pull,push is challenged for; authn.nvidia.com hears of no credential", async () => {
    const nvcr = filled(await startNvcrDouble(stack, options));
    const upstream = over(nvcr, clock, { name: "nvcr.io", credentials: [credentialOf(ACCOUNT)] });
    await upstream.getManifest("team/secret", tag("1"), o());
    nvcr.revokeTokens();
    await upstream.getManifest("team/secret", tag("1"), o());
    expect([...new Set(scopes(nvcr))]).toEqual(["repository:team/secret:pull"]);
    expect(nvcr.lines("api")).toEqual([]);
  });

  test("Red Hat: a user name with a pipe; anonymous is denied, with or without a text for people", async () => {
    const username = "12345678|ci";
    const accounts = [{ username, password: "redhat-p4ssword" }];
    const redhat = filled(await startRedhatDouble(stack, { ...options, accounts }));
    const credentials = [credentialOf({ username, password: "redhat-p4ssword" })];
    await over(redhat, clock, { name: "registry.redhat.io", credentials }).getManifest("team/app", tag("1"), o());
    expect(redhat.ledger.find(({ role }) => role === "token")?.query.get("account")).toBe(username);
    const anonymous = over(redhat, clock, { name: "registry.redhat.io" });
    expect(await fault(anonymous.getManifest("team/app", tag("1"), o()))).toBe("denied");
  });

  test("Red Hat: the historic text/plain is no manifest's type: the document says what it is", async () => {
    const redhat = filled(await startRedhatDouble(stack, { ...options, access: true } as RegistryOptions));
    const upstream = over(redhat, clock, { name: "registry.access.redhat.com" });
    const body = Buffer.from(image.root.bytes).toString();
    const headers = { "content-type": "text/plain; charset=utf-8", "docker-content-digest": image.root.digest };
    redhat.fail({ role: "registry", effect: { kind: "status", status: 200, headers, body } });
    const got = await upstream.getManifest("team/app", tag("1"), o());
    expect(got).toMatchObject({ mediaType: image.root.mediaType, digest: image.root.digest });
  });

  test("MCR: no token is asked for, and a 403 in an outage is this request's own", async () => {
    const mcr = filled(await startMcrDouble(stack, options));
    const upstream = over(mcr, clock, { name: "mcr.microsoft.com" });
    mcr.fail({ role: "registry", nth: [1], effect: { kind: "status", status: 403, body: "<h2>Blocked</h2>" } });
    expect(await fault(upstream.getManifest("team/app", tag("1"), o()))).toBe("denied");
    await upstream.getManifest("team/app", tag("1"), o());
    expect(mcr.lines()).toEqual([
      "registry GET /v2/team/app/manifests/1 none 403",
      "registry GET /v2/team/app/manifests/1 none 200",
    ]);
  });

  test("Harbor: a robot's name with $ and +", async () => {
    const username = "robot$team+ci";
    const accounts = [{ username, password: "harbor-p4ssword" }];
    const harbor = filled(await startHarborDouble(stack, { ...options, accounts }));
    const credentials = [credentialOf({ username, password: "harbor-p4ssword" })];
    await over(harbor, clock, { name: "harbor.example", credentials }).getManifest("team/secret", tag("1"), o());
  });

  test("Codeberg: of two schemes in one header Bearer is taken, with the scope *", async () => {
    const codeberg = filled(await startForgejoDouble(stack, options));
    const upstream = over(codeberg, clock, { name: "codeberg.org", credentials: [credentialOf(ACCOUNT)] });
    await upstream.getManifest("team/secret", tag("1"), o());
    expect(scopes(codeberg)).toEqual(["*"]);
    expect(codeberg.count({ role: "registry", authorization: "basic" })).toBe(0);
  });

  test("distribution: a conditional GET with the ETag is a 304", async () => {
    const double = filled(await startDistributionDouble(stack, options));
    const upstream = over(double, clock, { name: "registry.example" });
    const { etag } = await upstream.headManifest("team/app", tag("1"), o());
    expect(await upstream.getManifest("team/app", tag("1"), { ...o(), etag: etag ?? "" })).toBe("not-modified");
  });
});
