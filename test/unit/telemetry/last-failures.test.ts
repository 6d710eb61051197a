import { beforeEach, expect, test } from "vitest";
import { createLastFailures, type LastFailures } from "../../../src/telemetry/last-failures.ts";
import type { UpstreamExchange } from "../../../src/upstream/upstream.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const GOOD: UpstreamExchange = {
  upstream: "registry.example",
  kind: "manifest",
  method: "GET",
  url: "https://registry.example/v2/app/manifests/1",
  status: 200,
  fault: undefined,
  durationMs: 1,
  requestId: "id",
  hop: 0,
};

let clock: ManualClock;
let passedOn: unknown[];
let failures: LastFailures;

beforeEach(() => {
  clock = new ManualClock(1_000);
  passedOn = [];
  failures = createLastFailures(clock, {
    exchange: (e) => passedOn.push(e),
    received: (...args) => passedOn.push(args),
    breaker: (change) => passedOn.push(change),
  });
});

test("keeps the latest failure of each upstream, and passes everything on", () => {
  const { observer } = failures;
  const change = { upstream: "b", origin: "https://b", role: "registry", open: true, reason: "timeout" } as const;
  observer.exchange(GOOD);
  expect(failures.of("registry.example")).toBeUndefined();
  observer.exchange({ ...GOOD, status: 503, fault: "status" });
  clock.advance(5);
  observer.exchange({
    ...GOOD,
    upstream: "other.example",
    status: undefined,
    fault: "connect",
    detail: "other.example: other.example:443: no connection (ECONNREFUSED)",
  });
  observer.exchange(GOOD);
  observer.received("registry.example", "blob", 3);
  observer.breaker(change);
  expect(failures.of("registry.example")).toEqual({
    atMs: 1_000,
    reason: "status 503",
    text: "GET https://registry.example/v2/app/manifests/1: answered 503 (status)",
  });
  expect(failures.of("other.example")).toEqual({
    atMs: 1_005,
    reason: "connect",
    text: "other.example: other.example:443: no connection (ECONNREFUSED)",
  });
  expect(passedOn).toHaveLength(6);
});

test.each(["absent", "denied"] as const)("an upstream that says %s has not failed", (fault) => {
  failures.observer.exchange({ ...GOOD, status: 404, fault });
  expect(failures.of("registry.example")).toBeUndefined();
});

test("what an upstream has led to is cut, and safe to print", () => {
  const url = `https://cdn.example/${"\u001b[2J\u2028<b>".repeat(200)}`;
  failures.observer.exchange({ ...GOOD, url, status: 429, fault: "quota" });
  const { text = "", reason } = failures.of("registry.example") ?? {};
  expect(reason).toBe("quota");
  expect(text).toHaveLength(400);
  expect(text).not.toMatch(/[\p{Cc}\p{Zl}]/u);
});
