import { expect, test } from "vitest";
import type { Clock } from "../../../src/base/clock.ts";
import { withRetries } from "../../../src/upstream/retry.ts";
import { transportError } from "../../../src/upstream/transport-error.ts";
import { UpstreamError } from "../../../src/upstream/upstream.ts";

const { signal } = new AbortController();

function recordingClock(costMs = 0): Clock & { readonly pauses: number[] } {
  let now = 0;
  const pauses: number[] = [];
  return {
    pauses,
    now: () => {
      now += costMs;
      return now;
    },
    sleep: async (ms) => {
      pauses.push(ms);
      now += ms;
    },
  };
}

async function attempts(error: Error, clock = recordingClock()): Promise<{ count: number; pauses: readonly number[] }> {
  let count = 0;
  const failing = withRetries({ clock, random: () => 0.5 }, signal, async () => {
    count += 1;
    throw error;
  });
  await expect(failing).rejects.toBe(error);
  return { count, pauses: clock.pauses };
}

const status = (code: number, retryAfterMs?: number): UpstreamError =>
  new UpstreamError("r", "status", "m", { status: code, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });

function network(code: string): UpstreamError {
  return transportError("r", new URL("https://r.example"), Object.assign(new Error("x"), { code }));
}

test.each([500, 502, 503, 504])("a %s is tried twice more, after growing pauses", async (code) => {
  expect(await attempts(status(code))).toEqual({ count: 3, pauses: [150, 300] });
});

test("a broken connection is tried again, one that cannot be made is not", async () => {
  expect((await attempts(network("ECONNRESET"))).count).toBe(3);
  expect((await attempts(network("UND_ERR_SOCKET"))).count).toBe(3);
  expect((await attempts(network("ECONNREFUSED"))).count).toBe(1);
  expect((await attempts(network("ENOTFOUND"))).count).toBe(1);
});

test.each([
  status(501),
  status(400),
  status(503, 60_000),
  new UpstreamError("r", "absent", "m", { status: 404 }),
  new UpstreamError("r", "denied", "m", { status: 403 }),
  new UpstreamError("r", "quota", "m", { status: 429 }),
  new UpstreamError("r", "timeout", "m"),
  new UpstreamError("r", "bad-answer", "m"),
  new Error("not an upstream's"),
])("%# not tried again: %s", async (error) => {
  expect((await attempts(error)).count).toBe(1);
});

test("no retry starts after five seconds", async () => {
  expect((await attempts(status(503), recordingClock(6_000))).count).toBe(1);
});

test("what succeeds the second time has succeeded", async () => {
  let count = 0;
  const result = await withRetries({ clock: recordingClock(), random: Math.random }, signal, async () => {
    count += 1;
    if (count === 1) throw status(502);
    return "ok";
  });
  expect(result).toBe("ok");
});
