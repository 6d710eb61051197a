import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import https from "node:https";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AccessDeniedError } from "../../../src/access/denied-error.ts";
import { anonymous } from "../../../src/access/identity.ts";
import { makeSigningKey } from "../../../src/access/token-keys.ts";
import { parseChallenges } from "../../../src/oci/challenge.ts";
import type { ManifestCall } from "../../../src/proxy/answers.ts";
import { type Certificate, createAuthority } from "../../support/certificates.ts";
import { type HttpReply, type HttpRequestOptions, httpRequest } from "../../support/network.ts";
import {
  type AccessBench,
  accessBench,
  basic,
  fileOf,
  htpasswd,
  issuerKey,
  signed,
  signInOf,
} from "../../support/sign-in.ts";
import { type Front, MANIFEST_DIGEST, manifestAnswer, startFront } from "./front.ts";

const PASSWORD = "a-s3cret-of-alice";
const HUB_PASSWORD = "somebody's-docker-hub-password";

let stack: AsyncDisposableStack;
let file: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  file = await fileOf(stack, "htpasswd", await htpasswd({ alice: PASSWORD }));
});

afterEach(() => stack.disposeAsync());

interface World {
  readonly front: Front;
  readonly bench: AccessBench;
  ask(path: string, options?: HttpRequestOptions): Promise<HttpReply>;
}

interface WorldOptions {
  readonly publicOrigin?: string;
  readonly documents?: Map<string, unknown>;
}

async function world(
  access: Readonly<Record<string, unknown>>,
  { publicOrigin, documents }: WorldOptions = {},
): Promise<World> {
  const bench = accessBench(signInOf(access), {
    key: makeSigningKey(),
    ...(documents === undefined ? {} : { documents }),
  });
  const front = await startFront(stack, { signIn: { access: () => bench.access, anonymous, publicOrigin } });
  front.proxy.onManifest = () => manifestAnswer();
  return { front, bench, ask: (path, options) => httpRequest(`${front.url}${path}`, options) };
}

const HTPASSWD = () => ({ mode: "htpasswd", htpasswd: { file } });
const TOKEN = () => ({ mode: ["htpasswd", "token"], htpasswd: { file } });
const OPEN_TOKEN = () => ({ mode: ["anonymous", "htpasswd", "token"], htpasswd: { file } });
const OPEN_HTPASSWD = () => ({ mode: ["anonymous", "htpasswd"], htpasswd: { file } });

const MANIFEST = "/v2/quay.io/team/app/manifests/1";
const by = (authorization: string) => ({ headers: { authorization } });
const ALICE = basic("alice", PASSWORD);

function challengeOf({ headers }: HttpReply): Readonly<Record<string, string>> | undefined {
  const [challenge] = parseChallenges([headers["www-authenticate"] ?? ""]);
  return challenge && { scheme: challenge.scheme, ...Object.fromEntries(challenge.parameters) };
}

function errorOf({ body }: HttpReply): { readonly code: string; readonly message: string } {
  return JSON.parse(body.toString()).errors[0];
}

async function tokenOf({ ask }: World, query: string, options?: HttpRequestOptions) {
  const reply = await ask(`/auth/token?${query}`, options);
  return {
    reply,
    ...(JSON.parse(reply.body.toString()) as { readonly token: string; readonly refresh_token?: string }),
  };
}

function identities({ front }: World) {
  return front.proxy.calls.map(({ caller }) => caller.identity);
}

const form = (fields: Readonly<Record<string, string>>): HttpRequestOptions => ({
  method: "POST",
  headers: { "content-type": "application/x-www-form-urlencoded" },
  body: new URLSearchParams(fields).toString(),
});

