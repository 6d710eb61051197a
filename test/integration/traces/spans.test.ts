/** What is traced of a request, as a collector receives it. */
import { Agent, get, type IncomingMessage } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PausingClock, startTestApp, type TestApp } from "../../support/app.ts";
import { expectStatus, hubUpstream } from "../../support/hub-weir.ts";
import { bigImage, multiArchImage } from "../../support/images.ts";
import { fillsOver } from "../../support/metrics.ts";
import { type HttpReply, httpRequest } from "../../support/network.ts";
import { type Collector, type OtlpSpan, startCollector, treeOf } from "../../support/otlp.ts";
import { until } from "../../support/processes.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";

const HOUR = 60 * 60 * 1000;
const IMAGE = multiArchImage("traced");
const BIG = bigImage("traced", 3 << 20);
const [LAYER] = BIG.blobs.toSorted((a, b) => b.bytes.length - a.bytes.length);
const LAYER_DIGEST = LAYER?.digest ?? "";
const LAYER_BYTES = LAYER?.bytes.length ?? 0;
const PASSWORD = "hunter2-of-the-hub";
const PARENT = "00f067aa0ba902b7";

let stack: AsyncDisposableStack;
let clock: PausingClock;
let hub: HubDouble;
let collector: Collector;
let weir: TestApp;
let pulls: number;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  clock = new PausingClock();
  pulls = 0;
  collector = await startCollector(stack);
  hub = await startHubDouble(stack, {
    now: () => clock.now(),
    accounts: [{ username: "weir", password: PASSWORD }],
  });
  hub.add("library/app", IMAGE, ["1", "latest"]);
  hub.add("library/big", BIG, ["1"]);
  hub.add("team/app", IMAGE, ["1"], "private");
});

afterEach(() => stack.disposeAsync());

interface StartOptions {
  readonly telemetry?: object;
  readonly upstream?: object;
  readonly admin?: object;
  readonly env?: Readonly<Record<string, string>>;
}

async function start(options: StartOptions = {}): Promise<void> {
  weir = await startTestApp(stack, {
    clock,
    env: { OTEL_BSP_SCHEDULE_DELAY: "10", ...options.env },
    config: {
      upstreams: { "docker.io": { ...hubUpstream(hub), ...options.upstream } },
      freshness: { default: "1h" },
      telemetry: { logLevel: "error", otlpEndpoint: collector.url, ...options.telemetry },
      access: { privateToAnonymous: true },
      admin: options.admin ?? { listen: "127.0.0.1:0" },
    },
  });
}

interface Traced {
  readonly reply: HttpReply;
  readonly traceId: string;
}

/** Pulls as part of a trace of its own. */
async function pull(path: string, headers: Readonly<Record<string, string>> = {}): Promise<Traced> {
  pulls += 1;
  const traceId = pulls.toString(16).padStart(32, "a");
  const traceparent = `00-${traceId}-${PARENT}-01`;
  const reply = await httpRequest(`${weir.url}/v2/docker.io/${path}`, { headers: { traceparent, ...headers } });
  return { reply, traceId };
}

/** The request's own span, once it has arrived. */
function server({ traceId }: Pick<Traced, "traceId">): Promise<OtlpSpan> {
  return collector.awaits("the request's span", (span) => span.traceId === traceId && span.kind === "server");
}

const told = ({ name, attributes }: OtlpSpan): string => {
  const status = attributes["http.response.status_code"];
  const does = attributes["weir.reason"] ?? attributes["weir.does"];
  return [name, status, does].filter((part) => part !== undefined).join(" ");
};

/** Without storage, of which a step may need more or less. What goes on behind an answer may arrive later. */
async function expectTree({ traceId }: Pick<Traced, "traceId">, lines: readonly string[]): Promise<void> {
  const line = (span: OtlpSpan) => (span.name.startsWith("storage") ? undefined : told(span));
  await expect.poll(() => treeOf(collector.spans, traceId, line)).toEqual(lines);
}

async function storageSteps(traced: Traced): Promise<ReadonlySet<unknown>> {
  await server(traced);
  const own = collector.spans.filter(({ traceId }) => traceId === traced.traceId);
  return new Set(own.filter(({ name }) => name.startsWith("storage")).map(({ attributes }) => attributes["weir.op"]));
}

