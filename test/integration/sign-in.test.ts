/** Callers that sign in, on the running product: private repositories, changes while it runs, restarts, several processes. */

import { once } from "node:events";
import { appendFile, readFile, rm, stat, writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeSigningKey } from "../../src/access/token-keys.ts";
import { TOKEN_KEY_KEY } from "../../src/storage/layout.ts";
import { smallImage } from "../support/images.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { basic, claimsOf, htpasswd, issuerKey, signed } from "../support/sign-in.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const IMAGE = smallImage("secret");
const ACCOUNT = { username: "robot", password: "weirs-own-password-at-the-hub" };
const PASSWORD = "a-s3cret-of-alice";
/** What a container engine has for Docker Hub, and offers to whoever asks. */
const HUB_LOGIN = basic("somebody", "their-docker-hub-password");
const SECRETS = [
  ACCOUNT.password,
  PASSWORD,
  "their-docker-hub-password",
  basic("alice", PASSWORD).slice(6),
  HUB_LOGIN.slice(6),
];

type Sections = Readonly<Record<string, unknown>>;

let stack: AsyncDisposableStack;
let hub: HubDouble;
let file: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack, { accounts: [ACCOUNT] });
  hub.add("team/app", IMAGE, ["1"], "private");
  hub.add("library/app", smallImage("public"), ["1"]);
  file = join(await tempFolder(stack), "htpasswd");
  await writeFile(file, await htpasswd({ alice: PASSWORD }));
});

afterEach(() => stack.disposeAsync());

function sections(access: Sections): Sections {
  const upstream = {
    endpoints: [hub.url],
    realms: [new URL(hub.tokenUrl).hostname],
    redirects: { allow: ["127.0.0.0/8"] },
    credentials: [{ label: "robot", ...ACCOUNT }],
  };
  return { upstreams: { "docker.io": upstream }, access };
}

async function weirWith(access: Sections, workers = 1): Promise<WeirProcess> {
  return await startWeir(stack, { config: sections(access), workers, secrets: SECRETS });
}

const get = (weir: WeirProcess, path: string, authorization?: string): Promise<HttpReply> =>
  httpRequest(`${weir.url}${path}`, authorization === undefined ? {} : { headers: { authorization } });

async function tokenOf(
  weir: WeirProcess,
  query: string,
  authorization?: string,
): Promise<{ readonly token: string; readonly refresh_token: string }> {
  const reply = await get(weir, `/auth/token?${query}`, authorization);
  expect(reply.status).toBe(200);
  return JSON.parse(reply.body.toString());
}

const ALICE = basic("alice", PASSWORD);
const PRIVATE = "/v2/docker.io/team/app/manifests/1";
const PUBLIC = "/v2/docker.io/library/app/manifests/1";
const SCOPE = "scope=repository:docker.io/team/app:pull";

test("A1 a private repository is alice's, by password and by token, in every form, cold and warm; nobody else's", async () => {
  const weir = await weirWith({ mode: ["anonymous", "htpasswd", "token"], htpasswd: { file } });
  const blob = IMAGE.blobs[0]?.digest ?? "";
  const forms = [
    PRIVATE,
    "/v2/team/app/manifests/1",
    "/v2/team/app/manifests/1?ns=docker.io",
    "/docker.io/v2/team/app/manifests/1",
    "/v2/DOCKER.IO/team/app/manifests/1",
    "/v2/registry-1.docker.io/team/app/manifests/1",
    `/v2/docker.io/team/app/manifests/${IMAGE.root.digest}`,
    `/v2/docker.io/team/app/blobs/${blob}`,
    "/v2/docker.io/team/app/tags/list",
    `/v2/docker.io/team/app/referrers/${IMAGE.root.digest}`,
  ];
  const { token } = await tokenOf(weir, SCOPE, ALICE);
  const { token: nobodys } = await tokenOf(weir, SCOPE);
  const { token: other } = await tokenOf(weir, "scope=repository:docker.io/library/app:pull", ALICE);
  const expectClosed = async (): Promise<void> => {
    for (const form of forms) {
      for (const authorization of [undefined, HUB_LOGIN, `Bearer ${nobodys}`, `Bearer ${other}`, "Bearer a.b.c"]) {
        const reply = await get(weir, form, authorization);
        expect([form, authorization?.slice(0, 6), reply.status]).toEqual([form, authorization?.slice(0, 6), 401]);
        expect(reply.headers["www-authenticate"]).toContain('scope="repository:docker.io/team/app:pull"');
      }
    }
  };
  await expectClosed();
  for (const authorization of [ALICE, `Bearer ${token}`]) {
    for (const form of forms.slice(0, -1)) {
      expect([form, (await get(weir, form, authorization)).status]).toEqual([form, 200]);
    }
    await expectClosed();
  }
  // Who need not sign in does not have to.
  expect((await get(weir, PUBLIC)).status).toBe(200);
  // Nothing that clients sent has gone to the upstream.
  const sent = hub.ledger.flatMap(({ headers }) => headers.authorization ?? []);
  expect(sent).not.toContain(HUB_LOGIN);
  expect(sent).not.toContain(ALICE);
  expect(sent.some((authorization) => authorization.includes(token))).toBe(false);
});

