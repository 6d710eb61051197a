import fc from "fast-check";
import { expect, test } from "vitest";
import { formatDuration, formatSize, parseDuration, parseSize } from "../../../src/base/units.ts";

test.each([
  ["500ms", 500],
  ["90s", 90_000],
  ["10m", 600_000],
  ["12h", 43_200_000],
  ["7d", 604_800_000],
  ["0s", 0],
])("the duration %s", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each([
  "",
  "10",
  "m",
  "-1s",
  "+1s",
  "1.5h",
  "1h30m",
  " 1s",
  "1s ",
  "1 s",
  "1S",
  "1w",
  "1e3s",
  "٣s",
  "1constructor",
])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test.each([
  ["123", 123],
  ["0", 0],
  ["1B", 1],
  ["64KiB", 65_536],
  ["500MiB", 524_288_000],
  ["200GiB", 214_748_364_800],
  ["1TiB", 1_099_511_627_776],
  ["10KB", 10_000],
  ["10MB", 10_000_000],
  ["1GB", 1_000_000_000],
  ["1TB", 1_000_000_000_000],
])("the size %s", (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(["", "MiB", "-1", "1.5GiB", "1 MiB", "1mib", "1K", "0x10", "1e6", "9007199254740993", "9007199254740993B"])(
  "%j is no size",
  (text) => {
    expect(parseSize(text)).toBeUndefined();
  },
);

test("numbers beyond what can be counted exactly are refused", () => {
  expect(parseDuration(`${"9".repeat(400)}d`)).toBeUndefined();
  expect(parseSize("9007199254740991TiB")).toBeUndefined();
});

test.each([
  [0, "0s"],
  [1, "1ms"],
  [1_500, "1500ms"],
  [60_000, "1m"],
  [90_000, "90s"],
  [2_592_000_000, "30d"],
])("%d ms is written %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test.each([
  [0, "0B"],
  [1, "1B"],
  [4_194_304, "4MiB"],
  [10_000_000, "10MB"],
  [1_536, "1536B"],
])("%d bytes are written %s", (bytes, text) => {
  expect(formatSize(bytes)).toBe(text);
});

test("what is written can be read again", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      expect(parseDuration(formatDuration(value))).toBe(value);
      expect(parseSize(formatSize(value))).toBe(value);
    }),
  );
});

test("any text is read without throwing", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseDuration(text);
      parseSize(text);
    }),
  );
});
