import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { headerView } from "../../../src/upstream/header-view.ts";
import {
  parseGoDuration,
  parseRetryAfter,
  retryAfterInMessage,
  retryAfterOf,
} from "../../../src/upstream/retry-after.ts";

const NOW = Date.parse("2026-09-01T10:00:00Z");
const DAY = 24 * 3600 * 1000;

describe("U6 Retry-After", () => {
  test.each([
    ["0", 0],
    ["47", 47_000],
    [" 47 ", 47_000],
    ["1.5", 1_500],
    ["Tue, 01 Sep 2026 10:01:00 GMT", 60_000],
    ["Tuesday, 01-Sep-26 10:00:30 GMT", 30_000],
    ["Tue Sep  1 10:00:10 2026 GMT", 10_000],
    ["Tue, 01 Sep 2026 09:00:00 GMT", 0],
    [String(NOW / 1000 + 90), 90_000],
    [String(NOW + 1_500), 1_500],
    ["999999999", DAY],
    ["Tue, 01 Sep 2099 10:00:00 GMT", DAY],
    ["-1", undefined],
    ["soon", undefined],
    ["", undefined],
    ["1e9", undefined],
    ["99999999999999999999", undefined],
    ["Foo, 99 Bar 2026 10:00:00 GMT", undefined],
    [undefined, undefined],
  ])("%j means %s ms", (header, expected) => {
    expect(parseRetryAfter(header, NOW)).toBe(expected);
  });

  test.each([
    ["retry-after: 880.092µs, allowed: 44000/minute", 1],
    ["retry-after: 1m30.5s, allowed: 2000/minute", 90_500],
    ["Retry-After: 2s", 2_000],
    ["rate limited", undefined],
    ["retry-after: never", undefined],
  ])("in a message: %s", (message, expected) => {
    expect(retryAfterInMessage(message)).toBe(expected);
  });

  test.each([
    ["1h", 3_600_000],
    ["250ms", 250],
    ["300us", 1],
    ["1000000h", DAY],
    ["5", undefined],
    ["5d", undefined],
    ["", undefined],
  ])("Go duration %s", (text, expected) => {
    expect(parseGoDuration(text)).toBe(expected);
  });

  test.each<[string, string | undefined, string, number | undefined]>([
    ["the header", "47", "", 47_000],
    ["the message", undefined, "retry-after: 1.5s, allowed: 44000/minute", 1_500],
    ["the header before the message", "3", "retry-after: 1.5s", 3_000],
    ["a header that says nothing", "soon", "retry-after: 1.5s", 1_500],
    ["nothing", undefined, "", undefined],
  ])("of an answer: %s", (_, header, message, expected) => {
    expect(retryAfterOf(headerView({ "retry-after": header }), message, NOW)).toBe(expected);
  });

  test("whatever stands there, the delay is between nothing and a day", () => {
    const within = (ms: number | undefined): boolean =>
      ms === undefined || (ms >= 0 && ms <= DAY && Number.isInteger(ms));
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.nat().map(String),
          fc.date({ noInvalidDate: true }).map((d) => d.toUTCString()),
        ),
        (text) => {
          expect(within(parseRetryAfter(text, NOW))).toBe(true);
          expect(within(retryAfterInMessage(text))).toBe(true);
          expect(within(parseGoDuration(text))).toBe(true);
        },
      ),
    );
  });
});
