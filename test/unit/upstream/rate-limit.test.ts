import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { headerView } from "../../../src/upstream/header-view.ts";
import { readRateLimitHeaders, shareLeft } from "../../../src/upstream/rate-limit.ts";

const NOW = Date.parse("2026-09-01T10:00:00Z");
const DAY_S = 24 * 3600;

function read(limit: string | undefined, remaining: string | undefined, more: Readonly<Record<string, string>> = {}) {
  return readRateLimitHeaders(headerView({ "ratelimit-limit": limit, "ratelimit-remaining": remaining, ...more }), NOW);
}

describe("what headers tell of a limit (upstreams.md, section 12)", () => {
  test.each<
    [string, string | undefined, string | undefined, readonly [number, number, number | undefined] | undefined]
  >([
    ["Docker Hub's", "100;w=21600", "76;w=21600", [100, 76, 21_600]],
    ["spaces", " 100 ; w = 21600 ", "76; w=21600 ", [100, 76, 21_600]],
    ["no window", "500", "499", [500, 499, undefined]],
    ["a window at one of them", "100;w=21600", "76", [100, 76, 21_600]],
    ["a window at the other", "100", "76;w=21600", [100, 76, 21_600]],
    ["several, the tightest decides", "100;w=60, 1000;w=3600", "90;w=60, 10;w=3600", [1000, 10, 3600]],
    ["several in another order", "1000;w=3600, 100;w=60", "90;w=60, 10;w=3600", [1000, 10, 3600]],
    ["policies behind the limit", "10, 10;w=1, 50;w=60", "9", [10, 9, undefined]],
    ["other parameters", '10;comment="a=b";w=60;burst=5', "9;x", [10, 9, 60]],
    ["more left than the limit", "100;w=60", "120;w=60", [100, 120, 60]],
    ["nothing left", "100;w=60", "0;w=60", [100, 0, 60]],
    ["a limit of nothing", "0;w=60", "0;w=60", [0, 0, 60]],
    ["a window of nothing", "100;w=0", "7;w=0", [100, 7, undefined]],
    ["a window beyond all reason", "100;w=999999999999", "7", [100, 7, DAY_S]],
    ["no limit", undefined, "76;w=21600", undefined],
    ["nothing of what is left", "100;w=21600", undefined, undefined],
    ["neither", undefined, undefined, undefined],
    ["empty", "", "", undefined],
    ["less than nothing", "100", "-1", undefined],
    ["no whole number", "100.5", "1e2", undefined],
    ["a number too long", "9999999999999", "1", undefined],
    ["words", "unlimited", "unlimited", undefined],
    ["a value that is none before one that is", "x, 100;w=60", "y, 50;w=60", [100, 50, 60]],
    ["a line end and control characters", "100\u0000", "76\n;w=1", undefined],
  ])("%s", (_, limit, remaining, expected) => {
    const told = read(limit, remaining);
    expect(told && [told.limit, told.remaining, told.windowS]).toEqual(expected);
  });

  test.each<[string, string, number | undefined]>([
    ["an instant in epoch seconds (GitLab)", String(NOW / 1000 + 42), NOW + 42_000],
    ["seconds", "42", NOW + 42_000],
    ["now", "0", NOW],
    ["in a week", String(7 * DAY_S), undefined],
    ["last year", String(NOW / 1000 - 365 * DAY_S), undefined],
    ["a date", "Tue, 01 Sep 2026 10:01:00 GMT", undefined],
    ["nothing", "", undefined],
  ])("a reset: %s", (_, reset, expected) => {
    expect(read("500", "499", { "ratelimit-reset": reset })?.resetAtMs).toBe(expected);
  });

  test("X-RateLimit-* where there is nothing better", () => {
    const told = { "x-ratelimit-limit": "60", "x-ratelimit-remaining": "59", "x-ratelimit-reset": "30" };
    expect(read(undefined, undefined, told)).toEqual({
      limit: 60,
      remaining: 59,
      windowS: undefined,
      resetAtMs: NOW + 30_000,
    });
    expect(read("100;w=60", "1;w=60", told)).toEqual({ limit: 100, remaining: 1, windowS: 60 });
  });

  test("whatever stands there, the numbers are whole, bounded and not negative", () => {
    const value = fc.oneof(
      fc.string(),
      fc.nat().map(String),
      fc
        .array(fc.tuple(fc.bigInt({ min: 0n, max: 10n ** 14n }), fc.nat()).map(([count, w]) => `${count} ;w=${w}`))
        .map((values) => values.join(",")),
    );
    fc.assert(
      fc.property(value, value, value, (limit, remaining, reset) => {
        const told = read(limit, remaining, { "ratelimit-reset": reset });
        if (told === undefined) return;
        for (const count of [told.limit, told.remaining]) {
          expect(Number.isSafeInteger(count) && count >= 0 && count < 1e12).toBe(true);
        }
        expect(told.windowS === undefined || (told.windowS > 0 && told.windowS <= DAY_S)).toBe(true);
        const inMs = (told.resetAtMs ?? NOW) - NOW;
        expect(inMs >= 0 && inMs <= DAY_S * 1000).toBe(true);
        expect(shareLeft(told) >= 0 && shareLeft(told) <= 1).toBe(true);
      }),
    );
  });

  test("ten thousand values are read no further than the first few", () => {
    expect(read("7".concat(",8".repeat(10_000)), "6".concat(",0".repeat(10_000)))?.limit).toBe(8);
  });
});
