import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { GatheredLines } from "../../../src/telemetry/gathered-lines.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function gather() {
  const written: string[] = [];
  const flushed: number[] = [];
  const lines = new GatheredLines({
    write: (bytes) => written.push(bytes.toString()),
    flushSync: () => flushed.push(written.length),
  });
  return { lines, written, flushed };
}

const listeners = (): number => process.listenerCount("exit");

test("lines that come together are written together, a moment later, in their order", () => {
  const { lines, written } = gather();
  lines.write("one\n");
  lines.write("zwölf 界 🐳\n");
  expect(written).toEqual([]);
  vi.runAllTimers();
  expect(written).toEqual(["one\nzwölf 界 🐳\n"]);
  lines.write("three\n");
  vi.runAllTimers();
  expect(written).toEqual(["one\nzwölf 界 🐳\n", "three\n"]);
});

test("what is gathered is bounded, and a line of any length comes out whole and in its turn", () => {
  const { lines, written } = gather();
  const long = `${"界".repeat(100_000)}\n`;
  const all = ["first\n", long, ...Array.from({ length: 20_000 }, (_, i) => `line ${i} of many\n`), long, "last\n"];
  for (const line of all) lines.write(line);
  expect(written.length).toBeGreaterThan(3);
  vi.runAllTimers();
  expect(written.join("")).toBe(all.join(""));
  expect(written.filter((text) => text !== long).every((text) => text.length <= 256 * 1024)).toBe(true);
});

test("the process's exit writes what is gathered, and waits for it", () => {
  const before = listeners();
  const { lines, written, flushed } = gather();
  lines.write("last words\n");
  const [exit] = process.listeners("exit").slice(before);
  exit?.call(process, 0);
  expect([written, flushed]).toEqual([["last words\n"], [1]]);
  vi.runAllTimers();
  expect(written).toHaveLength(1);
});

test("nothing is left with the process where nothing is gathered", () => {
  const before = listeners();
  const { lines } = gather();
  for (let i = 0; i < 3; i += 1) {
    lines.write("line\n");
    lines.write("line\n");
    expect(listeners()).toBe(before + 1);
    vi.runAllTimers();
    expect(listeners()).toBe(before);
  }
});
