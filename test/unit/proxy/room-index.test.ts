import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { BlobIndex, HELD, LINKED, MANIFEST, PARTS, PINNED } from "../../../src/proxy/room-index.ts";

function digest(n: number): Digest {
  // A few of them longer than an index's key.
  return digestOf(Buffer.from(`blob ${n}`), n % 7 === 0 ? "sha512" : "sha256");
}

interface Modelled {
  occupied: number | undefined;
  usedAtMs: number;
  readonly owners: Set<string>;
  manifest: boolean;
}

test("agrees with a plain map, whatever comes and goes in whichever order", () => {
  const operation = fc.record({
    n: fc.nat(60),
    what: fc.constantFrom("hold", "unhold", "use", "own", "flag", "delete"),
    value: fc.nat(1_000_000),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const index = new BlobIndex();
      const model = new Map<Digest, Modelled>();
      for (const { n, what, value } of operations) {
        const key = digest(n);
        if (what === "delete") {
          const entry = index.find(key);
          expect(entry !== undefined).toBe(model.has(key));
          if (entry !== undefined) index.delete(entry);
          model.delete(key);
          continue;
        }
        const entry = index.ensure(key);
        const known = model.get(key) ?? { occupied: undefined, usedAtMs: 0, owners: new Set(), manifest: false };
        model.set(key, known);
        if (what === "hold" || what === "unhold") {
          known.occupied = what === "hold" ? value : undefined;
          index.setHeld(entry, known.occupied);
        } else if (what === "use") {
          known.usedAtMs = value;
          index.use(entry, value);
        } else if (what === "own") {
          known.owners.add(`upstream-${value % 5}`);
          index.own(entry, `upstream-${value % 5}`);
        } else {
          known.manifest = value % 2 === 0;
          index.set(entry, MANIFEST, known.manifest);
        }
      }
      expectSame(index, model);
    }),
    { numRuns: 300 },
  );
});

function expectSame(index: BlobIndex, model: ReadonlyMap<Digest, Modelled>): void {
  const found = new Map([...index.entries()].map((entry) => [index.digest(entry), entry]));
  expect([...found.keys()].sort()).toEqual([...model.keys()].sort());
  const perOwner = new Map<string, number>();
  for (const [key, { occupied, usedAtMs, owners, manifest }] of model) {
    const entry = index.find(key) ?? -1;
    expect(entry).toBe(found.get(key));
    expect(index.has(entry, HELD)).toBe(occupied !== undefined);
    expect(index.has(entry, MANIFEST)).toBe(manifest);
    expect(index.occupied(entry)).toBe(occupied ?? 0);
    expect(index.usedAtMs(entry)).toBe(usedAtMs);
    for (const owner of owners) {
      expect(index.isOwnedBy(entry, owner)).toBe(owners.size === 1);
      perOwner.set(owner, (perOwner.get(owner) ?? 0) + (occupied ?? 0));
    }
  }
  const held = [...model.values()].filter(({ occupied }) => occupied !== undefined);
  const sum = held.reduce((bytes, { occupied = 0 }) => bytes + occupied, 0);
  expect(index.held).toBe(held.length);
  expect(index.bytes).toBe(sum);
  expect(Array.from({ length: PARTS }, (_, part) => index.bytesOfPart(part)).reduce((a, b) => a + b)).toBe(sum);
  const byOwner = index.bytesByOwner();
  for (const [owner, bytes] of perOwner) expect(byOwner.get(owner)).toBe(bytes);
}

describe("entries", () => {
  test("are found after the table has grown, and after most have gone", () => {
    const index = new BlobIndex();
    for (let n = 0; n < 5000; n += 1) index.setHeld(index.ensure(digest(n)), n);
    for (let n = 0; n < 5000; n += 1) if (n % 10 !== 0) index.delete(index.find(digest(n)) ?? -1);
    for (let n = 0; n < 5000; n += 1) {
      const entry = index.find(digest(n));
      if (n % 10 === 0) expect(entry !== undefined && index.occupied(entry)).toBe(n);
      else expect(entry).toBeUndefined();
    }
    expect(index.held).toBe(500);
  });

  test("lose a flag together", () => {
    const index = new BlobIndex();
    for (let n = 0; n < 10; n += 1) {
      index.set(index.ensure(digest(n)), LINKED, true);
      index.set(index.ensure(digest(n)), PINNED, true);
    }
    index.clear(LINKED);
    expect([...index.entries()].map((entry) => index.has(entry, LINKED))).toEqual(Array(10).fill(false));
    expect([...index.entries()].map((entry) => index.has(entry, PINNED))).toEqual(Array(10).fill(true));
  });
});
