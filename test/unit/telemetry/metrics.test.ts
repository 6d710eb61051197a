import { describe, expect, test } from "vitest";
import type { AnsweredRequest } from "../../../src/http/observer.ts";
import { createMetrics } from "../../../src/telemetry/metrics.ts";
import type { UpstreamExchange } from "../../../src/upstream/upstream.ts";

const create = () => createMetrics({ version: "1.2.3", isConfigured: (name) => name === "docker.io" });

/** The samples of one metric, without its help. */
async function samples(metrics: ReturnType<typeof create>, name: string): Promise<string[]> {
  const { body } = await metrics.expose();
  return body.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
}

const request: AnsweredRequest = {
  upstream: "docker.io",
  repository: "library/nginx",
  kind: "blob",
  method: "GET",
  status: 206,
  cache: "hit",
  bytesSent: 100,
  firstByteMs: 0.4,
  totalMs: 2000,
};

const exchange: UpstreamExchange = {
  upstream: "docker.io",
  kind: "manifest",
  method: "HEAD",
  url: "https://registry-1.docker.io/v2/library/nginx/manifests/1",
  status: 200,
  fault: undefined,
  durationMs: 30,
  requestId: "r",
  hop: 0,
};

test("every name starts with weir_, the process defaults included, and says what it means", async () => {
  const { body } = await create().expose();
  const names = [...body.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  expect(names.filter((name) => !name?.startsWith("weir_"))).toEqual([]);
  expect(names).toEqual(
    expect.arrayContaining([
      "weir_build_info",
      "weir_http_requests_total",
      "weir_http_request_duration_seconds",
      "weir_http_first_byte_seconds",
      "weir_http_response_bytes_total",
      "weir_http_connections",
      "weir_http_connections_ended_total",
      "weir_upstream_requests_total",
      "weir_upstream_request_duration_seconds",
      "weir_upstream_received_bytes_total",
      "weir_upstream_errors_total",
      "weir_upstream_token_requests_total",
      "weir_upstream_ratelimit_limit",
      "weir_upstream_ratelimit_remaining",
      "weir_upstream_ratelimit_window_seconds",
      "weir_upstream_ratelimited_total",
      "weir_upstream_credential_parked",
      "weir_upstream_credential_expiry_timestamp_seconds",
      "weir_upstream_breaker_open",
      "weir_upstream_resumes_total",
      "weir_upstream_digest_mismatches_total",
      "weir_stale_served_total",
      "weir_peer_streams_total",
      "weir_storage_evicted_bytes_total",
      "weir_storage_operation_duration_seconds",
      "weir_storage_errors_total",
      "weir_state_errors_total",
      "weir_access_denied_total",
      "weir_config_reload_success",
      "weir_fills_in_flight",
      "weir_fill_readers",
      "weir_process_resident_memory_bytes",
      "weir_nodejs_eventloop_lag_seconds",
    ]),
  );
  expect(body).toMatch(/^weir_build_info\{version="1\.2\.3",node="v\d+[^"]*"\} 1$/m);
});

describe("answered requests", () => {
  test("are counted and timed in seconds", async () => {
    const metrics = create();
    metrics.answered(request);
    metrics.answered(request);
    expect(await samples(metrics, "weir_http_requests_total")).toEqual([
      'weir_http_requests_total{upstream="docker.io",kind="blob",cache="hit",method="GET",code="206"} 2',
    ]);
    expect(await samples(metrics, "weir_http_response_bytes_total")).toEqual([
      'weir_http_response_bytes_total{upstream="docker.io",kind="blob",cache="hit"} 200',
    ]);
    expect(await samples(metrics, "weir_http_request_duration_seconds_sum")).toEqual([
      'weir_http_request_duration_seconds_sum{upstream="docker.io",kind="blob",cache="hit"} 4',
    ]);
    expect(await samples(metrics, "weir_http_first_byte_seconds_bucket")).toContain(
      'weir_http_first_byte_seconds_bucket{le="0.0005",upstream="docker.io",kind="blob",cache="hit"} 2',
    );
  });

  test("handed over: told apart, and counted as sent", async () => {
    const metrics = create();
    metrics.answered({ ...request, handOver: "done" });
    metrics.answered({ ...request, handOver: "returned" });
    metrics.answered(request);
    expect(await samples(metrics, "weir_http_hand_overs_total")).toEqual([
      'weir_http_hand_overs_total{result="done"} 1',
      'weir_http_hand_overs_total{result="returned"} 1',
    ]);
    expect(await samples(metrics, "weir_http_handed_over_bytes_total")).toEqual([
      'weir_http_handed_over_bytes_total{upstream="docker.io"} 100',
    ]);
    expect(await samples(metrics, "weir_http_response_bytes_total")).toEqual([
      'weir_http_response_bytes_total{upstream="docker.io",kind="blob",cache="hit"} 300',
    ]);
  });

  test("R5 what clients make up becomes no series: upstreams that are not configured, methods", async () => {
    const metrics = create();
    for (let i = 0; i < 50; i += 1) metrics.answered({ ...request, upstream: `host-${i}.example`, method: `M${i}` });
    metrics.answered({ ...request, upstream: undefined });
    expect(await samples(metrics, "weir_http_requests_total")).toEqual([
      'weir_http_requests_total{upstream="dynamic",kind="blob",cache="hit",method="other",code="206"} 50',
      'weir_http_requests_total{upstream="none",kind="blob",cache="hit",method="GET",code="206"} 1',
    ]);
  });

  test("without a first byte are in no histogram of first bytes", async () => {
    const metrics = create();
    metrics.answered({ ...request, firstByteMs: undefined });
    expect(await samples(metrics, "weir_http_first_byte_seconds_count")).toEqual([]);
  });
});

test("O4 connections: how many are open, and why they were ended", async () => {
  const metrics = create();
  for (let i = 0; i < 3; i += 1) metrics.connectionOpened();
  metrics.connectionClosed();
  metrics.connectionEnded("slow-request");
  expect(await samples(metrics, "weir_http_connections")).toEqual(["weir_http_connections 2"]);
  expect(await samples(metrics, "weir_http_connections_ended_total")).toEqual([
    'weir_http_connections_ended_total{reason="connections"} 0',
    'weir_http_connections_ended_total{reason="connections-per-client"} 0',
    'weir_http_connections_ended_total{reason="slow-request"} 1',
    'weir_http_connections_ended_total{reason="large-headers"} 0',
    'weir_http_connections_ended_total{reason="malformed"} 0',
    'weir_http_connections_ended_total{reason="stalled"} 0',
  ]);
});

describe("exchanges with upstreams", () => {
  test("are counted with what came back, or none", async () => {
    const metrics = create();
    metrics.exchange(exchange);
    metrics.exchange({ ...exchange, status: undefined, fault: "timeout" });
    metrics.exchange({ ...exchange, status: 404, fault: "absent" });
    expect(await samples(metrics, "weir_upstream_requests_total")).toEqual([
      'weir_upstream_requests_total{upstream="docker.io",kind="manifest",method="HEAD",code="200"} 1',
      'weir_upstream_requests_total{upstream="docker.io",kind="manifest",method="HEAD",code="none"} 1',
      'weir_upstream_requests_total{upstream="docker.io",kind="manifest",method="HEAD",code="404"} 1',
    ]);
    expect(await samples(metrics, "weir_upstream_errors_total")).toEqual([
      'weir_upstream_errors_total{upstream="docker.io",reason="timeout"} 1',
    ]);
  });

  test.each([
    [{ status: 200, fault: undefined }, "ok"],
    [{ status: 401, fault: "credential" }, "refused"],
    [{ status: 403, fault: "denied" }, "refused"],
    [{ status: 200, fault: "bad-answer" }, "failed"],
    [{ status: undefined, fault: "connect" }, "failed"],
  ] as const)("a token request that ended with %o is %s", async (end, result) => {
    const metrics = create();
    metrics.exchange({ ...exchange, ...end, kind: "token" });
    expect(await samples(metrics, "weir_upstream_token_requests_total")).toEqual([
      `weir_upstream_token_requests_total{upstream="docker.io",result="${result}"} 1`,
    ]);
  });

  test("received bytes add up", async () => {
    const metrics = create();
    metrics.received("docker.io", "blob", 10);
    metrics.received("docker.io", "blob", 5);
    metrics.received("elsewhere.example", "blob", 1);
    expect(await samples(metrics, "weir_upstream_received_bytes_total")).toEqual([
      'weir_upstream_received_bytes_total{upstream="docker.io",kind="blob"} 15',
      'weir_upstream_received_bytes_total{upstream="dynamic",kind="blob"} 1',
    ]);
  });
});

describe("breakers", () => {
  const registry = { upstream: "docker.io", origin: "https://registry-1.docker.io", role: "registry" } as const;
  const realm = { ...registry, origin: "https://auth.docker.io", role: "realm" } as const;
  const cdn = (n: number) => ({ ...registry, origin: `https://cdn-${n}.example`, role: "blob" }) as const;
  const opened = { open: true, reason: "timeout" } as const;
  const closed = { open: false, reason: undefined } as const;

  test("that are open show: registry and realm by origin, blob hosts by number", async () => {
    const metrics = create();
    for (const origin of [registry, realm, cdn(1), cdn(2)]) metrics.breaker({ ...origin, ...opened });
    expect(await samples(metrics, "weir_upstream_breaker_open")).toEqual([
      'weir_upstream_breaker_open{upstream="docker.io",origin="https://registry-1.docker.io"} 1',
      'weir_upstream_breaker_open{upstream="docker.io",origin="https://auth.docker.io"} 1',
      'weir_upstream_breaker_open{upstream="docker.io",origin="blob"} 2',
    ]);
    for (const origin of [registry, realm, cdn(1)]) metrics.breaker({ ...origin, ...closed });
    expect(await samples(metrics, "weir_upstream_breaker_open")).toEqual([
      'weir_upstream_breaker_open{upstream="docker.io",origin="https://registry-1.docker.io"} 0',
      'weir_upstream_breaker_open{upstream="docker.io",origin="blob"} 1',
    ]);
  });

  test("of hosts that clients or registries make up become no lasting series", async () => {
    const metrics = create();
    metrics.breaker({ ...registry, ...opened, upstream: "made-up.example" });
    for (let i = 0; i < 50; i += 1) {
      metrics.breaker({ ...realm, ...opened, origin: `https://realm-${i}.example` });
      metrics.breaker({ ...realm, ...closed, origin: `https://realm-${i}.example` });
    }
    expect(await samples(metrics, "weir_upstream_breaker_open")).toEqual([]);
  });
});

describe("limits of upstreams", () => {
  const NAMES = ["limit", "remaining", "window_seconds"].map((name) => `weir_upstream_ratelimit_${name}`);
  const all = async (metrics: ReturnType<typeof create>): Promise<readonly string[]> =>
    (await Promise.all(NAMES.map((name) => samples(metrics, name)))).flat();

  test("show by credential, and are taken back when they are known no more", async () => {
    const metrics = create();
    metrics.quota("docker.io", undefined, { limit: 100, remaining: 76, windowS: 21_600 });
    metrics.quota("docker.io", "ci", { limit: 500, remaining: 499, windowS: undefined });
    expect(await all(metrics)).toEqual([
      'weir_upstream_ratelimit_limit{upstream="docker.io",credential="anonymous"} 100',
      'weir_upstream_ratelimit_limit{upstream="docker.io",credential="ci"} 500',
      'weir_upstream_ratelimit_remaining{upstream="docker.io",credential="anonymous"} 76',
      'weir_upstream_ratelimit_remaining{upstream="docker.io",credential="ci"} 499',
      'weir_upstream_ratelimit_window_seconds{upstream="docker.io",credential="anonymous"} 21600',
    ]);
    metrics.quota("docker.io", undefined, undefined);
    metrics.quota("docker.io", "ci", undefined);
    metrics.quota("docker.io", "never", undefined);
    expect(await all(metrics)).toEqual([]);
  });

  test("of hosts that clients make up become no series, and their 429s share one", async () => {
    const metrics = create();
    for (const host of ["a.example", "b.example"]) {
      metrics.quota(host, undefined, { limit: 100, remaining: 1, windowS: 60 });
      metrics.rateLimited(host, undefined, "abuse");
    }
    metrics.rateLimited("docker.io", "ci", "quota");
    expect(await all(metrics)).toEqual([]);
    expect(await samples(metrics, "weir_upstream_ratelimited_total")).toEqual([
      'weir_upstream_ratelimited_total{upstream="dynamic",credential="anonymous",reason="abuse"} 2',
      'weir_upstream_ratelimited_total{upstream="docker.io",credential="ci",reason="quota"} 1',
    ]);
  });
});

test("credentials that are kept from their upstream, and when they end, as long as they are the upstream's", async () => {
  const metrics = create();
  const shown = async () =>
    (
      await Promise.all(
        ["parked", "expiry_timestamp_seconds"].map((name) => samples(metrics, `weir_upstream_credential_${name}`)),
      )
    ).flat();
  metrics.credentialParked("docker.io", "ci", true);
  metrics.credentialExpires("docker.io", "ci", 1_790_000_000_500);
  metrics.credentialParked("docker.io", "other", false);
  metrics.credentialExpires("docker.io", "other", undefined);
  expect(await shown()).toEqual([
    'weir_upstream_credential_parked{upstream="docker.io",credential="ci"} 1',
    'weir_upstream_credential_parked{upstream="docker.io",credential="other"} 0',
    'weir_upstream_credential_expiry_timestamp_seconds{upstream="docker.io",credential="ci"} 1790000000.5',
  ]);
  for (const credential of ["ci", "other"]) {
    metrics.credentialParked("docker.io", credential, undefined);
    metrics.credentialExpires("docker.io", credential, undefined);
  }
  expect(await shown()).toEqual([]);
});

test("fills and stale answers", async () => {
  const metrics = create();
  metrics.fillStarted();
  metrics.fillStarted();
  metrics.fillEnded("committed");
  metrics.readers(7);
  metrics.resumed("docker.io");
  metrics.mismatch("docker.io");
  metrics.staleServed("docker.io", "soft-deadline");
  const { body } = await metrics.expose();
  for (const sample of [
    "weir_fills_in_flight 1",
    "weir_fill_readers 7",
    'weir_upstream_resumes_total{upstream="docker.io"} 1',
    'weir_upstream_digest_mismatches_total{upstream="docker.io"} 1',
    'weir_stale_served_total{upstream="docker.io",reason="soft-deadline"} 1',
  ]) {
    expect(body.split("\n")).toContain(sample);
  }
});

test("O3 whether the last reload is in force", async () => {
  const metrics = create();
  const value = async () => (await samples(metrics, "weir_config_reload_success")).join();
  expect(await value()).toBe("weir_config_reload_success 1");
  metrics.configReloaded(false);
  expect(await value()).toBe("weir_config_reload_success 0");
  metrics.configReloaded(true);
  expect(await value()).toBe("weir_config_reload_success 1");
});

test("R5 a hundred thousand upstreams, origins and methods that clients make up add no series", async () => {
  const metrics = create();
  const hostile = (n: number): void => {
    const upstream = `host-${n}.example`;
    metrics.answered({ ...request, upstream, repository: `app-${n}`, method: `M${n}` });
    metrics.exchange({ ...exchange, upstream, method: `M${n}`, url: `https://${upstream}/v2/`, fault: "connect" });
    metrics.received(upstream, "manifest", 1);
    metrics.breaker({ upstream, origin: `https://${upstream}`, role: "registry", open: true, reason: "timeout" });
    metrics.quota(upstream, undefined, { limit: 100, remaining: n, windowS: 60 });
    metrics.rateLimited(upstream, undefined, "quota");
    metrics.resumed(upstream);
    metrics.mismatch(upstream);
    metrics.staleServed(upstream, "gone");
    metrics.denied("budget");
    metrics.signInFailed();
    metrics.connectionEnded("malformed");
  };
  const series = async () => (await metrics.expose()).body.split("\n").filter((line) => /^weir_[^np]/.test(line));
  hostile(0);
  const before = await series();
  for (let n = 1; n < 100_000; n += 1) hostile(n);
  const after = await series();
  expect(after.map((line) => line.slice(0, line.lastIndexOf(" ")))).toEqual(
    before.map((line) => line.slice(0, line.lastIndexOf(" "))),
  );
  expect(after.filter((line) => line.includes("example"))).toEqual([]);
  expect(await samples(metrics, "weir_upstream_digest_mismatches_total")).toEqual([
    'weir_upstream_digest_mismatches_total{upstream="dynamic"} 100000',
  ]);
});

test("what happens seldom is counted from 0 on", async () => {
  const metrics = create();
  metrics.configured(["docker.io"]);
  metrics.mismatch("docker.io");
  metrics.configured(["docker.io", "quay.io"]);
  expect(await samples(metrics, "weir_upstream_digest_mismatches_total")).toEqual([
    'weir_upstream_digest_mismatches_total{upstream="docker.io"} 1',
    'weir_upstream_digest_mismatches_total{upstream="quay.io"} 0',
  ]);
  expect(await samples(metrics, "weir_stale_served_total")).toHaveLength(12);
  expect(await samples(metrics, "weir_access_denied_total")).toEqual(
    ["address", "rule", "grant", "content", "platform", "frozen", "private", "budget"].map(
      (reason) => `weir_access_denied_total{reason="${reason}"} 0`,
    ),
  );
  expect(await samples(metrics, "weir_storage_errors_total")).toContain('weir_storage_errors_total{op="blob-open"} 0');
});

test("sign-ins that fail are counted, from 0 on", async () => {
  const metrics = create();
  expect(await samples(metrics, "weir_auth_failures_total")).toEqual(["weir_auth_failures_total 0"]);
  metrics.signInFailed();
  expect(await samples(metrics, "weir_auth_failures_total")).toEqual(["weir_auth_failures_total 1"]);
});

test("the storage's and Redis' answers, in seconds", async () => {
  const metrics = create();
  metrics.storageOperation("blob-open", 0.4);
  metrics.storageFailed("blob-open");
  metrics.stateAsked(20);
  metrics.stateFailed();
  const { body } = await metrics.expose();
  for (const sample of [
    'weir_storage_operation_duration_seconds_bucket{le="0.0001",op="blob-open"} 0',
    'weir_storage_operation_duration_seconds_bucket{le="0.0005",op="blob-open"} 1',
    'weir_storage_errors_total{op="blob-open"} 1',
    'weir_state_operation_duration_seconds_bucket{le="0.01"} 0',
    'weir_state_operation_duration_seconds_bucket{le="0.025"} 1',
    "weir_state_errors_total 1",
  ]) {
    expect(body.split("\n")).toContain(sample);
  }
});

test("two of them do not meet", async () => {
  const [one, other] = [create(), create()];
  one.answered(request);
  expect(await samples(other, "weir_http_requests_total")).toEqual([]);
});