test("a cold manifest: routing, decision, challenge, token, the answer, and what is written", async () => {
  await start();
  const traced = await pull("library/app/manifests/1", { "user-agent": "containerd/2.1" });
  expectStatus(200, traced.reply);
  await expectTree(traced, [
    "GET /v2/{name}/manifests/{reference} 200",
    "  route",
    "  decision ask",
    "  GET manifest 401",
    "  token",
    "    GET token 200",
    "  GET manifest 200",
  ]);
  expect(await storageSteps(traced)).toEqual(new Set(["object-get", "blob-stat", "blob-put", "object-put"]));
  const root = await server(traced);
  expect(root).toMatchObject({ parentSpanId: PARENT, status: "unset" });
  expect(root.attributes).toEqual({
    "http.request.method": "GET",
    "http.route": "/v2/{name}/manifests/{reference}",
    "http.response.status_code": 200,
    "http.response.body.size": IMAGE.root.bytes.length,
    "url.scheme": "http",
    "url.path": "/v2/docker.io/library/app/manifests/1",
    "network.protocol.version": "1.1",
    "user_agent.original": "containerd/2.1",
    "client.address": "127.0.0.1",
    "weir.request_id": traced.reply.headers["x-request-id"],
    "weir.upstream": "docker.io",
    "weir.repository": "library/app",
    "weir.reference": "1",
    "weir.form": "prefix",
    "weir.cache": "miss",
  });
  expect(root.events.map(({ name }) => name)).toEqual(["first-byte"]);
  const { hostname, port } = new URL(hub.url);
  const answer = collector.spans.find((span) => told(span) === "GET manifest 200");
  expect(answer).toMatchObject({ kind: "client", status: "unset" });
  expect(answer?.attributes).toEqual({
    "http.request.method": "GET",
    "url.full": `${hub.url}/v2/library/app/manifests/1`,
    "server.address": hostname,
    "server.port": Number(port),
    "http.response.status_code": 200,
    "http.response.body.size": IMAGE.root.bytes.length,
    "weir.upstream": "docker.io",
    "weir.kind": "manifest",
    "weir.answered_ms": 0,
  });
  const refused = collector.spans.find((span) => told(span) === "GET manifest 401");
  expect([refused?.status, refused?.attributes["error.type"]]).toEqual(["error", "401"]);
  for (const { startNs, endNs } of collector.spans) expect(endNs).toBeGreaterThanOrEqual(startNs);
});

test("a cold blob: a fill with the redirect in it, and the keeping; warm, it is opened and read", async () => {
  await start();
  await pull("library/big/manifests/1");
  const cold = await pull(`library/big/blobs/${LAYER_DIGEST}`);
  await fillsOver(weir);
  await collector.awaits("the fill", ({ name }) => name === "fill");
  await expectTree(cold, [
    "GET /v2/{name}/blobs/{digest} 200",
    "  route",
    "  fill",
    "    GET blob 307",
    "    GET blob 200",
  ]);
  const [redirected] = collector.spans.filter((span) => told(span) === "GET blob 200");
  expect(redirected?.attributes).toMatchObject({
    "http.request.resend_count": 1,
    "server.address": new URL(hub.urlOf("cdn")).hostname,
    "http.response.body.size": LAYER_BYTES,
  });
  expect(String(redirected?.attributes["url.full"])).not.toContain("?");
  const fill = collector.spans.find(({ name }) => name === "fill");
  expect(fill?.attributes).toMatchObject({ "weir.outcome": "committed", "weir.size": LAYER_BYTES });
  const kept = collector.spans.find(({ attributes }) => attributes["weir.op"] === "blob-ingest");
  expect(kept?.parentSpanId).toBe(fill?.spanId);
  const warm = await pull(`library/big/blobs/${LAYER_DIGEST}`);
  await expectTree(warm, ["GET /v2/{name}/blobs/{digest} 200", "  route", "  decision serve"]);
  expect(await storageSteps(warm)).toEqual(new Set(["blob-open", "object-get", "blob-read"]));
});

