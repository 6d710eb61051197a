import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { DockerConfigCredentialConfig, UpstreamConfig } from "../../../src/config/types.ts";
import { smallImage } from "../../support/images.ts";
import { startAcrDouble } from "../../support/registries/acr.ts";
import type { ScriptEntry } from "../../support/scripted-server.ts";
import {
  type Bench,
  brief,
  challenge,
  failure,
  manifestReply,
  o,
  openUpstream,
  serve,
  tag,
  testClock,
} from "./bench.ts";

const REFRESH_TOKEN = "r3fresh+token/with=odd&signs";

/** A credential as `docker login` leaves it for a registry that gives identity tokens. */
async function identityToken(host: string, token = REFRESH_TOKEN): Promise<DockerConfigCredentialConfig> {
  const folder = await mkdtempDisposable(join(tmpdir(), "weir-identity-"));
  onTestFinished(() => folder.remove());
  const path = join(folder.path, "config.json");
  await writeFile(path, JSON.stringify({ auths: { [host]: { identitytoken: token } } }));
  return { source: "docker-config", label: "entra", path, repositories: undefined };
}

async function open(url: URL, over: Partial<UpstreamConfig> = {}): Promise<Bench> {
  return openUpstream(url, { credentials: [await identityToken(url.host)], ...over });
}

const repositories: readonly ScriptEntry[] = [
  { when: { path: /manifests/, headers: { authorization: "Bearer t" } }, reply: manifestReply },
  { when: { path: /manifests/ }, reply: challenge("/oauth2/token", "repository:a:pull") },
];

test("upstreams.md 13: an identity token goes into the form of a POST, and nowhere else", async () => {
  const registry = await serve([
    { when: { path: "/oauth2/token", method: "POST" }, reply: { body: '{"access_token":"t"}' } },
    ...repositories,
  ]);
  const { upstream } = await open(registry.url);
  await upstream.headManifest("a", tag("1"), o());
  await upstream.headManifest("a", tag("1"), o());
  expect(brief(registry.ledger)).toEqual([
    "HEAD /v2/a/manifests/1 -",
    "POST /oauth2/token -",
    "HEAD /v2/a/manifests/1 Bearer t",
    "HEAD /v2/a/manifests/1 Bearer t",
  ]);
  const { headers, query, body } = registry.ledger[1] ?? {};
  expect(headers?.["content-type"]).toBe("application/x-www-form-urlencoded");
  expect(query?.size).toBe(0);
  expect(Object.fromEntries(new URLSearchParams(body))).toEqual({
    grant_type: "refresh_token",
    client_id: "weir",
    service: "reg",
    scope: "repository:a:pull",
    refresh_token: REFRESH_TOKEN,
  });
});

test("U2 the form follows no redirect, not even on the same host", async () => {
  const thief = await serve([], { host: "127.0.0.2" });
  for (const location of ["/elsewhere", `${thief.url.origin}/token`]) {
    const registry = await serve([
      { when: { path: "/oauth2/token" }, reply: { status: 307, headers: { location } } },
      ...repositories,
    ]);
    const { upstream } = await open(registry.url, { redirects: { allow: ["127.0.0.2"] } });
    expect((await failure(upstream.headManifest("a", tag("1"), o()))).fault).toBe("status");
    expect(registry.lines).toEqual(["HEAD /v2/a/manifests/1", "POST /oauth2/token"]);
  }
  expect(thief.ledger).toEqual([]);
});

test("U4 one that is refused is the credential's fault, and is left alone", async () => {
  const registry = await serve([{ when: { path: "/oauth2/token" }, reply: { status: 401 } }, ...repositories]);
  const { upstream } = await open(registry.url);
  for (let i = 0; i < 3; i += 1) {
    const error = await failure(upstream.headManifest("a", tag("1"), o()));
    expect(error).toMatchObject({ fault: "credential", credential: "entra" });
    expect(error.message).not.toContain(REFRESH_TOKEN);
  }
  expect(registry.lines.filter((line) => line === "POST /oauth2/token")).toHaveLength(1);
});

test("U2 a registry that takes passwords only is not given it", async () => {
  const registry = await serve([
    { when: { path: /manifests/ }, reply: { status: 401, headers: { "www-authenticate": 'Basic realm="r"' } } },
  ]);
  const { upstream } = await open(registry.url);
  const error = await failure(upstream.headManifest("a", tag("1"), o()));
  expect(error).toMatchObject({ fault: "refused", credential: "entra" });
  expect(error.message).toContain("is an identity token");
  expect(brief(registry.ledger)).toEqual(["HEAD /v2/a/manifests/1 -"]);
});

test("upstreams.md 10: a pull from ACR, lists of tags included, with what az acr login leaves", async () => {
  await using stack = new AsyncDisposableStack();
  const clock = testClock();
  const owner = { username: "principal", password: "unused" };
  const double = await startAcrDouble(stack, { accounts: [owner], named: true, now: () => clock.now() });
  double.add("team/app", smallImage("acr"), ["1"], "private");
  const { upstream } = openUpstream(
    new URL(double.url),
    {
      name: "weirtest.azurecr.io",
      type: "acr",
      credentials: [await identityToken("weirtest.azurecr.io", double.refreshTokenFor(owner))],
    },
    { clock, classifyAddress: () => "public", lookup: (host) => double.lookup(host) },
  );
  expect((await upstream.headManifest("team/app", tag("1"), o())).digest).toBeDefined();
  expect((await upstream.listTags("team/app", {}, o())).tags).toEqual(["1"]);
  expect(double.lines("token")).toEqual(Array(2).fill("token POST /oauth2/token none 200"));
  expect(double.count({ role: "registry", status: 401 })).toBe(1);
});
