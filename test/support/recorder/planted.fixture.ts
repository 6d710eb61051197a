/** Tests in which a secret gets where it does not belong, which they do not look for: recorder.test.ts runs them. */
import { afterEach, beforeEach, test } from "vitest";
import { startTestApp } from "../app.ts";
import { hubUpstream } from "../hub-weir.ts";
import { smallImage } from "../images.ts";
import { httpRequest } from "../network.ts";
import { startCollector } from "../otlp.ts";
import { type HubDouble, startHubDouble } from "../registries/dockerhub.ts";
import { startWeir } from "../weir.ts";

const PASSWORD = "dckr-pat-planted";

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack, { accounts: [{ username: "weir", password: PASSWORD }] });
  hub.add("team/app", smallImage("app"), ["1"], "private");
});

afterEach(() => stack.disposeAsync());

function config() {
  const credentials = [{ label: "ci", username: "weir", password: PASSWORD }];
  return { upstreams: { "docker.io": { ...hubUpstream(hub), credentials } }, access: { privateToAnonymous: true } };
}

const PULL = "/v2/docker.io/team/app/manifests/1";

test("nothing planted", async () => {
  const { url } = await startTestApp(stack, { config: config() });
  await httpRequest(url + PULL);
});

test("in a log line of a Weir within the process", async () => {
  const { url } = await startTestApp(stack, { config: config() });
  await httpRequest(url + PULL, { headers: { "user-agent": PASSWORD } });
});

test("in the output of a process", async () => {
  const { url } = await startWeir(stack, { config: config() });
  await httpRequest(url + PULL, { headers: { "user-agent": PASSWORD } });
});

test("a token in the body of an error", async () => {
  const { url } = await startTestApp(stack, { config: config() });
  await httpRequest(url + PULL);
  const token = hub.ledger.find(({ authorization }) => authorization === "bearer")?.headers.authorization?.slice(7);
  await httpRequest(`${url}/v2/docker.io/team/app/blobs/${token}`);
});

test("in what a collector of traces is sent", async () => {
  const collector = await startCollector(stack);
  const { url, stop } = await startTestApp(stack, {
    config: { ...config(), telemetry: { logLevel: "error", otlpEndpoint: collector.url } },
  });
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  await httpRequest(`${url}/v2/`, { headers: { traceparent, tracestate: `vendor=${PASSWORD}` } });
  await stop();
});

test("in a page for operators", async () => {
  const { url } = await startTestApp(stack, {
    config: { ...config(), upstreams: { ...config().upstreams, [`${PASSWORD}.example`]: {} } },
  });
  await httpRequest(url + PULL);
});

test("an Authorization header to the blob store", async () => {
  await httpRequest(`${hub.urlOf("cdn")}/blob`, { headers: { authorization: "Bearer anything" } });
});

test("a cookie to the registry", async () => {
  await httpRequest(`${hub.url}/v2/`, { headers: { cookie: "a=b" } });
});

test("a password in a URL", async () => {
  await httpRequest(`${hub.tokenUrl}?password=${PASSWORD}`);
});

test("another registry's password", async () => {
  const other = await startHubDouble(stack);
  const authorization = `Basic ${Buffer.from(`weir:${PASSWORD}`).toString("base64")}`;
  await httpRequest(other.tokenUrl, { headers: { authorization } });
});

test("a password that is configured for another host", async () => {
  const other = await startHubDouble(stack);
  const wrong = "a-password-of-nobody";
  const credentials = [{ label: "ci", username: "weir", password: wrong }];
  await startTestApp(stack, { config: { upstreams: { "docker.io": { ...hubUpstream(hub), credentials } } } });
  await httpRequest(other.url, { headers: { authorization: `Bearer ${wrong}` } });
});