describe("every way to sign in, every form of request, every verb", () => {
  const jwk = issuerKey("ci");
  const ISSUER = "https://ci.example";
  const documents = () => new Map<string, unknown>([[`${ISSUER}/keys`, { keys: [jwk.jwk] }]]);
  const oidc = () => ({ issuers: [{ issuer: ISSUER, audience: "weir", jwks: `${ISSUER}/keys` }] });
  const idToken = async (of: World) => {
    const exp = Math.floor(of.bench.clock.now() / 1000) + 600;
    return await signed(jwk, { iss: ISSUER, aud: "weir", sub: "ci", exp });
  };
  const ALL = () => ({ mode: ["htpasswd", "token", "oidc"], htpasswd: { file }, oidc: oidc() });

  const WAYS: readonly (readonly [
    string,
    (of: World) => Promise<string | undefined>,
    200 | 401,
    string | undefined,
  ])[] = [
    ["nothing", async () => undefined, 401, undefined],
    ["a password", async () => ALICE, 200, "alice"],
    ["a wrong password", async () => basic("alice", "x"), 401, undefined],
    ["an unknown name", async () => basic("mallory", PASSWORD), 401, undefined],
    [
      "a token",
      async (of) => `Bearer ${(await tokenOf(of, "scope=repository:quay.io/team/app:pull", by(ALICE))).token}`,
      200,
      "alice",
    ],
    ["an ID token", async (of) => `Bearer ${await idToken(of)}`, 200, "ci"],
    ["an ID token as a password", async (of) => basic("oidc", await idToken(of)), 200, "ci"],
    ["a made-up token", async () => "Bearer made.up.token", 401, undefined],
    ["another scheme", async () => "Negotiate YIIJ", 401, undefined],
    ["rubbish", async () => "Basic !!!", 401, undefined],
  ];
  const FORMS: readonly (readonly [string, string])[] = [
    ["prefix", "/v2/quay.io/team/app"],
    ["ns", "/v2/team/app?ns=quay.io"],
    ["in front", "/quay.io/v2/team/app"],
    ["doubled", "/v2/quay.io/v2/team/app?ns=quay.io"],
  ];
  const VERBS = ["HEAD manifests/1", "GET manifests/1", `GET manifests/${MANIFEST_DIGEST}`] as const;

  test.each(WAYS)("%s", async (_, authorization, status, account) => {
    const of = await world(ALL(), { documents: documents() });
    const sent = await authorization(of);
    for (const [, form] of FORMS) {
      for (const verb of VERBS) {
        const [method = "", suffix = ""] = verb.split(" ");
        const [path = "", query] = form.split("?");
        const target = `${path}/${suffix}${query === undefined ? "" : `?${query}`}`;
        const reply = await of.ask(target, { method, ...(sent === undefined ? {} : by(sent)) });
        expect([method, target, reply.status]).toEqual([method, target, status]);
        if (status === 401) {
          expect(challengeOf(reply)).toMatchObject({ scheme: "bearer", scope: "repository:quay.io/team/app:pull" });
        }
      }
    }
    expect(identities(of).every((identity) => identity.account === account)).toBe(true);
    expect(identities(of)).toHaveLength(status === 200 ? FORMS.length * VERBS.length : 0);
    // The ping has no scope.
    const ping = await of.ask("/v2/", sent === undefined ? {} : by(sent));
    expect(ping.status).toBe(status);
    expect(challengeOf(ping)?.scope).toBeUndefined();
    const counts = status === 401 && sent !== undefined;
    expect(of.front.failedSignIns).toHaveLength(counts ? FORMS.length * VERBS.length + 1 : 0);
    const lines = of.front.lines.filter(({ msg, path }) => msg === "request" && path !== "/auth/token");
    expect(lines.every((line) => line.account === account)).toBe(true);
  });
});

