/** The shipped config/nginx/mirror-allow-deny.conf: nginx decides who may come in. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { startTestApp, type TestApp } from "../../support/app.ts";
import { createAuthority } from "../../support/certificates.ts";
import { expectStatus, hubUpstream } from "../../support/hub-weir.ts";
import { smallImage } from "../../support/images.ts";
import { type HttpReply, httpRequest } from "../../support/network.ts";
import { from, type Relay, shippedNginx, startNginx, startRelay } from "../../support/nginx.ts";
import { freePort, run, tempFolder } from "../../support/processes.ts";
import { startHubDouble } from "../../support/registries/dockerhub.ts";
import { basic } from "../../support/sign-in.ts";
import { toolTest } from "../../support/tools.ts";

const TOOLS = ["nginx", "openssl"];
const IMAGE = smallImage("allow-deny");
const PASSWORD = "a-s3cret-of-alice";
const MANIFEST = "/v2/team/app/manifests/1?ns=docker.io";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

interface Site {
  readonly app: TestApp;
  readonly relay: Relay;
  ask(client: string, headers?: Readonly<Record<string, string>>): Promise<HttpReply>;
}

/** 127.0.2.0/24 is allowed, but for 127.0.2.66. */
async function site(changes: Readonly<Record<string, string>> = {}): Promise<Site> {
  const hub = await startHubDouble(stack);
  hub.add("team/app", IMAGE, ["1"]);
  const app = await startTestApp(stack, {
    config: {
      server: { listen: "127.0.0.1:0", trustedProxies: ["127.0.0.1"] },
      upstreams: { "docker.io": hubUpstream(hub) },
      access: { deny: ["127.0.2.9"] },
    },
  });
  const relay = await startRelay(stack, app.url);
  const authority = await createAuthority(stack);
  const { certFile, keyFile } = await authority.issue(["localhost"]);
  const passwords = join(await tempFolder(stack), "htpasswd");
  // What crypt() makes of passwords is the system's matter; this form is nginx's own.
  const { stdout } = await run(["openssl", "passwd", "-apr1", PASSWORD]);
  await writeFile(passwords, `alice:${stdout.trim()}\n`);
  const port = await freePort();
  const text = await shippedNginx("mirror-allow-deny.conf", {
    "server 127.0.0.1:5000;": `server ${relay.host};`,
    "listen 443 ssl;": `listen 127.0.0.1:${port} ssl;`,
    "listen [::]:443 ssl;": "",
    "/etc/nginx/tls/weir.crt": certFile,
    "/etc/nginx/tls/weir.key": keyFile,
    "deny 10.66.0.0/16;": "deny 127.0.2.66;",
    "allow 10.0.0.0/8;": "allow 127.0.2.0/24;",
    "auth_basic_user_file /etc/nginx/weir.htpasswd;": `auth_basic_user_file ${passwords};`,
    ...changes,
  });
  await startNginx(stack, { http: text, port });
  const ca = await readFile(authority.caFile, "utf8");
  return {
    app,
    relay,
    ask: (client, headers = {}) =>
      httpRequest(`http://127.0.0.1:${port}${MANIFEST}`, { network: from(client, ca), headers }),
  };
}

toolTest(TOOLS, "an allowed address, or a password: nobody else reaches Weir, and Weir knows who comes", async () => {
  const { ask, relay } = await site();
  const authorization = basic("alice", PASSWORD);
  expect(expectStatus(200, await ask("127.0.2.1")).body.equals(IMAGE.root.bytes)).toBe(true);
  expectStatus(200, await ask("127.0.3.1", { authorization }));
  // Neither sees the password, nor believes what clients say of themselves.
  expect(relay.seen.map(({ sent }) => [sent.authorization, sent["x-forwarded-for"]])).toEqual([
    [undefined, "127.0.2.1"],
    [undefined, "127.0.3.1"],
  ]);
  const refused = [
    await ask("127.0.3.1"),
    await ask("127.0.2.66"),
    await ask("127.0.3.1", { "x-forwarded-for": "127.0.2.1" }),
    await ask("127.0.3.1", { authorization: basic("alice", "wrong") }),
  ];
  for (const reply of refused) {
    expect([reply.status, reply.headers["www-authenticate"]]).toEqual([401, 'Basic realm="Weir"']);
    expect(reply.headers["content-type"]).toBe("application/json");
    expect(JSON.parse(reply.body.toString())).toMatchObject({ errors: [{ code: "UNAUTHORIZED" }] });
  }
  expect(relay.seen).toHaveLength(2);
  // Weir's own lists count behind nginx, too.
  const denied = expectStatus(403, await ask("127.0.2.9", { "x-forwarded-for": "127.0.2.1" }));
  expect(JSON.parse(denied.body.toString()).errors[0].detail.key).toBe("access.deny[0]");
});

toolTest(TOOLS, "by address alone, as for mirrors: a refusal that asks for no password", async () => {
  const { ask, relay } = await site({
    'auth_basic "Weir";': "",
    "auth_basic_user_file /etc/nginx/weir.htpasswd;": "",
  });
  expectStatus(200, await ask("127.0.2.1"));
  for (const client of ["127.0.3.1", "127.0.2.66"]) {
    const reply = expectDenied(await ask(client));
    expect(reply.headers).not.toHaveProperty("www-authenticate");
  }
  expect(relay.seen).toHaveLength(1);
});

function expectDenied(reply: HttpReply): HttpReply {
  expect([reply.status, JSON.parse(reply.body.toString()).errors[0].code]).toEqual([403, "DENIED"]);
  return reply;
}