test("a warm manifest: routed and decided, and nobody is asked", async () => {
  await start();
  await pull("library/app/manifests/1");
  const asked = hub.ledger.length;
  const warm = await pull("library/app/manifests/1");
  await expectTree(warm, ["GET /v2/{name}/manifests/{reference} 200", "  route", "  decision fresh"]);
  expect((await server(warm)).attributes["weir.cache"]).toBe("hit");
  expect(hub.ledger.length).toBe(asked);
});

test.each(["keep-alive", "close"])(
  "what is at hand has the same span, and no steps (connection: %s)",
  async (connection) => {
    await start();
    const path = "library/app/manifests/1";
    const headers = { "user-agent": "containerd/2.1" };
    await pull(path, headers);
    const long = await server(await pull(path, headers));
    const agent = new Agent({ keepAlive: connection === "keep-alive" });
    stack.defer(() => agent.destroy());
    const traceId = "b".repeat(32);
    const reply = await new Promise<IncomingMessage>((resolve, reject) => {
      const traced = { ...headers, traceparent: `00-${traceId}-${PARENT}-01` };
      get(`${weir.url}/v2/docker.io/${path}`, { agent, headers: traced }, resolve).on("error", reject);
    });
    reply.resume();
    expect(reply.headers.connection).toBe(connection);
    const traced = { traceId };
    await expectTree(traced, ["GET /v2/{name}/manifests/{reference} 200"]);
    const short = await server(traced);
    const { "weir.request_id": _, ...expected } = long.attributes;
    const { "weir.request_id": id, ...attributes } = short.attributes;
    expect(attributes).toEqual(expected);
    expect(id).toBe(reply.headers["x-request-id"]);
    const told = ({ name, kind, status, parentSpanId }: OtlpSpan) => ({ name, kind, status, parentSpanId });
    expect(told(short)).toEqual(told(long));
  },
);

test("a resumed fill: each exchange with its range, and where it went on", async () => {
  await start();
  await pull("library/big/manifests/1");
  const mend = hub.fail({ role: "cdn", effect: { kind: "cut", afterBytes: 1 << 20 } });
  const traced = pull(`library/big/blobs/${LAYER_DIGEST}`);
  await until("the blob to be asked for", () => hub.count({ role: "cdn" }) === 1);
  mend();
  const resumed = await traced;
  expectStatus(200, resumed.reply);
  await fillsOver(weir);
  await collector.awaits("the fill", ({ name }) => name === "fill");
  await expectTree(resumed, [
    "GET /v2/{name}/blobs/{digest} 200",
    "  route",
    "  fill",
    "    GET blob 307",
    "    GET blob 200",
    "    GET blob 307",
    "    GET blob 206",
  ]);
  const [fill] = collector.spans.filter(({ name }) => name === "fill");
  const [event] = fill?.events ?? [];
  expect(fill?.events).toHaveLength(1);
  expect(event).toMatchObject({ name: "resumed", attributes: { "weir.upstream": "docker.io" } });
  const [rest] = collector.spans.filter((span) => told(span) === "GET blob 206");
  expect(rest?.attributes["http.request.header.range"]).toEqual([`bytes=${event?.attributes["weir.position"]}-`]);
});

test("a stale answer: what was asked in vain, and why what is held was served", async () => {
  await start();
  await pull("library/app/manifests/1");
  clock.advance(HOUR);
  hub.fail({ role: "registry", effect: { kind: "status", status: 503 } });
  const stale = await pull("library/app/manifests/1");
  expectStatus(200, stale.reply);
  await expectTree(stale, [
    "GET /v2/{name}/manifests/{reference} 200",
    "  route",
    "  decision ask",
    "  token",
    "    GET token 200",
    "  HEAD manifest 503",
    "  HEAD manifest 503",
    "  HEAD manifest 503",
    "  decision stale-if-error",
  ]);
  expect((await server(stale)).attributes).toMatchObject({
    "weir.cache": "stale",
    "weir.cache_detail": "stale-if-error",
  });
});

