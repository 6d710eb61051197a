import { expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { BlobIndex, MANIFEST, PINNED } from "../../../src/proxy/room-index.ts";
import { chooseVictims, queueBefore } from "../../../src/proxy/room-victims.ts";

/** Blobs of 10 bytes, used in this order; `m` stands for a manifest, `p` for a pinned one. */
function indexOf(...kinds: readonly string[]): { index: BlobIndex; entries: readonly number[] } {
  const index = new BlobIndex();
  const entries = kinds.map((kind, i) => {
    const entry = index.ensure(digestOf(Buffer.from(String(i))));
    index.setHeld(entry, 10);
    index.use(entry, 1_000_000 * (i + 1));
    if (kind === "m") index.set(entry, MANIFEST, true);
    if (kind === "p") index.set(entry, PINNED, true);
    return entry;
  });
  return { index, entries };
}

const at = (entries: readonly number[], i: number): number => entries[i] ?? -1;

test.each([
  [["b", "b", "b"], [1, 2], 1, 1],
  [["b", "b", "b"], [0], 0, 0],
  [["m", "b", "b"], [0, 2], 2, 1],
  [["m", "b", "m"], [0], 0, 1],
  [["p", "b", "b"], [0, 2], 2, 1],
])("%j, of which %j: %i goes first, after %i others", (kinds, mine, first, before) => {
  const { index, entries } = indexOf(...kinds);
  const queue = queueBefore(
    index,
    mine.map((i) => at(entries, i)),
  );
  expect(queue).toEqual({ first: at(entries, first), blobs: before, bytes: before * 10 });
  // Evicting so much, and one byte more, is what takes it.
  const victims = chooseVictims(index, { bytes: before * 10 + 1 }).map(({ entry }) => entry);
  expect(victims.at(-1)).toBe(at(entries, first));
});

test("what is pinned does not go", () => {
  const { index, entries } = indexOf("p", "b");
  expect(queueBefore(index, [at(entries, 0)])).toBeUndefined();
});