describe("who sends nothing, or what nobody asked for", () => {
  test("A6 with the mode anonymous is served, and what was sent is looked at by nobody", async () => {
    const front = await startFront(stack);
    front.proxy.onManifest = () => manifestAnswer();
    const { port } = front;
    const at = (path: string) => httpRequest(`http://127.0.0.1:${port}${path}`, by(basic("me", HUB_PASSWORD)));
    expect((await at("/v2/")).status).toBe(200);
    expect((await at(MANIFEST)).status).toBe(200);
    expect(front.proxy.calls).toMatchObject([{ caller: { identity: { account: undefined, via: "anonymous" } } }]);
    // Nothing of it goes any further: not to the proxy, and not into the log.
    expect(JSON.stringify(front.proxy.calls)).not.toContain(HUB_PASSWORD);
    expect(JSON.stringify(front.lines)).not.toContain(HUB_PASSWORD);
    expect(JSON.stringify(front.lines)).not.toContain(basic("me", HUB_PASSWORD).slice(6));
    expect((await at("/auth/token")).status).toBe(404);
  });

  test("with a mode beside anonymous is served, but is asked at the ping where a token can be had for nobody", async () => {
    const open = await world(OPEN_TOKEN());
    expect((await open.ask(MANIFEST)).status).toBe(200);
    const ping = await open.ask("/v2/");
    expect(ping.status).toBe(401);
    expect(challengeOf(ping)).toEqual({ scheme: "bearer", realm: `${open.front.url}/auth/token`, service: "weir" });
    // As Docker and Podman do without a login.
    const { token } = await tokenOf(open, "service=weir&scope=repository:quay.io/team/app:pull");
    expect((await open.ask("/v2/", by(`Bearer ${token}`))).status).toBe(200);
    expect((await open.ask(MANIFEST, by(`Bearer ${token}`))).status).toBe(200);
    expect(identities(open)).toMatchObject([{ via: "anonymous" }, { account: undefined, via: "token" }]);
    expect(open.front.failedSignIns).toEqual([]);

    const plain = await world(OPEN_HTPASSWD());
    expect((await plain.ask("/v2/")).status).toBe(200);
    expect((await plain.ask(MANIFEST)).status).toBe(200);
  });

  test("learns nothing of what is configured: a name that is wrong is no other than one that is right", async () => {
    const of = await world(HTPASSWD());
    for (const path of [
      "/v2/unknown.example/a/manifests/1",
      "/v2/quay.io/UPPER/manifests/1",
      "/nothing",
      "/v2/%00/x",
      MANIFEST,
    ]) {
      expect([path, (await of.ask(path)).status]).toEqual([path, 401]);
    }
    for (const method of ["POST", "PUT", "DELETE"]) {
      expect((await of.ask("/v2/quay.io/a/blobs/uploads/", { method })).status).toBe(401);
      expect((await of.ask("/v2/quay.io/a/blobs/uploads/", { method, ...by(ALICE) })).status).toBe(405);
    }
    expect((await of.ask("/v2/unknown.example/a/manifests/1", by(ALICE))).status).toBe(404);
    expect(of.front.proxy.calls).toEqual([]);
  });
});