test("A4 the access line names the account, and the failures are counted; no secret is anywhere", async () => {
  const weir = await weirWith({ mode: ["htpasswd", "token"], htpasswd: { file } });
  await get(weir, PUBLIC, ALICE);
  await get(weir, PUBLIC, HUB_LOGIN);
  await get(weir, PUBLIC);
  const accessLines = (): readonly string[] =>
    weir
      .output()
      .split("\n")
      .filter((line) => line.endsWith("}") && line.includes('"msg":"request"'));
  await until("three access lines", () => accessLines().length === 3);
  const lines = accessLines().map((line) => JSON.parse(line));
  expect(lines.map(({ account, status }) => [account, status])).toEqual([
    ["alice", 200],
    [undefined, 401],
    [undefined, 401],
  ]);
  const { body } = await httpRequest(`${weir.adminUrl}/metrics`);
  expect(body.toString()).toContain("\nweir_auth_failures_total 1\n");
  for (const secret of SECRETS) expect(body.toString()).not.toContain(secret);
});

test("the key is made once, for its user only, and outlasts a restart: so do tokens", async () => {
  const weir = await weirWith({ mode: ["htpasswd", "token"], htpasswd: { file } });
  const key = join(weir.root, TOKEN_KEY_KEY);
  expect((await stat(key)).mode & 0o777).toBe(0o600);
  const made = await readFile(key, "utf8");
  expect(made).toContain("PRIVATE KEY");
  const { token, refresh_token } = await tokenOf(weir, `${SCOPE}&offline_token=true`, ALICE);
  await weir.stop();
  await weir.start();
  expect(await readFile(key, "utf8")).toBe(made);
  expect((await get(weir, PRIVATE, `Bearer ${token}`)).status).toBe(200);
  const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token, service: "weir" }).toString();
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const refresh = () => httpRequest(`${weir.url}/auth/token`, { method: "POST", headers, body });
  expect((await refresh()).status).toBe(200);
  // Replayed after the account has gone.
  await writeFile(file, await htpasswd({ bob: "b" }));
  await until("the file to be read again", async () => (await refresh()).status === 401);
  expect((await get(weir, PRIVATE, `Bearer ${token}`)).status).toBe(401);
  expect((await get(weir, PRIVATE, ALICE)).status).toBe(401);
});

