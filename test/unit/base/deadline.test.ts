import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DeadlineError, withDeadline } from "../../../src/base/deadline.ts";
import { systemClock } from "../../../src/base/system-clock.ts";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

test("aborts when time is up", async () => {
  const deadline = withDeadline(new AbortController().signal, 100, systemClock);
  await vi.advanceTimersByTimeAsync(99);
  expect(deadline.signal.aborted).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(deadline.signal.reason).toBeInstanceOf(DeadlineError);
  expect(String(deadline.signal.reason)).toContain("100 ms");
});

test("aborts with its parent, for the parent's reason", async () => {
  const parent = new AbortController();
  const deadline = withDeadline(parent.signal, 100, systemClock);
  parent.abort(new Error("client left"));
  expect(deadline.signal.reason).toBe(parent.signal.reason);
  expect(vi.getTimerCount()).toBe(0);
});

test("once cleared it follows its parent only", async () => {
  const parent = new AbortController();
  const deadline = withDeadline(parent.signal, 100, systemClock);
  deadline.clear();
  deadline.clear();
  expect(vi.getTimerCount()).toBe(0);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(deadline.signal.aborted).toBe(false);
  parent.abort();
  expect(deadline.signal.aborted).toBe(true);
});
