import { expect, test } from "vitest";
import { Seldom } from "../../../src/base/seldom.ts";
import { ManualClock } from "../../support/manual-clock.ts";

test("each cause is told of at once, and then with how often it has happened since", () => {
  const clock = new ManualClock();
  const seldom = new Seldom<"a" | "b">({ clock, everyMs: 60_000 });
  const told: [string, number][] = [];
  const happens = (cause: "a" | "b"): void => seldom.tell(cause, (times) => told.push([cause, times]));
  for (let i = 0; i < 5; i += 1) happens("a");
  happens("b");
  clock.advance(59_999);
  happens("a");
  expect(told).toEqual([
    ["a", 1],
    ["b", 1],
  ]);
  clock.advance(1);
  happens("a");
  happens("a");
  expect(told.slice(2)).toEqual([["a", 6]]);
});