describe("what a client is told", () => {
  test("a 401 is JSON that clients read, and has the version header", async () => {
    const of = await world(HTPASSWD());
    const reply = await of.ask("/v2/");
    expect(reply.headers).toMatchObject({
      "content-type": "application/json",
      "www-authenticate": 'Basic realm="Weir"',
      "docker-distribution-api-version": "registry/2.0",
    });
    expect(errorOf(reply)).toMatchObject({
      code: "UNAUTHORIZED",
      message: expect.stringContaining("a user name and a password"),
    });
  });

  test("the realm is server.publicUrl, or the host that was asked for", async () => {
    const of = await world(TOKEN());
    const at = async (host: string) => challengeOf(await of.ask("/v2/", { headers: { host } }))?.realm;
    expect(await at("weir.example:5000")).toBe("http://weir.example:5000/auth/token");
    expect(await at("[::1]:5000")).toBe("http://[::1]:5000/auth/token");
    const named = await world(TOKEN(), { publicOrigin: "https://weir.example" });
    expect(challengeOf(await named.ask("/v2/"))?.realm).toBe("https://weir.example/auth/token");
    // What could not stand in a header is not echoed.
    const odd = await of.ask("/v2/", { headers: { host: 'a"b' } });
    expect(odd.status).toBe(403);
    expect(JSON.stringify(odd.headers)).not.toContain("a\\");
  });

  test("a token that has run out, or is none, is told so by name", async () => {
    const of = await world(TOKEN());
    const { token } = await tokenOf(of, "", by(ALICE));
    of.bench.clock.advance(6 * 60_000 + 1);
    const late = await of.ask(MANIFEST, by(`Bearer ${token}`));
    expect(challengeOf(late)).toMatchObject({ error: "invalid_token", scope: "repository:quay.io/team/app:pull" });
    expect(of.front.failedSignIns).toEqual([]);
    const made = await of.ask(MANIFEST, by("Bearer made.up.token"));
    expect(challengeOf(made)).toMatchObject({ error: "invalid_token" });
    expect(of.front.failedSignIns).toHaveLength(1);
  });

  test.each<[string, string, boolean, ConstructorParameters<typeof AccessDeniedError>[0], number, string | undefined]>([
    ["nobody, who might sign in", "none", true, "private", 401, undefined],
    ["nobody, by a rule", "none", true, "rule", 401, undefined],
    ["nobody's token", "anonymous token", true, "private", 401, "insufficient_scope"],
    ["a token that grants less", "token", true, "grant", 401, "insufficient_scope"],
    ["alice, by a rule", "token", true, "rule", 403, undefined],
    ["alice, with her password", "password", true, "private", 403, undefined],
    ["nobody, where no account would help", "none", true, "content", 403, undefined],
    ["nobody, by a spent budget", "none", true, "budget", 403, undefined],
  ])("%s is refused as they can make use of", async (_, sends, open, reason, status, problem) => {
    const of = await world(open ? OPEN_TOKEN() : TOKEN());
    of.front.proxy.onManifest = () => {
      throw new AccessDeniedError(reason, "access.key", "no, by access.key");
    };
    const scope = "scope=repository:quay.io/team/app:pull";
    const authorization = {
      none: undefined,
      password: ALICE,
      token: `Bearer ${(await tokenOf(of, scope, by(ALICE))).token}`,
      "anonymous token": `Bearer ${(await tokenOf(of, scope)).token}`,
    }[sends];
    const reply = await of.ask(MANIFEST, authorization === undefined ? {} : by(authorization));
    expect(reply.status).toBe(status);
    expect(errorOf(reply)).toMatchObject({ message: "no, by access.key", detail: { key: "access.key" } });
    expect(challengeOf(reply)).toEqual(
      status === 403
        ? undefined
        : {
            scheme: "bearer",
            realm: `${of.front.url}/auth/token`,
            service: "weir",
            scope: "repository:quay.io/team/app:pull",
            ...(problem === undefined ? {} : { error: problem }),
          },
    );
    expect(of.front.denied).toEqual([reason]);
    expect(of.front.failedSignIns).toEqual([]);
  });

  test("the catalog needs a token for it, and then lists what the rules let the caller see", async () => {
    const of = await world(TOKEN());
    of.front.proxy.onCatalog = () => ({ repositories: [], next: undefined });
    const { token: other } = await tokenOf(of, "scope=repository:quay.io/team/app:pull", by(ALICE));
    const refused = await of.ask("/v2/_catalog", by(`Bearer ${other}`));
    expect(challengeOf(refused)).toMatchObject({ scope: "registry:catalog:*", error: "insufficient_scope" });
    const { token } = await tokenOf(of, "scope=registry:catalog:*", by(ALICE));
    expect((await of.ask("/v2/_catalog", by(`Bearer ${token}`))).status).toBe(200);
    expect((await of.ask("/v2/_catalog", by(ALICE))).status).toBe(200);
    expect(identities(of)).toMatchObject([
      { account: "alice", grants: undefined },
      { account: "alice", grants: undefined },
    ]);
  });
});

