// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { mkdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { seededBlob } from "../support/fill-sources.ts";
import { sha256, smallImage } from "../support/images.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { freePort, tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const IN_FORCE = "the configuration was read again and is in force";
const REFUSED = "the configuration is refused";

type Sections = Readonly<Record<string, unknown>>;

let stack: AsyncDisposableStack;
let hub: HubDouble;
const account = { username: "ci", password: "" };

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  account.password = "first-not-to-be-seen";
  hub = await startHubDouble(stack, { accounts: [account] });
});

afterEach(() => stack.disposeAsync());

/** An upstream that is the double. */
function hubUpstream(more: Sections = {}): Sections {
  return {
    endpoints: [hub.url],
    realms: [new URL(hub.tokenUrl).hostname],
    redirects: { allow: ["127.0.0.0/8"] },
    ...more,
  };
}

async function weirWith(config: Sections): Promise<WeirProcess> {
  return await startWeir(stack, { config, secrets: ["not-to-be-seen"] });
}

/** How many log lines hold the text. */
function count(weir: WeirProcess, text: string): number {
  return weir.output().split(text).length - 1;
}

/** Writes sections of the file anew; the others stay as they are. */
async function rewrite(weir: WeirProcess, sections: Sections): Promise<void> {
  const held: Sections = JSON.parse(await readFile(weir.file, "utf8"));
  await writeFile(weir.file, JSON.stringify({ ...held, ...sections }));
}

/** SIGHUP, and the log line that it comes to. */
async function reload(weir: WeirProcess, line = IN_FORCE): Promise<void> {
  const before = count(weir, line);
  weir.process.kill("SIGHUP");
  await until(`"${line}"`, () => count(weir, line) > before);
}

async function metric(weir: WeirProcess, name: string): Promise<string[]> {
  const { body } = await httpRequest(`${weir.adminUrl}/metrics`);
  return body
    .toString()
    .split("\n")
    .filter((line) => line.startsWith(name));
}

const SUCCESS = "weir_config_reload_success";

function tag(weir: WeirProcess, name: string): Promise<HttpReply> {
  return httpRequest(`${weir.url}/v2/${name}`);
}

test("O3 20 reloads, each of which replaces the upstream, drop no request and break no download", async () => {
  const image = smallImage("held");
  const origin = await startBlobOrigin(stack);
  const big = seededBlob("under way", 3 * 1024 * 1024);
  hub.add("library/app", image, ["1"]);
  origin.add("big", big);
  const upstreams = (maxConnections: number) => ({
    "docker.io": hubUpstream({ type: "dockerhub", maxConnections }),
    "blobs.example": { ...origin.upstream, maxConnections },
  });
  const weir = await weirWith({ upstreams: upstreams(64), freshness: { rules: [], default: "0s" } });

  origin.sendUpTo(big.size / 2);
  const download = await getBlob(`${weir.url}/v2/blobs.example/big/blobs/${big.digest}`);
  await download.take(big.size / 4);
  const statuses = new Map<number, number>();
  const done = new AbortController();
  const asking = Array.from({ length: 4 }, async () => {
    while (!done.signal.aborted) {
      const { status, body } = await tag(weir, "docker.io/library/app/manifests/1");
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (status === 200) expect(sha256(body)).toBe(image.root.digest);
    }
  });
  try {
    for (let i = 0; i < 20; i += 1) {
      await rewrite(weir, { upstreams: upstreams(i % 2 === 0 ? 63 : 64) });
      await reload(weir);
    }
  } finally {
    done.abort();
    await Promise.all(asking);
  }
  expect([...statuses.keys()]).toEqual([200]);
  expect(count(weir, '"replaced":["docker.io","blobs.example"]')).toBe(20);

  origin.sendUpTo(big.size);
  expect(await download.compare(big)).toEqual({ bytes: big.size, complete: true });
  expect(origin.ledger).toEqual([[0, big.size]]);
});

test("O3 upstreams come and go, and those that stay keep their tokens", async () => {
  hub.add("app", smallImage("app"), ["1", "2"]);
  const weir = await weirWith({ upstreams: { "stays.example": hubUpstream(), "goes.example": hubUpstream() } });
  expect((await tag(weir, "stays.example/app/manifests/1")).status).toBe(200);
  expect((await tag(weir, "goes.example/app/manifests/1")).status).toBe(200);
  expect((await tag(weir, "comes.example/app/manifests/1")).status).toBe(404);

  hub.clearLedger();
  await rewrite(weir, { upstreams: { "stays.example": hubUpstream(), "comes.example": hubUpstream() } });
  await reload(weir);
  expect((await tag(weir, "stays.example/app/manifests/2")).status).toBe(200);
  expect(hub.lines()).toEqual(["registry GET /v2/app/manifests/2 bearer 200"]);
  expect((await tag(weir, "comes.example/app/manifests/1")).status).toBe(200);
  const gone = await tag(weir, "goes.example/app/manifests/1");
  expect([gone.status, JSON.parse(gone.body.toString()).errors[0].code]).toEqual([404, "NAME_UNKNOWN"]);

  const counted = (await metric(weir, "weir_http_requests_total")).join("\n");
  expect(counted).toContain('upstream="comes.example"');
});