test("an error: the server's own is one, the client's is none", async () => {
  await start();
  const absent = await pull("library/app/manifests/9");
  const other = await pull("library/app/manifests/1:2");
  hub.fail({ role: "registry", effect: { kind: "status", status: 500 } });
  const failed = await pull("library/big/manifests/1");
  const spans = await Promise.all([absent, other, failed].map(server));
  expect(spans.map(({ name, status, attributes }) => [name, attributes["http.response.status_code"], status])).toEqual([
    ["GET /v2/{name}/manifests/{reference}", 404, "unset"],
    ["GET", 400, "unset"],
    ["GET /v2/{name}/manifests/{reference}", failed.reply.status, "error"],
  ]);
  expect(spans[2]?.attributes["error.type"]).toEqual(expect.any(String));
});

describe("shared work is told of where it was begun, and who joins it has a link there", () => {
  const TOKEN = "an-admin-token-of-some-length";

  /** Resolves when so much is told of the request. */
  async function under(requestId: string, step: string): Promise<void> {
    const url = `${weir.adminUrl}/explain.json?request=${requestId}`;
    await until(`${requestId} to be at its ${step}`, async () => {
      const { body } = await httpRequest(url, { headers: { authorization: `Bearer ${TOKEN}` } });
      return body.toString().includes(`"${step}"`);
    });
  }

  beforeEach(() => start({ admin: { listen: "127.0.0.1:0", token: TOKEN } }));

  test("a fill", async () => {
    await pull("library/big/manifests/1");
    const late = Promise.withResolvers<void>();
    hub.fail({ role: "cdn", effect: { kind: "hold", until: late.promise } });
    const first = pull(`library/big/blobs/${LAYER_DIGEST}`);
    await until("the blob to be asked for", () => hub.count({ role: "cdn" }) === 1);
    const second = pull(`library/big/blobs/${LAYER_DIGEST}`, { "x-request-id": "the-second" });
    await under("the-second", "fill");
    late.resolve();
    const [one, two] = [await first, await second];
    const began = await collector.awaits("the fill", ({ attributes }) => attributes["weir.started"] === true);
    const joined = await collector.awaits("the joining", ({ attributes }) => attributes["weir.started"] === false);
    expect([began.traceId, joined.traceId]).toEqual([one.traceId, two.traceId]);
    expect(joined.links).toEqual([{ traceId: began.traceId, spanId: began.spanId }]);
    await expectTree(two, ["GET /v2/{name}/blobs/{digest} 200", "  route", "  fill"]);
  });

  test("a question about a tag, and the token for it", async () => {
    const late = Promise.withResolvers<void>();
    hub.fail({ role: "token", effect: { kind: "hold", until: late.promise } });
    const first = pull("library/app/manifests/1");
    await until("the token to be asked for", () => hub.count({ role: "token" }) === 1);
    const second = pull("library/app/manifests/1", { "x-request-id": "the-second" });
    await under("the-second", "decision");
    late.resolve();
    const [one, two] = [await first, await second];
    const root = await server(one);
    const joined = await collector.awaits("the joining", ({ name }) => name === "joined");
    expect(joined.traceId).toBe(two.traceId);
    expect(joined.links).toEqual([{ traceId: one.traceId, spanId: root.spanId }]);
    await expectTree(two, ["GET /v2/{name}/manifests/{reference} 200", "  route", "  decision ask", "  joined"]);
    expect(hub.count({ role: "token" })).toBe(1);
  });
});

