import { describe, expect, test } from "vitest";
import { createHasher, digestOf } from "../../../src/oci/digest.ts";
import { FillMemory } from "../../../src/proxy/fill-memory.ts";
import { FillWindow } from "../../../src/proxy/fill-window.ts";
import { seededBytes } from "../../support/images.ts";

const BLOCK = 16;

function windowOf(bytes: Uint8Array, start = 0): { window: FillWindow; memory: FillMemory } {
  const memory = new FillMemory(BLOCK, () => {});
  const hash = createHasher("sha256");
  hash.update(bytes.subarray(0, start));
  const window = new FillWindow(memory, start, hash);
  window.append(bytes.subarray(start, start + 5));
  window.append(bytes.subarray(start + 5));
  return { window, memory };
}

function taken(window: FillWindow, from: number, to: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = from; at < to; ) {
    const slice = window.slice(at, to);
    if (slice === undefined) throw new Error(`nothing at ${at}`);
    parts.push(Buffer.from(slice.bytes));
    at += slice.bytes.length;
    slice.release();
  }
  return Buffer.concat(parts);
}

describe("a window", () => {
  const bytes = seededBytes("window", 100);

  test.for([0, 7])("that begins at byte %i gives what was put in, and knows the hash of every prefix", (start) => {
    const { window } = windowOf(bytes, start);
    expect([window.start, window.end]).toEqual([start, 100]);
    expect(taken(window, start, 100).equals(bytes.subarray(start))).toBe(true);
    for (let at = start; at <= 100; at += 1) {
      expect(window.hashAt(at)?.digest()).toBe(digestOf(bytes.subarray(0, at)));
    }
  });

  test("forgets whole blocks only", () => {
    const { window } = windowOf(bytes);
    window.trim(15);
    expect(window.start).toBe(0);
    window.trim(16);
    expect(window.start).toBe(16);
    expect(window.slice(15, 100)).toBeUndefined();
    window.trim(99);
    expect(window.start).toBe(96);
    window.trim(100);
    expect([window.start, window.end, window.slice(100, 101)]).toEqual([100, 100, undefined]);
    window.append(bytes);
    expect(taken(window, 100, 200).equals(bytes)).toBe(true);
    expect(window.hashAt(200)?.digest()).toBe(digestOf(Buffer.concat([bytes, bytes])));
  });

  test("never uses memory again that somebody is still reading", () => {
    const { window, memory } = windowOf(bytes);
    const [one, other] = [window.slice(0, 16), window.slice(3, 16)];
    window.trim(16);
    const fresh = [memory.takeBlock(), memory.takeBlock()];
    for (const block of fresh) block.fill(0);
    expect(one?.bytes).toEqual(bytes.subarray(0, 16));
    one?.release();
    memory.takeBlock().fill(0);
    expect(other?.bytes).toEqual(bytes.subarray(3, 16));
    other?.release();
    const reused = memory.takeBlock();
    expect(reused.buffer).toBe(other?.bytes.buffer);
  });
});

test("what many fills and readers share stays within its bounds", () => {
  const counts: number[] = [];
  const memory = new FillMemory(BLOCK, (count) => counts.push(count));
  expect(memory.windowBytes(1 << 20)).toBe(1 << 20);
  for (let fill = 0; fill < 1000; fill += 1) memory.fillStarted();
  expect(memory.windowBytes(1 << 20) * 1000).toBeLessThanOrEqual(64 << 20);
  for (let fill = 0; fill < 999; fill += 1) memory.fillEnded();
  expect(memory.windowBytes(1 << 20)).toBe(1 << 20);
  expect(memory.windowBytes(1)).toBe(2 * BLOCK);
  expect(memory.readBytes()).toBe(1 << 20);
  for (let reader = 0; reader < 100; reader += 1) memory.readerEntered();
  expect(memory.readBytes() * 100).toBeLessThanOrEqual(16 << 20);
  for (let reader = 0; reader < 9_900; reader += 1) memory.readerEntered();
  expect(memory.readBytes()).toBe(64 << 10);
  memory.readerLeft();
  expect(counts.at(-1)).toBe(9_999);
});
