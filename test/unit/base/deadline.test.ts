import { getEventListeners } from "node:events";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { beforeDeadline, DeadlineError, withDeadline } from "../../../src/base/deadline.ts";
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

describe("work that has until a deadline", () => {
  const o = { signal: new AbortController().signal, clock: systemClock };

  test("gives its result, or its failure, and leaves no timer", async () => {
    expect(await beforeDeadline(100, o, async () => "done")).toBe("done");
    await expect(beforeDeadline(100, o, () => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
    expect(vi.getTimerCount()).toBe(0);
  });

  test("leaves nobody listening to its signal, which Node would then keep for ever", async () => {
    const signals: AbortSignal[] = [];
    await beforeDeadline(100, o, async (signal) => signals.push(signal));
    const failing = beforeDeadline(100, o, async (signal) => {
      signals.push(signal);
      throw new Error("failed");
    });
    await expect(failing).rejects.toThrow("failed");
    expect(signals.map((signal) => getEventListeners(signal, "abort"))).toEqual([[], []]);
  });

  test("is not waited for any longer, whether or not it heeds the signal", async () => {
    const told: unknown[] = [];
    const late = beforeDeadline(100, o, (signal) => {
      signal.addEventListener("abort", () => told.push(signal.reason));
      return new Promise(() => {});
    });
    const result = expect(late).rejects.toThrow(DeadlineError);
    await vi.advanceTimersByTimeAsync(100);
    await result;
    expect(told).toHaveLength(1);
  });

  test("ends with the signal that it was given, and does not begin when that has aborted", async () => {
    const parent = new AbortController();
    const work = vi.fn(() => new Promise(() => {}));
    const left = beforeDeadline(100, { signal: parent.signal, clock: systemClock }, work);
    parent.abort(new Error("client left"));
    await expect(left).rejects.toThrow("client left");
    await expect(beforeDeadline(100, { signal: parent.signal, clock: systemClock }, work)).rejects.toThrow(
      "client left",
    );
    expect(work).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});
