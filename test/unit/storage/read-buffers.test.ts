import { describe, expect, test } from "vitest";
import { ReadBuffers } from "../../../src/storage/fs/read-buffers.ts";

const KIB = 1 << 10;
const MIB = 1 << 20;

describe("sizes", () => {
  test.each([
    ["a lone reader of much", 1, 100 * MIB, 2 * MIB],
    ["a lone reader of little", 1, 10, 16 * KIB],
    ["a lone reader of 64 KiB", 1, 64 * KIB, 64 * KIB],
    ["a lone reader of a bit more", 1, 64 * KIB + 1, 128 * KIB],
    ["the second", 2, 100 * MIB, MIB],
    ["the 16th", 16, 100 * MIB, MIB],
    ["the 17th", 17, 100 * MIB, 512 * KIB],
    ["the 100th", 100, 100 * MIB, 128 * KIB],
    ["the 10,000th", 10_000, 100 * MIB, 64 * KIB],
    ["the 10,000th, of little", 10_000, 1, 16 * KIB],
  ])("%s", (_, readers, wanted, size) => {
    const buffers = new ReadBuffers();
    for (let reader = 0; reader < readers; reader += 1) buffers.begin();
    expect(buffers.take(wanted).length).toBe(size);
  });

  test("a reader that has ended no longer counts", () => {
    const buffers = new ReadBuffers();
    const ends = Array.from({ length: 100 }, () => buffers.begin());
    for (const end of ends.slice(2)) end();
    expect(buffers.isAlone).toBe(false);
    expect(buffers.take(100 * MIB).length).toBe(MIB);
    for (const end of ends.slice(1, 2)) end();
    expect(buffers.isAlone).toBe(true);
    expect(buffers.take(100 * MIB).length).toBe(2 * MIB);
  });

  test("what several read is not made smaller by their number", () => {
    const buffers = new ReadBuffers();
    for (let reader = 0; reader < 1000; reader += 1) buffers.begin();
    expect(buffers.takeWhole(MIB).length).toBe(MIB);
    expect(buffers.takeWhole(MIB - 1).length).toBe(MIB);
    expect(buffers.takeWhole(1).length).toBe(16 * KIB);
  });
});

test("a buffer is used again, the last one first, and never by two at once", () => {
  const buffers = new ReadBuffers();
  const one = buffers.take(MIB);
  const two = buffers.take(MIB);
  expect(two).not.toBe(one);
  buffers.give(one);
  buffers.give(two);
  expect(buffers.take(MIB)).toBe(two);
  expect(buffers.take(MIB)).toBe(one);
  expect(buffers.take(MIB)).not.toBe(one);
});

test("no more than 96 MiB are kept for later, and none beside as much in use", () => {
  const buffers = new ReadBuffers();
  const taken = Array.from({ length: 100 }, () => buffers.takeWhole(MIB));
  for (const buffer of taken) buffers.give(buffer);
  const again = Array.from({ length: 100 }, () => buffers.takeWhole(MIB));
  for (const [index, buffer] of taken.slice(4).toReversed().entries()) expect(again[index]).toBe(buffer);
  expect(again.filter((buffer) => taken.includes(buffer))).toHaveLength(96);
  for (const buffer of again.slice(0, 1)) buffers.give(buffer);
  expect(buffers.takeWhole(MIB)).not.toBe(again[0]);
});

test("sizes that are not taken any more do not keep those out that are", () => {
  const buffers = new ReadBuffers();
  const large = Array.from({ length: 24 }, () => buffers.takeWhole(4 * MIB));
  for (const buffer of large) buffers.give(buffer);
  const taken = Array.from({ length: 10 }, () => buffers.takeWhole(MIB));
  for (const buffer of taken) buffers.give(buffer);
  for (const buffer of taken.toReversed()) expect(buffers.takeWhole(MIB)).toBe(buffer);
  const again = Array.from({ length: 24 }, () => buffers.takeWhole(4 * MIB));
  expect(again.filter((buffer) => large.includes(buffer))).toHaveLength(21);
});

test("nothing is kept after clear", () => {
  const buffers = new ReadBuffers();
  const buffer = buffers.take(MIB);
  buffers.give(buffer);
  buffers.clear();
  expect(buffers.take(MIB)).not.toBe(buffer);
});
