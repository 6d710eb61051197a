import { expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { logExchanges } from "../../../src/telemetry/exchange-log.ts";
import type { UpstreamExchange } from "../../../src/upstream/upstream.ts";

const exchange: UpstreamExchange = {
  upstream: "docker.io",
  kind: "blob",
  method: "GET",
  url: "https://cdn.example/blobs/x",
  status: 200,
  fault: undefined,
  durationMs: 12.4,
  requestId: "r-1",
  hop: 1,
};

test("an exchange is a line with the request's id, and goes on to the next observer with everything received", () => {
  const lines: unknown[] = [];
  const passed: unknown[] = [];
  const observer = logExchanges(
    { ...silentLog, info: (fields, message) => lines.push([message, fields]) },
    { exchange: (e) => passed.push(e), received: (...received) => passed.push(received) },
  );
  observer.exchange(exchange);
  observer.received("docker.io", "blob", 5);
  expect(lines).toEqual([["upstream", { ...exchange, durationMs: 12 }]]);
  expect(passed).toEqual([exchange, ["docker.io", "blob", 5]]);
});
