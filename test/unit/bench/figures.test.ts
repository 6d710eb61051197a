import { describe, expect, test } from "vitest";
import {
  differenceOf,
  figureOf,
  median,
  quartiles,
  ratioOf,
  relativeSpread,
  short,
} from "../../../scripts/bench/figures.ts";

test.each([
  [[3], 3],
  [[3, 1, 2], 2],
  [[4, 1, 3, 2], 2.5],
  [[], Number.NaN],
])("the median of %j is %d", (values, expected) => {
  expect(median(values)).toBe(expected);
});

test("the median leaves the values in their order", () => {
  const values = [3, 1, 2];
  median(values);
  expect(values).toEqual([3, 1, 2]);
});

test("a figure has the least and the largest beside the median", () => {
  expect(figureOf([5, 1, 3])).toEqual({ value: 3, min: 1, max: 5 });
});

describe("a ratio", () => {
  test("is one of medians, with the least and the largest of any round", () => {
    expect(ratioOf([10, 30, 20], [10, 10, 40])).toEqual({ value: 2, min: 0.5, max: 3 });
  });

  test("counts rounds that only one of the two has for the medians alone", () => {
    expect(ratioOf([2, 4, 100], [1, 4])).toEqual({ value: 1.6, min: 1, max: 2 });
    expect(ratioOf([2], [1, 4, 1])).toEqual({ value: 2, min: 2, max: 2 });
  });
});

test("a difference is one of medians", () => {
  expect(differenceOf([5, 7, 6], [1, 2, 3])).toEqual({ value: 4, min: 3, max: 5 });
});

test("the relative spread is a share of the median", () => {
  expect(relativeSpread([90, 100, 115])).toBe(0.25);
});

test("quartiles leave out the ends", () => {
  expect(quartiles([0, 1, 2, 3, 4, 5, 6, 100])).toBe("2.0 to 6.0");
});

test.each([
  [12_345.6, "12,346"],
  [-1234, "-1,234"],
  [123.4, "123"],
  [12.34, "12.3"],
  [1.234, "1.23"],
  [0.1234, "0.12"],
  [0.01234, "0.012"],
  [0, "0.00"],
  [Number.NaN, "-"],
  [Number.POSITIVE_INFINITY, "-"],
])("%d is written %s", (value, text) => {
  expect(short(value)).toBe(text);
});
