/** The ways in which a credential comes to be used, refused and exchanged, through the front door. */
import { chmod, mkdir, readdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { hubUpstream } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { tempFolder } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startEcrDouble } from "../support/registries/ecr.ts";
import { startWeir } from "../support/weir.ts";

const MINUTE_MS = 60_000;
const WRONG = "wrong-hunter2";
const RIGHT = "right-hunter2";

let stack: AsyncDisposableStack;
let hub: HubDouble;
let account: { readonly username: string; password: string };
/** Everything that clients, operators and files have got to see. */
let seen: string[];
const environment = { ...process.env };

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  account = { username: "weir", password: RIGHT };
  hub = await startHubDouble(stack, { accounts: [account] });
  for (const name of ["a", "b", "c"]) hub.add(`myorg/${name}`, smallImage(name), ["1"], "private");
  hub.add("library/nginx", smallImage("nginx"), ["1"]);
  seen = [];
});

afterEach(async () => {
  process.env = { ...environment };
  await stack.disposeAsync();
  // A4: of all that came out of these tests, nothing holds a password.
  expect(seen.join("\n")).not.toMatch(/hunter2/);
});

interface Weir extends TestApp {
  pull(repository: string): Promise<HttpReply>;
}

async function weir(
  credentials: readonly unknown[],
  o: { clock?: PausingClock; root?: string; upstreams?: Readonly<Record<string, unknown>> } = {},
): Promise<Weir> {
  const { clock = new PausingClock(Date.now()), root, upstreams } = o;
  const app = await startTestApp(stack, {
    config: {
      upstreams: upstreams ?? { "docker.io": { ...hubUpstream(hub), credentials } },
      access: { privateToAnonymous: true },
      freshness: { negative: "0s" },
      telemetry: { logLevel: "error" },
    },
    clock,
    ...(root === undefined ? {} : { root }),
  });
  return {
    ...app,
    async pull(repository) {
      const reply = await httpRequest(`${app.url}/v2/docker.io/${repository}/manifests/1`);
      seen.push(JSON.stringify(reply.headers), reply.status === 200 ? "" : reply.body.toString());
      seen.push((await httpRequest(`${app.adminUrl}/metrics`)).body.toString());
      return reply;
    },
  };
}

const password = (text: string, over: object = {}) => ({ label: "ci", username: "weir", password: text, ...over });
const auth = (text: string): string => Buffer.from(text).toString("base64");
/** How often anybody has signed in. Whether a repository is public is asked for anonymously beside that. */
const logins = (): number => hub.lines("token").filter((line) => line.includes(" basic ")).length;
const PARKED = { upstream: "docker.io", credential: "ci" };

test("U4 a wrong password is kept from the upstream until its park ends, also beyond a restart, while others' pulls go on", async () => {
  const clock = new PausingClock(Date.now());
  const first = await weir([password(WRONG, { repositories: ["myorg/*"] })], { clock });
  for (const name of ["a", "b", "a", "c"]) {
    const reply = await first.pull(`myorg/${name}`);
    expect(reply.status).toBe(502);
    const body = reply.body.toString();
    expect(body).toContain('"credential":"ci"');
  }
  expect(logins()).toBe(1);
  expect((await first.pull("library/nginx")).status).toBe(200);
  expect(await first.metric("weir_upstream_credential_parked", PARKED)).toBe(1);
  await first.stop();

  const records = await readdir(join(first.root, "weir/v1/credentials"));
  expect(records).toHaveLength(1);
  seen.push(await readFile(join(first.root, "weir/v1/credentials", records[0] ?? ""), "utf8"), ...records);
  hub.clearLedger();
  clock.advance(MINUTE_MS / 2);
  const second = await weir([password(WRONG, { repositories: ["myorg/*"] })], { clock, root: first.root });
  expect((await second.pull("myorg/a")).status).toBe(502);
  expect(logins()).toBe(0);
  expect(await second.metric("weir_upstream_credential_parked", PARKED)).toBe(1);

  clock.advance(MINUTE_MS / 2);
  expect((await second.pull("myorg/a")).status).toBe(502);
  expect(logins()).toBe(1);
  // It was the second refusal: two minutes now.
  clock.advance(MINUTE_MS);
  expect((await second.pull("myorg/a")).status).toBe(502);
  expect(logins()).toBe(1);
  clock.advance(MINUTE_MS);
  account.password = WRONG;
  expect((await second.pull("myorg/a")).status).toBe(200);
  expect(await second.metric("weir_upstream_credential_parked", PARKED)).toBe(0);
  await expect.poll(() => readdir(join(first.root, "weir/v1/credentials")).catch(() => [])).toEqual([]);
});

test("U4 a park ends when the secret changes, and only for the new one", async () => {
  const clock = new PausingClock(Date.now());
  const first = await weir([password(WRONG)], { clock });
  expect((await first.pull("myorg/a")).status).toBe(502);
  await first.stop();
  const second = await weir([password(RIGHT)], { clock, root: first.root });
  expect((await second.pull("myorg/a")).status).toBe(200);
  await second.stop();
  hub.clearLedger();
  const third = await weir([password(WRONG)], { clock, root: first.root });
  expect((await third.pull("myorg/b")).status).toBe(502);
  expect(logins()).toBe(0);
});

test("U4 another credential that applies takes its place within the same request", async () => {
  const app = await weir([password(WRONG), { ...password(RIGHT), label: "second" }]);
  expect((await app.pull("myorg/a")).status).toBe(200);
  expect(logins()).toBe(2);
  expect((await app.pull("myorg/b")).status).toBe(200);
  expect(logins()).toBe(3);
});

