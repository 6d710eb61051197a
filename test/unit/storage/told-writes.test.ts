import { expect, test } from "vitest";
import { hearWritten, passOnWritten, tellWritten } from "../../../src/storage/told-writes.ts";
import { eventually } from "../../support/fill-bench.ts";
import { linePair } from "../../support/port-pair.ts";

const ANYTHING = "anything";

/** Three workers of one parent, and what each of them and the parent have heard. */
function bench() {
  const pairs = [linePair(), linePair(), linePair()] as const;
  const heard = pairs.map((): string[] => []);
  const atParent: string[] = [];
  for (const [at, { parent, worker }] of pairs.entries()) {
    passOnWritten(
      parent,
      () => pairs.map((pair) => pair.parent),
      (key = ANYTHING) => atParent.push(key),
    );
    hearWritten(worker, (key = ANYTHING) => heard[at]?.push(key));
  }
  return { pairs, heard, atParent };
}

test("what one worker has written its parent and the others hear of, in order, and itself not", async () => {
  const { pairs, heard, atParent } = bench();
  tellWritten(pairs[0].worker, "a");
  tellWritten(pairs[0].worker, "b");
  await eventually("the others to hear", () => heard.flat().length === 4);
  expect(heard).toEqual([[], ["a", "b"], ["a", "b"]]);
  expect(atParent).toEqual(["a", "b"]);
});

test("what the parent has written only those hear of whom it tells", async () => {
  const { pairs, heard, atParent } = bench();
  for (const { parent } of pairs) tellWritten(parent, "a");
  tellWritten(pairs[1].parent);
  await eventually("all of them to hear", () => heard.flat().length === 4);
  expect(heard).toEqual([["a"], ["a", ANYTHING], ["a"]]);
  expect(atParent).toEqual([]);
});

test("what cannot be made out may be anything", async () => {
  const { pairs, heard, atParent } = bench();
  pairs[0].worker.tell("objects.written", { key: "a" });
  await eventually("the others to hear", () => heard.flat().length === 2);
  expect(heard).toEqual([[], [ANYTHING], [ANYTHING]]);
  expect(atParent).toEqual([ANYTHING]);
});
