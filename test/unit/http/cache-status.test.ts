import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatCacheStatus, formatWarning } from "../../../src/http/cache-status.ts";
import type { CacheInfo } from "../../../src/proxy/answers.ts";

describe("formatCacheStatus", () => {
  test.each<[CacheInfo, string]>([
    [{ outcome: "hit" }, "weir; hit"],
    [{ outcome: "hit", ttlS: 540 }, "weir; hit; ttl=540"],
    [{ outcome: "hit", ttlS: 539.6 }, "weir; hit; ttl=539"],
    [{ outcome: "miss" }, "weir; fwd=miss"],
    [{ outcome: "miss", stored: true }, "weir; fwd=miss; stored"],
    [{ outcome: "miss", stored: false }, "weir; fwd=miss"],
    [{ outcome: "miss", fwdStatus: 429 }, "weir; fwd=miss; fwd-status=429"],
    [{ outcome: "collapsed", stored: true }, "weir; fwd=miss; collapsed"],
    [
      { outcome: "stale", fwdStatus: 503, detail: "stale-if-error" },
      "weir; fwd=stale; fwd-status=503; detail=stale-if-error",
    ],
    [{ outcome: "stale", detail: "soft-deadline" }, "weir; fwd=stale; detail=soft-deadline"],
    [{ outcome: "revalidated", ttlS: 600 }, "weir; fwd=stale; ttl=600; detail=revalidated"],
    [{ outcome: "negative" }, "weir; hit; detail=negative"],
    [{ outcome: "bypass" }, "weir; fwd=bypass"],
    [{ outcome: "none" }, "weir"],
    [{ outcome: "miss", detail: 'two words "é"' }, 'weir; fwd=miss; detail="two words \\"?\\""'],
  ])("%o is %s", (info, header) => {
    expect(formatCacheStatus(info)).toBe(header);
  });
});

describe("formatWarning", () => {
  test("is a 299 without an agent", () => {
    expect(formatWarning("stale since 10:00")).toBe('299 - "stale since 10:00"');
  });

  test("escapes quotes and backslashes", () => {
    expect(formatWarning('a "b" \\c')).toBe('299 - "a \\"b\\" \\\\c"');
  });

  test("is a header value of 4096 bytes at most, with whole escapes, for whatever text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 5000, size: "max" }), (text) => {
        const header = formatWarning(text);
        expect(header).toMatch(/^299 - "(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"$/);
        expect(header.length).toBeLessThanOrEqual(4096);
      }),
    );
    expect(formatWarning("x".repeat(10_000))).toHaveLength(4096);
  });
});
