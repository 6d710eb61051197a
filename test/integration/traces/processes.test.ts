/** Traces of processes as they are run: what is loaded, who exports, what a collector that is down costs. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../../support/blob-origin.ts";
import { getBlob } from "../../support/blob-pull.ts";
import { stampedBlob } from "../../support/fill-sources.ts";
import { expectStatus, hubUpstream } from "../../support/hub-weir.ts";
import { smallImage } from "../../support/images.ts";
import { httpRequest } from "../../support/network.ts";
import { type Collector, type OtlpSpan, startCollector, treeOf } from "../../support/otlp.ts";
import { freePort, run, tempFolder, until } from "../../support/processes.ts";
import { startRedis } from "../../support/redis.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import { toolTest } from "../../support/tools.ts";
import { startWeir, type WeirProcess } from "../../support/weir.ts";
import { startWeirs } from "../../support/weir-fleet.ts";

const MiB = 1024 * 1024;
const WHOLE_TEST_MS = 240_000;
const PARENT = "00f067aa0ba902b7";
const IMAGE = smallImage("traced");
const PULL = "/v2/docker.io/library/app/manifests/1";

/** Says on standard error which files of OpenTelemetry's are loaded. */
const TELLS_LOADED = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from "node:module";
  registerHooks({
    load(url, context, next) {
      if (url.includes("@opentelemetry")) process.stderr.write("loaded " + url + "\\n");
      return next(url, context);
    },
  });
`)}`;

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("library/app", IMAGE, ["1"]);
});

afterEach(() => stack.disposeAsync());

interface Started {
  readonly env?: Readonly<Record<string, string>>;
  readonly telemetry?: object;
  readonly workers?: number;
}

function start({ env = {}, telemetry = {}, workers = 1 }: Started): Promise<WeirProcess> {
  return startWeir(stack, {
    workers,
    env: { OTEL_BSP_SCHEDULE_DELAY: "20", ...env },
    nodeOptions: ["--import", TELLS_LOADED],
    config: { upstreams: { "docker.io": hubUpstream(hub) }, telemetry },
  });
}

function traceparent(traceId: string): { readonly traceparent: string } {
  return { traceparent: `00-${traceId}-${PARENT}-01` };
}

const isServer =
  (traceId: string) =>
  (span: OtlpSpan): boolean =>
    span.traceId === traceId && span.kind === "server" && span.parentSpanId === PARENT;

test("without a collector nothing of OpenTelemetry's SDK is loaded, and no line has a trace", async () => {
  const weir = await start({});
  expectStatus(200, await httpRequest(weir.url + PULL, { headers: traceparent("a".repeat(32)) }));
  await weir.stop();
  expect(weir.output()).toContain('"msg":"request"');
  // prom-client loads the API by itself.
  expect(weir.output()).not.toMatch(/@opentelemetry\/(?!api\/)|traceId|spanId/);
  expect(hub.ledger.every(({ headers }) => headers.traceparent === undefined)).toBe(true);
});

test("a collector by OTEL_EXPORTER_OTLP_ENDPOINT: what is under way goes out at the end, and lines have their spans", async () => {
  const collector = await startCollector(stack);
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_HEADERS: "x-collector-token=of-the-collector-alone",
    OTEL_EXPORTER_OTLP_COMPRESSION: "none",
    // Longer than the test lasts.
    OTEL_BSP_SCHEDULE_DELAY: "600000",
  };
  const weir = await start({ env });
  const traceId = "a".repeat(32);
  expectStatus(200, await httpRequest(weir.url + PULL, { headers: traceparent(traceId) }));
  expect(collector.requests).toEqual([]);
  expect(await weir.stop()).toMatchObject({ code: 0 });
  expect(weir.output()).toContain("@opentelemetry/sdk-node");
  expect(collector.requests[0]?.["x-collector-token"]).toBe("of-the-collector-alone");
  const root = collector.spans.find(isServer(traceId));
  const exchanges = collector.spans.filter(({ kind }) => kind === "client").map(({ spanId }) => spanId);
  const lines = weir
    .output()
    .split("\n")
    .filter((line) => line.includes('"traceId"'))
    .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  expect(lines.every((line) => line.traceId === traceId)).toBe(true);
  expect(lines.filter(({ msg }) => msg === "request").map(({ spanId }) => spanId)).toEqual([root?.spanId]);
  expect(new Set(lines.filter(({ msg }) => msg === "upstream").map(({ spanId }) => spanId))).toEqual(
    new Set(exchanges),
  );
  expect(exchanges).toHaveLength(3);
});

