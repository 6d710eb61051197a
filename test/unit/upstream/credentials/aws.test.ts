import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AwsCredentialConfig } from "../../../../src/config/types.ts";
import { awsLessor } from "../../../../src/upstream/credentials/aws.ts";
import type { Lease } from "../../../../src/upstream/credentials/renewed.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { tempFolder } from "../../../support/processes.ts";
import { startEcrDouble } from "../../../support/registries/ecr.ts";
import { startEcrPublicDouble } from "../../../support/registries/ecr-public.ts";
import { type ScriptReply, startScriptedServer } from "../../../support/scripted-server.ts";

const KEY_ID = "AKIAWEIRTEST";
const SECRET_KEY = "hunter2+the/secret+access+key";
const ACCOUNT = { username: KEY_ID, password: SECRET_KEY };
const ROLE = "arn:aws:iam::123456789012:role/weir";
const HOUR_MS = 3_600_000;
const signal = new AbortController().signal;

let stack: AsyncDisposableStack;
let folder: string;
const environment = { ...process.env };

/** Nothing of the machine's own AWS set-up, and no metadata service. */
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await tempFolder(stack);
  for (const name of Object.keys(process.env)) {
    if (/^AWS_|_proxy$/i.test(name)) delete process.env[name];
  }
  process.env.AWS_EC2_METADATA_DISABLED = "true";
  process.env.AWS_CONFIG_FILE = join(folder, "config");
  process.env.AWS_SHARED_CREDENTIALS_FILE = join(folder, "credentials");
});

afterEach(async () => {
  process.env = { ...environment };
  await stack.disposeAsync();
});

function useKeys(): void {
  process.env.AWS_ACCESS_KEY_ID = KEY_ID;
  process.env.AWS_SECRET_ACCESS_KEY = SECRET_KEY;
}

function lease(over: Partial<AwsCredentialConfig>, o = { signal }): Promise<Lease> {
  const config: AwsCredentialConfig = {
    source: "aws",
    label: "ecr",
    repositories: undefined,
    api: "ecr",
    region: "eu-west-1",
    profile: undefined,
    role: undefined,
    endpoint: undefined,
    ...over,
  };
  return awsLessor(config, { clock: new ManualClock() }).lease(o);
}

const role = { arn: ROLE, sessionName: "weir", externalId: undefined, webIdentityTokenFile: undefined };

/** An API that gives the same answer to everything. */
async function api(reply: ScriptReply) {
  const server = await startScriptedServer([{ when: { path: "/" }, reply }]);
  stack.defer(() => server.close());
  return server;
}

const TOKEN = Buffer.from("AWS:hunter2 the password").toString("base64");

function answer(expiresAtMs: number, date: Date): ScriptReply {
  const data = { authorizationToken: TOKEN, expiresAt: expiresAtMs / 1000, proxyEndpoint: "https://other.example" };
  return {
    headers: { "content-type": "application/x-amz-json-1.1", date: date.toUTCString() },
    body: JSON.stringify({ authorizationData: [data] }),
  };
}

/** STS' answer in its own protocol. */
function assumed(action: string): ScriptReply {
  const credentials = `<Credentials><AccessKeyId>${KEY_ID}</AccessKeyId><SecretAccessKey>${SECRET_KEY}</SecretAccessKey><SessionToken>hunter2-session</SessionToken><Expiration>${new Date(Date.now() + HOUR_MS).toISOString()}</Expiration></Credentials>`;
  const result = `<${action}Result>${credentials}<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/weir/weir</Arn><AssumedRoleId>A:weir</AssumedRoleId></AssumedRoleUser></${action}Result>`;
  return {
    headers: { "content-type": "text/xml" },
    body: `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${result}<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></${action}Response>`,
  };
}

async function sts(reply: ScriptReply) {
  const server = await api(reply);
  process.env.AWS_ENDPOINT_URL_STS = server.url.origin;
  return { forms: () => server.ledger.map(({ body }) => Object.fromEntries(new URLSearchParams(body))) };
}