describe("the token service", () => {
  test("GET, as Docker and Podman ask", async () => {
    const of = await world(TOKEN());
    const query =
      "account=alice&client_id=docker&offline_token=true&service=weir&scope=repository:docker.io/nginx:pull";
    const { reply } = await tokenOf(of, query, by(ALICE));
    expect(reply.status).toBe(200);
    expect(reply.headers).toMatchObject({ "content-type": "application/json", "cache-control": "no-store" });
    const document = JSON.parse(reply.body.toString());
    expect(document).toEqual({
      token: expect.any(String),
      access_token: document.token,
      expires_in: 300,
      issued_at: new Date(of.bench.clock.now()).toISOString(),
      scope: "repository:docker.io/nginx:pull",
      refresh_token: expect.any(String),
    });
    expect(await of.front.accessLine(({ path }) => path === "/auth/token")).toMatchObject({
      account: "alice",
      status: 200,
    });
  });

  test("POST, as containerd asks: a password, and then a refresh token", async () => {
    const of = await world(TOKEN());
    const scope = "repository:quay.io/team/app:pull repository:team/app:pull";
    const common = { client_id: "containerd-client", service: "weir", scope };
    const first = await of.ask(
      "/auth/token",
      form({ ...common, grant_type: "password", username: "alice", password: PASSWORD, access_type: "offline" }),
    );
    expect(first.status).toBe(200);
    const { refresh_token, access_token, scope: granted } = JSON.parse(first.body.toString());
    expect(granted).toBe("repository:quay.io/team/app:pull repository:docker.io/team/app:pull");
    expect((await of.ask(MANIFEST, by(`Bearer ${access_token}`))).status).toBe(200);
    const second = await of.ask("/auth/token", form({ ...common, grant_type: "refresh_token", refresh_token }));
    const again = JSON.parse(second.body.toString());
    expect(again).not.toHaveProperty("refresh_token");
    expect((await of.ask(MANIFEST, by(`Bearer ${again.token}`))).status).toBe(200);
    // As Docker sends a token that it keeps, in the place of a password.
    expect((await of.ask(MANIFEST, by(`Bearer ${refresh_token}`))).status).toBe(401);
  });

  test.each<[string, HttpRequestOptions & { readonly path?: string }, number, string | undefined]>([
    ["a wrong password", by(basic("alice", HUB_PASSWORD)), 401, "basic"],
    ["no password", {}, 401, "basic"],
    [
      "a wrong password in a form",
      form({ grant_type: "password", username: "alice", password: HUB_PASSWORD }),
      401,
      "basic",
    ],
    ["a made-up refresh token", form({ grant_type: "refresh_token", refresh_token: "a.b.c" }), 401, "basic"],
    ["a form without a grant", form({ username: "alice", password: PASSWORD }), 400, undefined],
    ["a form without a password", form({ grant_type: "password", username: "alice" }), 400, undefined],
    ["another grant", form({ grant_type: "client_credentials" }), 400, undefined],
    [
      "a body that is no form",
      { method: "POST", body: "{}", headers: { "content-type": "application/json" } },
      415,
      undefined,
    ],
    [
      "10,000 scopes",
      form({ grant_type: "password", username: "a", password: "b", scope: "repository:a/b:pull ".repeat(10_000) }),
      413,
      undefined,
    ],
    ["101 scopes", { path: `?${"scope=repository:a/b:pull&".repeat(101)}`, ...by(ALICE) }, 400, undefined],
    ["a long query", { path: `?scope=${"a".repeat(9_000)}`, ...by(ALICE) }, 414, undefined],
    ["another service", { path: "?service=other", ...by(ALICE) }, 400, undefined],
    ["another verb", { method: "PUT", ...by(ALICE) }, 405, undefined],
  ])("%s is refused, and nothing of it is logged", async (_, { path = "", ...options }, status, scheme) => {
    const of = await world(TOKEN());
    const reply = await of.ask(`/auth/token${path}`, {
      ...options,
      headers: { ...options.headers, connection: "keep-alive" },
    });
    expect(reply.status).toBe(status);
    expect(challengeOf(reply)?.scheme).toBe(scheme);
    // Only what is left of a form that was not read ends the connection.
    expect(reply.headers.connection).toBe([413, 415].includes(status) ? "close" : "keep-alive");
    expect(errorOf(reply).message).toMatch(/\w/);
    await of.front.accessLine(({ path: logged }) => logged === "/auth/token");
    const log = JSON.stringify(of.front.lines);
    expect(log).not.toContain(HUB_PASSWORD);
    expect(log).not.toContain(PASSWORD);
    expect(log).not.toContain("scope=");
  });

  test("what a login of Docker does: ping, token, ping", async () => {
    const of = await world(TOKEN());
    const realm = challengeOf(await of.ask("/v2/"))?.realm ?? "";
    const query = "account=alice&client_id=docker&offline_token=true&service=weir";
    const path = realm.slice(of.front.url.length);
    const { token } = JSON.parse((await of.ask(`${path}?${query}`, by(ALICE))).body.toString());
    expect((await of.ask("/v2/", by(`Bearer ${token}`))).status).toBe(200);
    expect((await of.ask(`${path}?${query}`, by(basic("alice", "x")))).status).toBe(401);
    expect(of.front.failedSignIns).toHaveLength(1);
  });

  test("is not there without the mode, nor for an address that may not come in", async () => {
    expect((await (await world(HTPASSWD())).ask("/auth/token", by(ALICE))).status).toBe(404);
    const bench = accessBench(signInOf(TOKEN()));
    const front = await startFront(stack, {
      signIn: { access: () => bench.access, anonymous, publicOrigin: undefined },
      access: { deny: ["127.0.0.0/8"] },
    });
    expect((await httpRequest(`${front.url}/auth/token`, by(ALICE))).status).toBe(403);
    expect(front.denied).toEqual(["address"]);
  });
});