test("workers export for themselves, each as an instance of its own; their parent has nothing to export", async () => {
  const collector = await startCollector(stack);
  const weir = await start({ telemetry: { otlpEndpoint: collector.url }, workers: 2 });
  await until("both workers to have exported", async () => {
    await httpRequest(weir.url + PULL);
    return new Set(collector.resources.map((resource) => resource["service.instance.id"])).size === 2;
  });
  await weir.stop();
  const sdks = weir.output().match(/loaded \S*sdk-node\/dist\/index\.mjs/g);
  expect(sdks).toHaveLength(2);
});

toolTest(
  ["redis-server"],
  "two replicas: what one reads from the other is in the same trace, and linked to the download",
  async () => {
    const collector = await startCollector(stack);
    const origin: BlobOrigin = await startBlobOrigin(stack);
    const [holder, reader] = await startWeirs(stack, {
      replicas: 2,
      redis: await startRedis(stack),
      config: { upstreams: { "registry.example": origin.upstream }, telemetry: { otlpEndpoint: collector.url } },
    });
    if (holder === undefined || reader === undefined) throw new Error("there are two");
    const blob = stampedBlob("traced", 8 * MiB);
    origin.add("app", blob);
    origin.sendUpTo(4 * MiB);
    const path = `/v2/registry.example/app/blobs/${blob.digest}`;
    const [begun, joined] = ["c".repeat(32), "d".repeat(32)];
    const first = await getBlob(holder.url + path, traceparent(begun));
    await first.take(MiB);
    const second = await getBlob(reader.url + path, traceparent(joined));
    await second.take(MiB);
    origin.sendUpTo(blob.size);
    expect(await Promise.all([first.compare(blob), second.compare(blob)])).toEqual(
      Array(2).fill({ bytes: blob.size, complete: true }),
    );
    await Promise.all([holder.stop(), reader.stop()]);
    const fill = collector.spans.find((span) => span.name === "fill" && span.traceId === begun);
    const streams = collector.spans.filter(({ name }) => name === "GET peer blob");
    const [asked] = streams.filter(
      ({ attributes, kind }) => kind === "client" && attributes["weir.result"] === "taken",
    );
    const served = streams.find(({ parentSpanId }) => parentSpanId === asked?.spanId);
    expect(served).toMatchObject({
      traceId: joined,
      kind: "server",
      links: [{ traceId: begun, spanId: fill?.spanId }],
      status: "unset",
    });
    const line = ({ name, kind }: OtlpSpan) => (name.startsWith("storage") ? undefined : `${name} ${kind}`);
    const tree = treeOf(collector.spans, joined, line);
    expect(tree.slice(0, 4)).toEqual([
      "GET /v2/{name}/blobs/{digest} server",
      "  route internal",
      "  fill internal",
      "    lease internal",
    ]);
    // The holder may have been asked before its own upstream had answered.
    const peered = tree.lastIndexOf("    GET peer blob client");
    expect(tree[peered + 1]).toBe("      GET peer blob server");
    expect(tree.filter((text) => text.includes("GET blob"))).toEqual([]);
  },
  WHOLE_TEST_MS,
);

test.each([
  ["that refuses connections", undefined],
  ["that refuses what it is sent", 403],
  ["that never answers", "silent" as const],
])("a collector %s costs no pull anything: it is told, and the end is in order", async (_, status) => {
  const collector: Collector | undefined = status === undefined ? undefined : await startCollector(stack);
  if (collector !== undefined) collector.status = status === "silent" ? undefined : status;
  const otlpEndpoint = collector?.url ?? `http://127.0.0.1:${await freePort()}`;
  const env = {
    OTEL_BSP_MAX_QUEUE_SIZE: "64",
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "16",
    OTEL_EXPORTER_OTLP_TIMEOUT: "100",
    OTEL_BSP_EXPORT_TIMEOUT: "100",
  };
  const weir = await start({ env, telemetry: { otlpEndpoint } });
  // Many times more spans than the queue holds.
  for (let pulls = 0; pulls < 100; pulls += 1) expectStatus(200, await httpRequest(weir.url + PULL));
  await until("the failure to be told", () => weir.output().includes('"msg":"traces could not be sent'));
  for (let pulls = 0; pulls < 100; pulls += 1) expectStatus(200, await httpRequest(weir.url + PULL));
  expect(await weir.stop()).toMatchObject({ code: 0 });
});

test("weir check and the start say what is wrong with an endpoint, and with what key or variable", async () => {
  const folder = await tempFolder(stack);
  const weir = new URL("../../../src/main.ts", import.meta.url).pathname;
  const env = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "collector:4318" };
  for (const command of ["check", "serve"]) {
    const result = await run([process.execPath, weir, command], { cwd: folder, env, allowFailure: true });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: expected an address such as http://");
  }
});