describe("a password for ECR", () => {
  test("by access keys in the environment, for as long as AWS says", async () => {
    const ecr = await startEcrDouble(stack, { accounts: [ACCOUNT] });
    useKeys();
    const got = await lease({ endpoint: new URL(ecr.apiUrl) });
    expect(got).toMatchObject({ form: "password", username: "AWS", expires: true });
    expect(got.secret.reveal()).toMatch(/^pw-/);
    expect(Math.abs(got.lifetimeMs - 12 * HOUR_MS)).toBeLessThan(5_000);
    expect(ecr.lines("api")).toHaveLength(1);
  });

  test("by a profile of the shared files, which are read again each time", async () => {
    const ecr = await startEcrDouble(stack, { accounts: [ACCOUNT] });
    const profile = { profile: "weir", endpoint: new URL(ecr.apiUrl) };
    await expect(lease(profile)).rejects.toMatchObject({ fault: "credential" });
    const keys = `[weir]\naws_access_key_id = ${KEY_ID}\naws_secret_access_key = ${SECRET_KEY}\n`;
    await writeFile(join(folder, "credentials"), keys);
    expect((await lease(profile)).secret.reveal()).toMatch(/^pw-/);
  });

  test("ECR Public, whose answer holds an object, in its one region", async () => {
    const ecr = await startEcrPublicDouble(stack, { accounts: [ACCOUNT] });
    useKeys();
    const got = await lease({ api: "ecr-public", region: "us-east-1", endpoint: new URL(ecr.apiUrl) });
    expect(got).toMatchObject({ form: "password", username: "AWS", expires: true });
  });

  test("by a role that the default chain may take on, with its external ID", async () => {
    const ecr = await startEcrDouble(stack, { accounts: [ACCOUNT] });
    const { forms } = await sts(assumed("AssumeRole"));
    useKeys();
    await lease({ role: { ...role, externalId: "e-1" }, endpoint: new URL(ecr.apiUrl) });
    expect(forms()).toMatchObject([
      { Action: "AssumeRole", RoleArn: ROLE, RoleSessionName: "weir", ExternalId: "e-1" },
    ]);
  });

  test("by a web identity, whose token is read again each time", async () => {
    const ecr = await startEcrDouble(stack, { accounts: [ACCOUNT] });
    const { forms } = await sts(assumed("AssumeRoleWithWebIdentity"));
    const webIdentityTokenFile = join(folder, "token");
    for (const token of ["one", "two"]) {
      await writeFile(webIdentityTokenFile, token);
      await lease({ role: { ...role, webIdentityTokenFile }, endpoint: new URL(ecr.apiUrl) });
    }
    expect(forms().map(({ WebIdentityToken }) => WebIdentityToken)).toEqual(["one", "two"]);
    expect(forms()[0]).toMatchObject({ Action: "AssumeRoleWithWebIdentity", RoleArn: ROLE, RoleSessionName: "weir" });
  });

  test("by the variables that EKS sets for a service account (IRSA)", async () => {
    const ecr = await startEcrDouble(stack, { accounts: [ACCOUNT] });
    const { forms } = await sts(assumed("AssumeRoleWithWebIdentity"));
    process.env.AWS_ROLE_ARN = ROLE;
    process.env.AWS_WEB_IDENTITY_TOKEN_FILE = join(folder, "token");
    await writeFile(join(folder, "token"), "projected");
    await lease({ endpoint: new URL(ecr.apiUrl) });
    expect(forms()).toMatchObject([{ RoleArn: ROLE, WebIdentityToken: "projected" }]);
  });

  test.each([13, -13])("U5 lasts as long where this machine's clock is %d h ahead", async (hours) => {
    useKeys();
    const theirs = Math.floor(Date.now() / 1000) * 1000 - hours * HOUR_MS;
    const { url } = await api(answer(theirs + 12 * HOUR_MS, new Date(theirs)));
    expect((await lease({ endpoint: url })).lifetimeMs).toBe(12 * HOUR_MS);
  });
});

