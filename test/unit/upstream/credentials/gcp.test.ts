import { generateKeyPairSync, verify } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { GcpCredentialConfig } from "../../../../src/config/types.ts";
import { gcpLessor } from "../../../../src/upstream/credentials/gcp.ts";
import type { Lease } from "../../../../src/upstream/credentials/renewed.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { tempFolder } from "../../../support/processes.ts";
import { type ScriptEntry, type ScriptReply, startScriptedServer } from "../../../support/scripted-server.ts";

const signal = new AbortController().signal;
const HOUR_MS = 3_600_000;
const { privateKey, publicKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
});

let stack: AsyncDisposableStack;
let folder: string;
const environment = { ...process.env };

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await tempFolder(stack);
  for (const name of Object.keys(process.env)) {
    if (/^(GCE_METADATA|GOOGLE_)|_proxy$/i.test(name)) delete process.env[name];
  }
});

afterEach(async () => {
  process.env = { ...environment };
  await stack.disposeAsync();
});

async function serve(entries: readonly ScriptEntry[]) {
  const server = await startScriptedServer(entries);
  stack.defer(() => server.close());
  return server;
}

const json = (body: unknown, headers: Readonly<Record<string, string>> = {}): ScriptReply => ({
  headers: { "content-type": "application/json", ...headers },
  body: JSON.stringify(body),
});

async function keyFile(content: unknown): Promise<string> {
  const path = join(folder, "key.json");
  await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

function serviceAccount(tokenUrl: URL): Readonly<Record<string, string>> {
  return {
    type: "service_account",
    project_id: "p",
    private_key_id: "k1",
    private_key: privateKey,
    client_email: "weir@p.iam.gserviceaccount.com",
    token_uri: tokenUrl.href,
  };
}

/** Of the tokens that a Kubernetes cluster writes into a file. */
async function federation(server: URL): Promise<string> {
  await writeFile(join(folder, "subject"), "kubernetes-token");
  return await keyFile({
    type: "external_account",
    audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
    subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
    token_url: new URL("/sts", server).href,
    service_account_impersonation_url: new URL("/impersonate", server).href,
    credential_source: { file: join(folder, "subject") },
  });
}

function lease(over: Partial<GcpCredentialConfig> = {}): Promise<Lease> {
  const config: GcpCredentialConfig = {
    source: "gcp",
    label: "gar",
    repositories: undefined,
    keyFile: undefined,
    scopes: undefined,
    ...over,
  };
  return gcpLessor(config, { clock: new ManualClock() }).lease({ signal });
}

function expectToken(got: Lease, token: string): void {
  expect(got).toMatchObject({ form: "password", username: "oauth2accesstoken", expires: true });
  expect(got.secret.reveal()).toBe(token);
  expect(Math.abs(got.lifetimeMs - HOUR_MS)).toBeLessThan(5_000);
}

describe("an access token for Google's registries", () => {
  test("by a service account's key, at the address that the key names", async () => {
    const reply = json({ access_token: "ya29.one", expires_in: 3600, token_type: "Bearer" });
    const server = await serve([{ when: { method: "POST", path: "/token" }, reply }]);
    const path = await keyFile(serviceAccount(new URL("/token", server.url)));
    expectToken(await lease({ keyFile: path }), "ya29.one");
    const form = new URLSearchParams(server.ledger[0]?.body);
    expect(form.get("grant_type")).toBe("urn:ietf:params:oauth:grant-type:jwt-bearer");
    const [header = "", payload = "", signature = ""] = form.get("assertion")?.split(".") ?? [];
    const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString());
    expect(claims).toMatchObject({
      iss: "weir@p.iam.gserviceaccount.com",
      scope:
        "https://www.googleapis.com/auth/cloud-platform.read-only https://www.googleapis.com/auth/devstorage.read_only",
    });
    const signed = Buffer.from(`${header}.${payload}`);
    expect(verify("sha256", signed, publicKey, Buffer.from(signature, "base64url"))).toBe(true);
  });

  test("with the scopes that are configured, and the key as it is now", async () => {
    const reply = json({ access_token: "t", expires_in: 3600 });
    const server = await serve([{ when: { method: "POST", path: /^\/(one|two)$/ }, reply }]);
    for (const path of ["/one", "/two"]) {
      const file = await keyFile(serviceAccount(new URL(path, server.url)));
      await lease({ keyFile: file, scopes: ["https://scope.example"] });
    }
    expect(server.lines).toEqual(["POST /one", "POST /two"]);
    const assertion = new URLSearchParams(server.ledger[0]?.body).get("assertion") ?? "";
    expect(Buffer.from(assertion.split(".")[1] ?? "", "base64url").toString()).toContain(
      '"scope":"https://scope.example"',
    );
  });

  test("by the metadata server, for the workload as it is", async () => {
    const reply = json({ access_token: "ya29.meta", expires_in: 3600 }, { "metadata-flavor": "Google" });
    const path = "/computeMetadata/v1/instance/service-accounts/default/token";
    const server = await serve([{ when: { path, headers: { "metadata-flavor": "Google" } }, reply }]);
    process.env.GCE_METADATA_HOST = server.url.host;
    expectToken(await lease(), "ya29.meta");
    expect(server.ledger[0]?.query.has("scopes")).toBe(false);
  });

  test("by federation: a Kubernetes token, exchanged, and a service account taken on", async () => {
    const expireTime = new Date(Date.now() + HOUR_MS).toISOString();
    const server = await serve([
      { when: { method: "POST", path: "/sts" }, reply: json({ access_token: "federated", expires_in: 3600 }) },
      {
        when: { method: "POST", path: "/impersonate", headers: { authorization: "Bearer federated" } },
        reply: json({ accessToken: "ya29.weir", expireTime }),
      },
    ]);
    const path = await federation(server.url);
    expectToken(await lease({ keyFile: path }), "ya29.weir");
    expect(new URLSearchParams(server.ledger[0]?.body).get("subject_token")).toBe("kubernetes-token");
    expect(JSON.parse(server.ledger[1]?.body ?? "")).toMatchObject({
      scope: [
        "https://www.googleapis.com/auth/cloud-platform.read-only",
        "https://www.googleapis.com/auth/devstorage.read_only",
      ],
    });
  });

  test("U5 that ends by a clock far from this machine's lasts its usual hour", async () => {
    const server = await serve([
      { when: { method: "POST", path: "/sts" }, reply: json({ access_token: "federated", expires_in: 3600 }) },
      {
        when: { method: "POST", path: "/impersonate" },
        reply: json({ accessToken: "ya29.weir", expireTime: new Date(Date.now() - 12 * HOUR_MS).toISOString() }),
      },
    ]);
    const path = await federation(server.url);
    expectToken(await lease({ keyFile: path }), "ya29.weir");
  });
});