test("a change of the htpasswd file counts for names that come, go and have another password, without a reload", async () => {
  const weir = await weirWith({ mode: ["htpasswd", "token"], htpasswd: { file } }, 2);
  const bob = basic("bob", "of-bob");
  const changed = basic("alice", "another-of-alice");
  const { token } = await tokenOf(weir, SCOPE, ALICE);
  const statuses = (): Promise<readonly number[]> =>
    Promise.all(
      [ALICE, changed, bob, `Bearer ${token}`].map(async (by) => {
        // Of both workers, each of which has the next connection.
        const [one, other] = [await get(weir, PRIVATE, by), await get(weir, PRIVATE, by)];
        return one.status === other.status ? one.status : 0;
      }),
    );
  const become = (...expected: readonly number[]): Promise<void> =>
    until(`${expected}`, async () => (await statuses()).join() === expected.join());
  await become(200, 401, 401, 200);
  await appendFile(file, await htpasswd({ bob: "of-bob" }));
  await become(200, 401, 200, 200);
  await writeFile(file, await htpasswd({ alice: "another-of-alice", bob: "of-bob" }));
  await become(401, 200, 200, 401);
  await writeFile(file, "alice:$apr1$x$y\n");
  // It is looked at when somebody signs in.
  await until("the log to tell", async () => {
    await statuses();
    return weir.output().includes("line 1: the password of");
  });
  await become(401, 200, 200, 401);
  await writeFile(file, await htpasswd({ alice: "another-of-alice" }));
  await become(401, 200, 401, 401);
});

test("A5 the key is rolled over without a token lost: old ones are good while theirs is listed, and not beyond", async () => {
  const keys = await tempFolder(stack);
  const [first, second] = [join(keys, "first.pem"), join(keys, "second.pem")];
  await writeFile(first, makeSigningKey());
  await writeFile(second, makeSigningKey());
  const access = (key: string, oldKeys: readonly string[]): Sections => ({
    mode: ["htpasswd", "token"],
    htpasswd: { file },
    token: { key, oldKeys },
  });
  const weir = await weirWith(access(first, []));
  const inForce = async (key: string, ...oldKeys: readonly string[]): Promise<void> => {
    const count = (): number => weir.output().split("is in force").length;
    const before = count();
    const config = { ...JSON.parse(await readFile(weir.file, "utf8")), ...sections(access(key, oldKeys)) };
    await writeFile(weir.file, JSON.stringify(config));
    weir.process.kill("SIGHUP");
    await until("the change to be in force", () => count() > before);
  };
  const refresh = (refresh_token: string): Promise<HttpReply> =>
    httpRequest(`${weir.url}/auth/token`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token, service: "weir" }).toString(),
    });
  const old = await tokenOf(weir, `${SCOPE}&offline_token=true`, ALICE);

  // The next key is made known before anything is signed by it, and the one before stays known for a while.
  await inForce(first, second);
  await inForce(second, first);
  const fresh = await tokenOf(weir, `${SCOPE}&offline_token=true`, ALICE);
  for (const { token, refresh_token } of [old, fresh]) {
    expect((await get(weir, PRIVATE, `Bearer ${token}`)).status).toBe(200);
    expect((await refresh(refresh_token)).status).toBe(200);
  }

  await inForce(second);
  const refused = await get(weir, PRIVATE, `Bearer ${old.token}`);
  expect([refused.status, refused.headers["www-authenticate"]]).toEqual([
    401,
    expect.stringContaining("invalid_token"),
  ]);
  expect((await refresh(old.refresh_token)).status).toBe(401);
  expect((await get(weir, PRIVATE, `Bearer ${fresh.token}`)).status).toBe(200);
  expect((await refresh(fresh.refresh_token)).status).toBe(200);
});

test("workers take each other's tokens", async () => {
  const weir = await weirWith({ mode: ["htpasswd", "token"], htpasswd: { file } }, 2);
  const { token } = await tokenOf(weir, SCOPE, ALICE);
  // Each connection goes to the next.
  for (let i = 0; i < 6; i += 1) {
    expect((await get(weir, PRIVATE, `Bearer ${token}`)).status).toBe(200);
  }
});