test("U10 a Kubernetes pull secret that is turned to another is used by the next request, without a reload", async () => {
  const mount = await tempFolder(stack);
  const turn = async (version: string, secret: string): Promise<void> => {
    await mkdir(join(mount, version));
    const config = { auths: { "https://index.docker.io/v1/": { auth: auth(`weir:${secret}`) } } };
    await writeFile(join(mount, version, ".dockerconfigjson"), JSON.stringify(config));
    await symlink(version, join(mount, "..tmp"));
    await rename(join(mount, "..tmp"), join(mount, "..data"));
  };
  await turn("..1", WRONG);
  await symlink("..data/.dockerconfigjson", join(mount, ".dockerconfigjson"));
  const app = await weir([{ label: "ci", dockerConfig: join(mount, ".dockerconfigjson") }]);
  expect((await app.pull("myorg/a")).status).toBe(502);
  await turn("..2", RIGHT);
  expect((await app.pull("myorg/a")).status).toBe(200);
  expect(logins()).toBe(2);
});

test("U10 a credential helper that prints rubbish is a 502 that says so, and nobody is signed in", async () => {
  const folder = await tempFolder(stack);
  await writeFile(join(folder, "docker-credential-rubbish"), "#!/bin/sh\necho hunter2\n");
  await chmod(join(folder, "docker-credential-rubbish"), 0o755);
  process.env.PATH = `${folder}${delimiter}${process.env.PATH}`;
  const file = join(folder, "config.json");
  await writeFile(file, JSON.stringify({ credsStore: "rubbish" }));
  const app = await weir([{ label: "ci", dockerConfig: file }]);
  const reply = await app.pull("myorg/a");
  expect(reply.status).toBe(502);
  expect(reply.body.toString()).toContain('"credential":"ci"');
  expect(logins()).toBe(0);
});

test("a registry of ECR is pulled from with a password that AWS gave, once for all, and with another when that is revoked", async () => {
  for (const name of Object.keys(process.env)) {
    if (/^AWS_|_proxy$/i.test(name)) delete process.env[name];
  }
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "AKIAWEIR", AWS_SECRET_ACCESS_KEY: "secret-hunter2" });
  const ecr = await startEcrDouble(stack, { accounts: [{ username: "AKIAWEIR", password: "secret-hunter2" }] });
  for (const name of ["one", "two", "three"]) ecr.add(name, smallImage(name), ["1"], "private");
  const credential = { label: "irsa", aws: { region: "eu-west-1", endpoint: ecr.apiUrl } };
  const upstreams = { "ecr.example": { type: "ecr", endpoints: [ecr.url], credentials: [credential] } };
  const clock = new PausingClock(Date.now());
  const app = await weir([], { upstreams, clock });
  const pull = async (name: string): Promise<number> =>
    (await httpRequest(`${app.url}/v2/ecr.example/${name}/manifests/1`)).status;
  expect([await pull("one"), await pull("two")]).toEqual([200, 200]);
  expect(ecr.lines("api")).toHaveLength(1);
  clock.advance(MINUTE_MS);
  ecr.revokePasswords();
  expect(await pull("three")).toBe(200);
  expect(ecr.lines("api")).toHaveLength(2);
  const labels = { upstream: "ecr.example", credential: "irsa" };
  expect(await app.metric("weir_upstream_credential_expiry_timestamp_seconds", labels)).toBeGreaterThan(
    Date.now() / 1000,
  );
  expect(ecr.leaks()).toEqual([]);
});

test("A4 the log at its most talkative holds no secret, whatever is wrong with the place where it is kept", async () => {
  const folder = await tempFolder(stack);
  const file = async (name: string, content: unknown): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  };
  await file("docker-credential-rubbish", "#!/bin/sh\necho hunter2; echo hunter2 >&2\n");
  await chmod(join(folder, "docker-credential-rubbish"), 0o755);
  const ecr = await startEcrDouble(stack, { accounts: [{ username: "AKIAWEIR", password: "other-s3cret" }] });
  const key = { type: "service_account", client_email: "weir@p.example", private_key: "key-hunter2" };
  const places: Readonly<Record<string, object>> = {
    password: { username: "weir", password: WRONG },
    entry: { dockerConfig: await file("entry.json", { auths: { "entry.example": { auth: auth(`weir:${WRONG}`) } } }) },
    broken: { dockerConfig: await file("broken.json", '{"auths": "hunter2') },
    helper: { dockerConfig: await file("helper.json", { credsStore: "rubbish" }) },
    aws: { aws: { region: "eu-west-1", endpoint: ecr.apiUrl } },
    gcp: { gcp: { keyFile: await file("key.json", key) } },
  };
  const upstreams = Object.entries(places).map(([name, place]) => [
    `${name}.example`,
    { ...hubUpstream(hub), credentials: [{ label: `by ${name}`, ...place }] },
  ]);
  const weirProcess = await startWeir(stack, {
    config: {
      upstreams: Object.fromEntries(upstreams),
      telemetry: { logLevel: "debug" },
      access: { privateToAnonymous: true },
    },
    env: {
      PATH: `${folder}${delimiter}${process.env.PATH}`,
      AWS_ACCESS_KEY_ID: "AKIAWEIR",
      AWS_SECRET_ACCESS_KEY: "secret-hunter2",
    },
  });
  for (const name of Object.keys(places)) {
    const reply = await httpRequest(`${weirProcess.url}/v2/${name}.example/myorg/a/manifests/1`);
    expect([name, reply.status]).toEqual([name, 502]);
    expect(reply.body.toString()).toContain(`"credential":"by ${name}"`);
    await expect.poll(() => weirProcess.output()).toContain(`credential \\"by ${name}\\"`);
    seen.push(reply.body.toString());
  }
  seen.push(weirProcess.output(), (await httpRequest(`${weirProcess.adminUrl}/metrics`)).body.toString());
});