describe("no access token", () => {
  async function failure(over: Partial<GcpCredentialConfig>): Promise<{ fault: string; message: string }> {
    const error: unknown = await lease(over).catch((reason: unknown) => reason);
    if (!(error instanceof Error && "fault" in error)) throw new Error(`no SourceError: ${String(error)}`);
    expect(`${error.stack} ${JSON.stringify(error)}`).not.toContain("hunter2");
    return { fault: String(error.fault), message: error.message };
  }

  async function refusing(status: number, body: unknown): Promise<string> {
    const server = await serve([{ when: { path: /./ }, reply: { ...json(body), status } }]);
    return await keyFile(serviceAccount(new URL("/token", server.url)));
  }

  test("a key that Google refuses", async () => {
    const path = await refusing(400, { error: "invalid_grant", error_description: "hunter2" });
    expect(await failure({ keyFile: path })).toEqual({
      fault: "credential",
      message: `${path} gets no access token (invalid_grant); was the key deleted, or what it refers to changed, and is the clock right?`,
    });
  });

  test("an answer without a token", async () => {
    const server = await serve([
      { when: { path: "/sts" }, reply: json({ access_token: "hunter2", expires_in: 3600 }) },
      { when: { path: "/impersonate" }, reply: json({ expireTime: new Date().toISOString() }) },
    ]);
    expect(await failure({ keyFile: await federation(server.url) })).toEqual({
      fault: "status",
      message: "Google answered without an access token",
    });
  });

  test.each([
    ["hunter2", "is not the JSON of a key or of a federation's configuration"],
    ['"hunter2"', "is not the JSON of a key or of a federation's configuration"],
    [{ type: "authorized_user", refresh_token: "hunter2" }, "is neither a service account's key nor a federation's"],
    [{ type: "service_account", client_email: "a@b", private_key: "hunter2" }, "gets no access token ("],
    [{ type: "service_account", private_key: "hunter2" }, "gets no access token ("],
    [{ type: "external_account", audience: "hunter2" }, "gets no access token ("],
  ])("a key file that holds %j", async (content, expected) => {
    const path = await keyFile(content);
    const found = await failure({ keyFile: path });
    expect(found).toMatchObject({ fault: "credential" });
    expect(found.message).toContain(path);
    expect(found.message).toContain(expected);
  });

  test("a key file that is not there", async () => {
    const path = join(folder, "absent.json");
    expect(await failure({ keyFile: path })).toEqual({
      fault: "credential",
      message: `the file ${path} cannot be read (ENOENT); is it mounted, and may Weir read it?`,
    });
  });

  test("a workload without a service account", async () => {
    const server = await serve([{ when: { path: /./ }, reply: { status: 404, body: "hunter2" } }]);
    process.env.GCE_METADATA_HOST = server.url.host;
    expect(await failure({})).toEqual({
      fault: "credential",
      message:
        "the metadata server gives Weir no access token (status 404); give its workload or instance a service account",
    });
  });
});