describe("the client's traceparent", () => {
  const asked = (role: string) =>
    hub.ledger
      .filter((entry) => entry.role === role)
      .map(({ headers: { traceparent, tracestate } }) => [traceparent, tracestate]);

  test("is gone on from, and passed on to the registry: not to its token server, and to no blob host", async () => {
    await start();
    await pull("library/big/manifests/1");
    hub.clearLedger();
    const traced = await pull(`library/big/blobs/${LAYER_DIGEST}`, { tracestate: "vendor=abc" });
    await fillsOver(weir);
    const exchange = await collector.awaits("the redirect", (span) => told(span) === "GET blob 307");
    expect(asked("registry")).toEqual([[`00-${traced.traceId}-${exchange.spanId}-01`, "vendor=abc"]]);
    expect(asked("cdn")).toEqual([[undefined, undefined]]);
    hub.clearLedger();
    clock.advance(HOUR);
    await pull("library/app/manifests/1");
    expect(asked("token")).toEqual([[undefined, undefined]]);
    expect((await server(traced)).traceState).toBe("vendor=abc");
  });

  test.each([
    ["no traceparent", undefined],
    ["another version's form", `ff-${"a".repeat(32)}-${PARENT}-01`],
    ["no trace", `00-${"0".repeat(32)}-${PARENT}-01`],
    ["rubbish", "00-zzz"],
    ["more than there is", `00-${"a".repeat(32)}-${PARENT}-01-x`],
  ])("that is malformed counts as none: %s", async (_, traceparent) => {
    await start();
    const headers = traceparent === undefined ? {} : { traceparent };
    expectStatus(200, await httpRequest(`${weir.url}/v2/docker.io/library/app/manifests/1`, { headers }));
    const root = await collector.awaits("the request's span", ({ kind }) => kind === "server");
    expect(root.parentSpanId).toBe("");
    expect(root.traceId).toMatch(/^(?!a{32})[0-9a-f]{32}$/);
    expect(asked("registry")[0]?.[0]).toContain(root.traceId);
  });

  test("that is not sampled is passed on so, and nothing is sent", async () => {
    await start();
    const traceId = "b".repeat(32);
    const url = `${weir.url}/v2/docker.io/library/app/manifests/1`;
    expectStatus(200, await httpRequest(url, { headers: { traceparent: `00-${traceId}-${PARENT}-00` } }));
    expect(asked("registry").map(([traceparent]) => traceparent?.replace(/-[0-9a-f]{16}-/, "-*-"))).toEqual(
      Array(2).fill(`00-${traceId}-*-00`),
    );
    await server(await pull("library/app/manifests/1"));
    expect(collector.spans.filter((span) => span.traceId === traceId)).toEqual([]);
  });
});

test("A4 neither a password, a token nor a signed query is sent to the collector, and its own token to nobody else", async () => {
  const credentials = [{ label: "ci", username: "weir", password: PASSWORD }];
  await start({
    upstream: { credentials },
    telemetry: { otlpHeaders: { authorization: "Bearer of-the-collector-alone" } },
  });
  hub.add("team/big", BIG, ["1"], "private");
  expectStatus(200, (await pull("team/big/manifests/1")).reply);
  expectStatus(200, (await pull(`team/big/blobs/${LAYER_DIGEST}?token=${PASSWORD}`)).reply);
  await fillsOver(weir);
  await collector.awaits("the fill", ({ name }) => name === "fill");
  expect(collector.requests[0]?.authorization).toBe("Bearer of-the-collector-alone");
  const sent = JSON.stringify(collector.spans, (_, value) => (typeof value === "bigint" ? String(value) : value));
  expect(sent).not.toMatch(/signature=|expires=|Bearer|Basic |of-the-collector/);
  // The recorder looks for what the double has given out.
});

test("sampleRatio: 0 traces nothing but what a client wants traced", async () => {
  await start({ telemetry: { sampleRatio: 0 } });
  expectStatus(200, await httpRequest(`${weir.url}/v2/docker.io/library/app/manifests/1`));
  await server(await pull("library/app/manifests/1"));
  expect(new Set(collector.spans.map(({ traceId }) => traceId)).size).toBe(1);
});

test("what the collector is told of the process: the standard variables, and an instance of its own", async () => {
  await start({ env: { OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=lab", OTEL_SERVICE_NAME: "cache" } });
  await server(await pull("library/app/manifests/1"));
  expect(collector.resources[0]).toMatchObject({
    "service.name": "cache",
    "service.version": expect.any(String),
    "service.instance.id": expect.stringMatching(/^[0-9a-f-]{36}$/),
    "deployment.environment.name": "lab",
  });
  expect(Object.keys(collector.resources[0] ?? {}).filter((name) => name.startsWith("process."))).toEqual([]);
});

test.each([
  ["OTEL_SDK_DISABLED", "true"],
  ["OTEL_TRACES_EXPORTER", "none"],
])("%s=%s: nothing is traced, whatever the file says", async (name, value) => {
  await start({ env: { [name]: value } });
  expectStatus(200, (await pull("library/app/manifests/1")).reply);
  await weir.stop();
  expect(collector.requests).toEqual([]);
  expect(hub.ledger.every(({ headers }) => headers.traceparent === undefined)).toBe(true);
});