describe("no password", () => {
  const json = (status: number, type: string, message = "hunter2 in the message"): ScriptReply => ({
    status,
    headers: { "content-type": "application/x-amz-json-1.1" },
    body: JSON.stringify({ __type: type, message }),
  });
  const xml = (status: number, code: string, message: string): ScriptReply => ({
    status,
    headers: { "content-type": "text/xml" },
    body: `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
  });

  async function failure(over: Partial<AwsCredentialConfig>): Promise<{ fault: string; message: string }> {
    const error: unknown = await lease(over).catch((reason: unknown) => reason);
    if (!(error instanceof Error && "fault" in error)) throw new Error(`no SourceError: ${String(error)}`);
    expect(`${error.stack} ${JSON.stringify(error)}`).not.toContain("hunter2");
    return { fault: String(error.fault), message: error.message };
  }

  test("nothing to sign in with", async () => {
    expect(await failure({})).toEqual({
      fault: "credential",
      message:
        "AWS' default chain finds nothing to sign in with; give Weir a role of its workload or instance, AWS_* variables, or aws.profile (CredentialsProviderError)",
    });
  });

  const denied = "User: arn:aws:sts::123456789012:assumed-role/node/i-0 is not authorized, hunter2";
  const answers: [string, ScriptReply, string, string][] = [
    [
      "no permission",
      json(400, "AccessDeniedException", denied),
      "credential",
      "AWS does not let Weir have passwords; allow ecr:GetAuthorizationToken; it signs in as arn:aws:sts::123456789012:assumed-role/node/i-0 (AccessDeniedException)",
    ],
    [
      "keys that are not known",
      json(400, "UnrecognizedClientException"),
      "credential",
      "AWS refuses what Weir signs in with; look at its keys, its token file and the clock (UnrecognizedClientException)",
    ],
    [
      "a wrong signature, of which AWS quotes everything",
      json(403, "InvalidSignatureException"),
      "credential",
      "AWS refuses what Weir signs in with; look at its keys, its token file and the clock (InvalidSignatureException)",
    ],
    [
      "an answer without a password",
      { body: "{}" },
      "status",
      "AWS answered GetAuthorizationToken without a user name",
    ],
    [
      "an answer with rubbish",
      { body: JSON.stringify({ authorizationData: [{ authorizationToken: "hunter2" }] }) },
      "status",
      "AWS answered GetAuthorizationToken without a user name and password",
    ],
  ];
  test.each(answers)("%s", async (_name, reply, fault, message) => {
    useKeys();
    const { url } = await api(reply);
    const found = await failure({ endpoint: url });
    expect(found.fault).toBe(fault);
    expect(found.message).toContain(message);
  });

  test.each([
    ["throttled", json(400, "ThrottlingException")],
    ["in trouble", json(503, "ServerException")],
  ])("AWS is %s", async (_name, reply) => {
    useKeys();
    // One try: what the SDK does between its tries takes time.
    process.env.AWS_MAX_ATTEMPTS = "1";
    const { url } = await api(reply);
    expect(await failure({ endpoint: url })).toMatchObject({ fault: "status" });
  });

  test("AWS is not reached", async () => {
    useKeys();
    process.env.AWS_MAX_ATTEMPTS = "1";
    const server = await startScriptedServer([]);
    await server.close();
    expect(await failure({ endpoint: server.url })).toEqual({
      fault: "connect",
      message:
        "AWS cannot be reached for a password (ECONNREFUSED); is there a way to the APIs of ECR and STS in eu-west-1?",
    });
  });

  test("a role that may not be taken on", async () => {
    await sts(xml(403, "AccessDenied", "User: arn:aws:iam::1:user/me is not authorized to perform: sts:AssumeRole"));
    useKeys();
    expect(await failure({ role })).toEqual({
      fault: "credential",
      message: `AWS does not let Weir take on ${ROLE}; its trust policy must allow Weir's own identity; it signs in as arn:aws:iam::1:user/me (AccessDenied)`,
    });
  });

  test("a token file that is not there", async () => {
    const webIdentityTokenFile = join(folder, "absent");
    expect(await failure({ role: { ...role, webIdentityTokenFile } })).toMatchObject({
      fault: "credential",
      message: "a file to sign in to AWS with cannot be read (ENOENT); see aws.webIdentityTokenFile (Error)",
    });
  });

  test("whoever asked has left", async () => {
    useKeys();
    const { url } = await api({ hang: true });
    const leaving = new AbortController();
    const asked = lease({ endpoint: url }, { signal: leaving.signal }).catch((reason: unknown) => reason);
    leaving.abort(new Error("the client left"));
    expect(String(await asked)).toBe("Error: the client left");
  });
});