test("O3 an upstream that was in trouble when it left is no alarm any more", async () => {
  const down = `http://127.0.0.1:${await freePort()}`;
  const upstreams = {
    "down.example": hubUpstream({ endpoints: [down] }),
    "fixed.example": hubUpstream({ endpoints: [down] }),
  };
  const weir = await weirWith({ upstreams });
  const alarms = async () => (await metric(weir, "weir_upstream_breaker_open{")).filter((line) => line.endsWith(" 1"));
  for (const name of Object.keys(upstreams)) {
    await until(`the breaker of ${name}`, async () => {
      expect((await tag(weir, `${name}/app/manifests/1`)).status).toBe(502);
      return (await alarms()).some((line) => line.includes(name));
    });
  }
  await rewrite(weir, { upstreams: { "fixed.example": hubUpstream() } });
  await reload(weir);
  expect(await alarms()).toEqual([]);
  hub.add("app", smallImage("app"), ["1"]);
  expect((await tag(weir, "fixed.example/app/manifests/1")).status).toBe(200);
});

test("O3 routing, freshness, access and the log level change while Weir runs", async () => {
  hub.add("app", smallImage("one"), ["1"]);
  hub.add("secret", smallImage("secret"), ["1"], "private");
  const { username, password } = account;
  const upstreams = { "reg.example": hubUpstream({ credentials: [{ label: "ci", username, password }] }) };
  const weir = await weirWith({ upstreams, telemetry: { logLevel: "error" } });
  expect((await tag(weir, "app/manifests/1")).status).toBe(404);
  expect((await tag(weir, "reg.example/app/manifests/1")).status).toBe(200);
  expect((await tag(weir, "reg.example/secret/manifests/1")).status).toBe(403);
  expect(weir.output()).not.toContain('"level":"info"');

  await rewrite(weir, {
    routing: { default: "reg.example" },
    access: { privateToAnonymous: true },
    freshness: { rules: [], default: "0s" },
    telemetry: { logLevel: "info" },
  });
  await reload(weir);
  hub.clearLedger();
  expect((await tag(weir, "app/manifests/1")).status).toBe(200);
  expect(hub.count({ method: "HEAD", path: /app\/manifests\/1$/ })).toBe(1);
  expect((await tag(weir, "secret/manifests/1")).status).toBe(200);
  await until("the access line", () => weir.output().includes('"msg":"request"'));
});

test("O3 a credential that is rotated by turning a link is used without a word from anybody", async () => {
  hub.add("myorg/app", smallImage("one"), ["1"], "private");
  hub.add("myorg/app", smallImage("two"), ["2"], "private");
  const mount = await tempFolder(stack);
  const rotate = async (version: string, password: string): Promise<void> => {
    await mkdir(join(mount, version));
    await writeFile(join(mount, version, "password"), `${password}\n`);
    await symlink(version, join(mount, "..tmp"));
    await rename(join(mount, "..tmp"), join(mount, "..data"));
  };
  await rotate("..1", account.password);
  await symlink("..data/password", join(mount, "password"));
  const credential = { label: "ci", username: account.username, password: `\${file:${mount}/password}` };
  const weir = await weirWith({
    upstreams: { "reg.example": hubUpstream({ credentials: [credential] }) },
    access: { privateToAnonymous: true },
  });
  expect((await tag(weir, "reg.example/myorg/app/manifests/1")).status).toBe(200);

  account.password = "second-not-to-be-seen";
  hub.revokeTokens();
  hub.clearLedger();
  await rotate("..2", account.password);
  await until("the new password to be read", () => count(weir, IN_FORCE) === 1);
  expect((await tag(weir, "reg.example/myorg/app/manifests/2")).status).toBe(200);
  expect(hub.lines("token")).toEqual(["token GET /token basic 200"]);
});

test("O3 what is broken or needs a restart leaves in force what is, and says why", async () => {
  hub.add("app", smallImage("app"), ["1"]);
  const weir = await weirWith({ upstreams: { "a.example": hubUpstream() } });
  const sound = await readFile(weir.file, "utf8");
  expect(await metric(weir, SUCCESS)).toContain(`${SUCCESS} 1`);

  await writeFile(weir.file, "upstreams: [");
  await reload(weir, REFUSED);
  expect(await metric(weir, SUCCESS)).toContain(`${SUCCESS} 0`);
  expect((await tag(weir, "a.example/app/manifests/1")).status).toBe(200);

  await writeFile(weir.file, sound);
  await rewrite(weir, { server: { listen: "127.0.0.1:1" }, upstreams: { "b.example": hubUpstream() } });
  await reload(weir, REFUSED);
  expect(weir.output()).toContain("server.listen needs a restart");
  expect(await metric(weir, SUCCESS)).toContain(`${SUCCESS} 0`);
  expect((await tag(weir, "b.example/app/manifests/1")).status).toBe(404);

  await writeFile(weir.file, sound);
  await rewrite(weir, { upstreams: { "a.example": hubUpstream({ endpoints: ["https://a"], tls: { ca: "no.pem" } }) } });
  await reload(weir, REFUSED);
  expect(weir.output()).toContain("upstreams.a.example.tls.ca: cannot read");
  expect((await tag(weir, "a.example/app/manifests/1")).status).toBe(200);

  await writeFile(weir.file, sound);
  await rewrite(weir, { upstreams: { "b.example": hubUpstream() } });
  await reload(weir);
  expect(await metric(weir, SUCCESS)).toContain(`${SUCCESS} 1`);
  expect((await tag(weir, "b.example/app/manifests/1")).status).toBe(200);
});
