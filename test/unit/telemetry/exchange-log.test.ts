import { expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { logExchanges } from "../../../src/telemetry/exchange-log.ts";
import type { BreakerChange, UpstreamExchange, UpstreamObserver } from "../../../src/upstream/upstream.ts";

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

/** Keeps everything that it is told. */
function observing(passed: unknown[]): UpstreamObserver {
  return {
    exchange: (e) => passed.push(e),
    received: (...received) => passed.push(received),
    breaker: (change) => passed.push(change),
  };
}

test("an exchange is a line with the request's id, and goes on to the next observer with everything received", () => {
  const lines: unknown[] = [];
  const passed: unknown[] = [];
  const observer = logExchanges(
    { ...silentLog, info: (fields, message) => lines.push([message, fields]) },
    observing(passed),
  );
  observer.exchange(exchange);
  observer.received("docker.io", "blob", 5);
  expect(lines).toEqual([["upstream", { ...exchange, durationMs: 12 }]]);
  expect(passed).toEqual([exchange, ["docker.io", "blob", 5]]);
});

test("an origin that is given up is a warning, one that is found again a line, and both go on to the next observer", () => {
  const lines: unknown[] = [];
  const passed: unknown[] = [];
  const line =
    (level: string) =>
    (fields: unknown): void => {
      lines.push([level, fields]);
    };
  const observer = logExchanges({ ...silentLog, info: line("info"), warn: line("warn") }, observing(passed));
  const origin = { upstream: "docker.io", origin: "https://registry-1.docker.io", role: "registry" } as const;
  const changes: readonly BreakerChange[] = [
    { ...origin, open: true, reason: "status 503" },
    { ...origin, open: false, reason: undefined },
  ];
  for (const change of changes) observer.breaker(change);
  expect(lines).toEqual([
    ["warn", { ...origin, reason: "status 503" }],
    ["info", { ...origin, reason: undefined }],
  ]);
  expect(passed).toEqual(changes);
});
