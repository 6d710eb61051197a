import { expect, test } from "vitest";
import { countedBy, createMetrics, type Metrics } from "../../../src/telemetry/metrics.ts";
import { metricValue } from "../../support/metrics.ts";

function metrics(): Metrics {
  return createMetrics({ version: "1.2.3", isConfigured: () => true });
}

const answered = {
  upstream: "docker.io",
  repository: "library/nginx",
  kind: "blob",
  method: "GET",
  status: 200,
  cache: "hit",
  bytesSent: 100,
  firstByteMs: 3,
  totalMs: 10,
} as const;

test("what several processes have counted is added up, and what they all see is not", async () => {
  const [parent, one, other] = [metrics(), metrics(), metrics()];
  one.answered(answered);
  other.answered(answered);
  other.answered(answered);
  one.fillStarted();
  other.fillStarted();
  other.fillStarted();
  one.configReloaded(false);
  one.serving();
  other.serving();
  parent.workerEnded();
  const { contentType, body } = await parent.expose([await one.snapshot(), await other.snapshot()]);
  expect(contentType).toContain("version=0.0.4");
  const labels = { upstream: "docker.io", kind: "blob", cache: "hit" };
  expect(metricValue(body, "weir_http_requests_total", { ...labels, method: "GET", code: "200" })).toBe(3);
  expect(metricValue(body, "weir_http_response_bytes_total", labels)).toBe(300);
  expect(metricValue(body, "weir_http_first_byte_seconds_count", labels)).toBe(3);
  expect(metricValue(body, "weir_http_first_byte_seconds_bucket", { ...labels, le: "0.005" })).toBe(3);
  expect(metricValue(body, "weir_fills_in_flight", {})).toBe(3);
  expect(metricValue(body, "weir_build_info", { version: "1.2.3", node: process.version })).toBe(1);
  expect(metricValue(body, "weir_config_reload_success", {})).toBe(0);
  expect(metricValue(body, "weir_workers", {})).toBe(2);
  expect(metricValue(body, "weir_workers_ended_total", {})).toBe(1);
  const started = metricValue(body, "weir_process_start_time_seconds", {});
  expect(Math.abs((started ?? 0) - performance.timeOrigin / 1000)).toBeLessThan(1);
});

test("what a process that is gone has counted stays, what it had under way does not", async () => {
  const [parent, gone] = [metrics(), metrics()];
  gone.answered(answered);
  gone.fillStarted();
  const { body } = await parent.expose([await countedBy([await gone.snapshot(), await gone.snapshot()])]);
  const labels = { upstream: "docker.io", kind: "blob", cache: "hit" };
  expect(metricValue(body, "weir_http_requests_total", { ...labels, method: "GET", code: "200" })).toBe(2);
  expect(metricValue(body, "weir_fills_in_flight", {})).toBe(0);
});