test("O3 the ways to sign in are live, and files that cannot be used are refused with those in force", async () => {
  const weir = await weirWith({ mode: "anonymous" });
  const reload = async (access: Sections, line: string): Promise<void> => {
    const count = (): number => weir.output().split(line).length;
    const before = count();
    await writeFile(
      weir.file,
      JSON.stringify({ ...JSON.parse(await readFile(weir.file, "utf8")), ...sections(access) }),
    );
    weir.process.kill("SIGHUP");
    await until(line, () => count() > before);
  };
  expect((await get(weir, PUBLIC)).status).toBe(200);
  await reload({ mode: ["htpasswd", "token"], htpasswd: { file } }, "is in force");
  expect((await get(weir, PUBLIC)).status).toBe(401);
  const { token } = await tokenOf(weir, SCOPE, ALICE);
  expect((await get(weir, PRIVATE, `Bearer ${token}`)).status).toBe(200);
  const broken = join(await tempFolder(stack), "broken");
  await writeFile(broken, "alice:$apr1$x$y\n");
  await reload({ mode: "htpasswd", htpasswd: { file: broken } }, "the configuration is refused");
  expect(weir.output()).toContain("line 1: the password of");
  expect((await get(weir, PRIVATE, `Bearer ${token}`)).status).toBe(200);
  await reload({ mode: "anonymous" }, "is in force");
  expect((await get(weir, PUBLIC)).status).toBe(200);
  expect((await get(weir, "/auth/token", ALICE)).status).toBe(404);
});

test("ID tokens by discovery: over the wire, bounded, and with the token that the issuer wants to see", async () => {
  const key = issuerKey("one");
  const asked: (readonly [string | undefined, string | undefined])[] = [];
  const server = http.createServer((req, res) => {
    asked.push([req.url, req.headers.authorization]);
    const base = `http://${req.headers.host}`;
    switch (req.url) {
      case "/well/.well-known/openid-configuration":
        res.end(JSON.stringify({ issuer: `${base}/well`, jwks_uri: `${base}/keys` }));
        break;
      case "/keys":
        res.end(JSON.stringify({ keys: [key.jwk] }));
        break;
      case "/moved/.well-known/openid-configuration":
        res.writeHead(302, { location: `${base}/elsewhere` }).end();
        break;
      default: {
        const more = (): void => {
          while (res.write("x".repeat(65_536)));
        };
        res
          .writeHead(200)
          .on("drain", more)
          .on("error", () => {});
        more();
      }
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const tokenFile = join(await tempFolder(stack), "token");
  await writeFile(tokenFile, "of-a-service-account\n");
  const issuers = ["well", "moved", "endless"].map((name) => ({
    issuer: `${base}/${name}`,
    audience: "weir",
    tokenFile,
  }));
  const weir = await weirWith({ mode: "oidc", oidc: { issuers } });
  const exp = Math.floor(Date.now() / 1000) + 600;
  const tokenFrom = (name: string) => signed(key, { iss: `${base}/${name}`, aud: "weir", sub: "ci", exp });
  for (const name of ["moved", "endless"]) {
    const reply = await get(weir, PUBLIC, `Bearer ${await tokenFrom(name)}`);
    expect([name, reply.status]).toEqual([name, 503]);
  }
  expect(asked.map(([path]) => path)).not.toContain("/elsewhere");
  asked.length = 0;
  const token = await tokenFrom("well");
  expect((await get(weir, PUBLIC, `Bearer ${token}`)).status).toBe(200);
  expect((await get(weir, PRIVATE, basic("oidc", token))).status).toBe(200);
  expect(asked).toEqual([
    ["/well/.well-known/openid-configuration", "Bearer of-a-service-account"],
    ["/keys", "Bearer of-a-service-account"],
  ]);
  expect(weir.output()).not.toContain("of-a-service-account");
  expect(weir.output()).not.toContain(token);
});

test("a start without the file says what to do, and keeps no key for nobody", async () => {
  await rm(file);
  const failed = weirWith({ mode: ["htpasswd", "token"], htpasswd: { file } });
  await expect(failed).rejects.toThrow(`access.htpasswd.file: ${file} does not exist`);
});

test("what a token says is what was asked for, in Weir's own names", async () => {
  const weir = await weirWith({ mode: ["htpasswd", "token"], htpasswd: { file } });
  const { token } = await tokenOf(weir, "scope=repository:app:pull&scope=repository:made.up.example/a:pull", ALICE);
  expect(claimsOf(token).access).toEqual([{ type: "repository", name: "docker.io/library/app", actions: ["pull"] }]);
  expect((await get(weir, PUBLIC, `Bearer ${token}`)).status).toBe(200);
  expect((await get(weir, "/v2/app/manifests/1", `Bearer ${token}`)).status).toBe(200);
});
