/** What is served, to whom and by which way, on the running product: rules, addresses and proxies, exchanged while it runs. */
import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startConnectProxy } from "../support/connect-proxy.ts";
import { smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("library/app", smallImage("served"), ["1"]);
});

afterEach(() => stack.disposeAsync());

type Sections = Readonly<Record<string, unknown>>;

function sections(upstream: Sections = {}, access: Sections = {}): Sections {
  const realms = [new URL(hub.tokenUrl).hostname];
  const redirects = { allow: ["127.0.0.0/8"] };
  return { upstreams: { "docker.io": { endpoints: [hub.url], realms, redirects, ...upstream } }, access };
}

/** Puts sections in force in a running Weir. */
async function reload(weir: WeirProcess, changed: Sections): Promise<void> {
  const inForce = (): number => weir.output().split("is in force").length;
  const before = inForce();
  await writeFile(weir.file, JSON.stringify({ ...JSON.parse(await readFile(weir.file, "utf8")), ...changed }));
  weir.process.kill("SIGHUP");
  await until("the reload", () => inForce() > before);
}

/** The status, and the key that a refusal names. */
async function pull(weir: WeirProcess): Promise<readonly [number, unknown]> {
  const { status, body } = await httpRequest(`${weir.url}/v2/app/manifests/1`);
  return [status, status === 403 ? JSON.parse(body.toString()).errors[0].detail.key : undefined];
}

async function denied(weir: WeirProcess): Promise<readonly string[]> {
  const { body } = await httpRequest(`${weir.adminUrl}/metrics`);
  const lines = body.toString().split("\n");
  return lines.filter((line) => line.startsWith("weir_access_denied_total{"));
}

test("A3 O3 rules and addresses are live, each refusal names its key and is counted by its reason", async () => {
  const weir = await startWeir(stack, { config: sections() });
  expect(await pull(weir)).toEqual([200, undefined]);
  const asked = hub.ledger.length;
  await reload(weir, sections({ deny: ["team/*", "app"] }));
  expect(await pull(weir)).toEqual([403, "upstreams.docker.io.deny[1]"]);
  await reload(weir, sections({ allow: ["team/*"] }));
  expect(await pull(weir)).toEqual([403, "upstreams.docker.io.allow"]);
  await reload(weir, sections({}, { deny: ["127.0.0.0/8"] }));
  expect(await pull(weir)).toEqual([403, "access.deny[0]"]);
  // The operators' port has a list of its own.
  expect((await httpRequest(`${weir.adminUrl}/readyz`)).status).toBe(200);
  await reload(weir, sections());
  expect(await pull(weir)).toEqual([200, undefined]);
  const counts = await denied(weir);
  expect(counts.filter((line) => !line.endsWith(" 0"))).toEqual([
    'weir_access_denied_total{reason="address"} 1',
    'weir_access_denied_total{reason="content"} 2',
  ]);
  // Each reason is there from the start.
  expect(counts).toHaveLength(8);
  // The upstream kept its object and its tokens through all of it, and the tag was fresh.
  expect(hub.ledger.length).toBe(asked);
});

test("A4 everything of an upstream goes through its proxy, whose password is in no log line", async () => {
  const proxy = await startConnectProxy(stack, { account: "me:proxy-s3cret", resolve: (host) => host });
  const address = proxy.url.href.replace("//", "//me:proxy-s3cret@");
  const weir = await startWeir(stack, { config: sections({ proxy: address }), secrets: ["proxy-s3cret"] });
  expect(await pull(weir)).toEqual([200, undefined]);
  const hosts = (urls: readonly string[]): string[] => [...new Set(urls.map((url) => new URL(url).host))].sort();
  expect(hosts(proxy.ledger.map(({ target }) => target))).toEqual(hosts([hub.url, hub.tokenUrl]));
  expect(proxy.ledger).toHaveLength(hub.ledger.length);
  expect(hub.ledger.some(({ headers }) => "proxy-authorization" in headers)).toBe(false);
});

test("O1 a proxy's variable that is none ends the start with its name, and without its value", async () => {
  const starting = startWeir(stack, { config: sections(), env: { HTTPS_PROXY: "socks5://me:hunter2@proxy" } });
  const error = await starting.catch((reason: unknown) => String(reason));
  expect(error).toContain("HTTPS_PROXY is not a proxy's address");
  expect(error).not.toContain("hunter2");
});
