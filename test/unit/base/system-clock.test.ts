import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { systemClock } from "../../../src/base/system-clock.ts";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

const DAY_MS = 86_400_000;

async function settledAfter(sleep: Promise<void>, ms: number): Promise<boolean> {
  let settled = false;
  void sleep.then(() => {
    settled = true;
  });
  await vi.advanceTimersByTimeAsync(ms);
  return settled;
}

test("now is the machine's time", () => {
  vi.setSystemTime(1_700_000_000_000);
  expect(systemClock.now()).toBe(1_700_000_000_000);
});

test("sleeps for as long as asked", async () => {
  const sleep = systemClock.sleep(1_000, new AbortController().signal);
  expect(await settledAfter(sleep, 999)).toBe(false);
  expect(await settledAfter(sleep, 1)).toBe(true);
});

test("sleeps longer than a timer can hold", async () => {
  const sleep = systemClock.sleep(60 * DAY_MS, new AbortController().signal);
  expect(await settledAfter(sleep, 60 * DAY_MS - 1)).toBe(false);
  expect(await settledAfter(sleep, 1)).toBe(true);
});

test("an abort ends the sleep with its reason and leaves no timer", async () => {
  const controller = new AbortController();
  const sleep = systemClock.sleep(1_000, controller.signal);
  controller.abort(new Error("stopping"));
  await expect(sleep).rejects.toThrow("stopping");
  expect(vi.getTimerCount()).toBe(0);
});

test("an aborted signal starts no sleep", async () => {
  await expect(systemClock.sleep(1_000, AbortSignal.abort(new Error("stopped")))).rejects.toThrow("stopped");
  expect(vi.getTimerCount()).toBe(0);
});