describe("client certificates", () => {
  async function secured(mode: readonly string[]) {
    const authority = await createAuthority(stack);
    const server = await authority.issue(["127.0.0.1"]);
    const tls = { certFile: server.certFile, keyFile: server.keyFile, clientCaFile: authority.caFile };
    const files = { cert: server.certFile, key: server.keyFile, clientCa: authority.caFile };
    const bench = accessBench(
      signInOf({ mode, ...(mode.includes("htpasswd") ? { htpasswd: { file } } : {}) }, { tls: files }),
    );
    const front = await startFront(stack, {
      tls,
      signIn: { access: () => bench.access, anonymous, publicOrigin: undefined },
    });
    front.proxy.onManifest = () => manifestAnswer();
    const ask = async (path: string, shown?: Certificate, headers: Readonly<Record<string, string>> = {}) => {
      const pair = shown === undefined ? {} : { cert: shown.cert, key: shown.key };
      const request = https.get(`${front.url}${path}`, { rejectUnauthorized: false, agent: false, headers, ...pair });
      const [response] = (await once(request, "response")) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
    };
    return { authority, front, ask };
  }

  test("are who they say, by their common name; others are told that one is wanted", async () => {
    const { authority, front, ask } = await secured(["mtls"]);
    const node = await authority.issue(["node1"], { subject: "/O=Example/CN=node1" });
    const nameless = await authority.issue(["node2"], { subject: "/O=Example" });
    const foreign = await (await createAuthority(stack)).issue(["node1"], { subject: "/O=Example/CN=node1" });
    expect((await ask(MANIFEST, node)).status).toBe(200);
    // What it sends beside is of a kind that nobody takes here.
    expect((await ask(MANIFEST, node, { authorization: basic("me", HUB_PASSWORD) })).status).toBe(200);
    expect(front.proxy.calls).toMatchObject([
      { caller: { identity: { account: "node1", via: "certificate" } } },
      { caller: { identity: { account: "node1", via: "certificate" } } },
    ]);
    for (const shown of [undefined, nameless, foreign]) {
      const reply = await ask(MANIFEST, shown);
      expect(reply.status).toBe(403);
      expect(errorOf(reply)).toMatchObject({
        code: "DENIED",
        message: expect.stringContaining("a client certificate"),
      });
    }
  });

  test("stand behind passwords and tokens, and get tokens themselves", async () => {
    const { authority, front, ask } = await secured(["htpasswd", "token", "mtls"]);
    const node = await authority.issue(["node1"], { subject: "/CN=node1" });
    expect((await ask(MANIFEST, node, { authorization: ALICE })).status).toBe(200);
    expect((await ask(MANIFEST, node, { authorization: basic("alice", "x") })).status).toBe(401);
    const { token } = JSON.parse(
      (await ask("/auth/token?scope=repository:quay.io/team/app:pull", node)).body.toString(),
    );
    expect((await ask(MANIFEST, undefined, { authorization: `Bearer ${token}` })).status).toBe(200);
    expect(front.proxy.calls.map(({ caller }) => caller.identity.account)).toEqual(["alice", "node1"]);
    const ping = await ask("/v2/");
    expect(challengeOf(ping)?.realm).toBe(`${front.url}/auth/token`);
  });
});

test("what the proxy hears of a caller is all there is to know", async () => {
  const of = await world(TOKEN());
  await of.ask(MANIFEST, { headers: { authorization: ALICE, "user-agent": "ctr" } });
  const [call] = of.front.proxy.calls as readonly ManifestCall[];
  expect(call?.caller).toEqual({
    identity: { account: "alice", groups: [], via: "password", address: "127.0.0.1", grants: undefined },
    client: "127.0.0.1 ctr",
  });
  expect(JSON.stringify(call)).not.toContain(PASSWORD);
});
