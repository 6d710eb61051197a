import { describe, expect, test } from "vitest";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { BlobIndex, HELD, LINKED, MANIFEST, PINNED } from "../../../src/proxy/room-index.ts";
import { chooseAged, chooseUnlinked, chooseVictims, type Victims } from "../../../src/proxy/room-victims.ts";

interface Blob {
  readonly name: string;
  readonly bytes?: number;
  readonly usedAtMs: number;
  readonly flags?: number;
  readonly upstreams?: readonly string[];
}

function indexOf(blobs: readonly Blob[]): { index: BlobIndex; names(victims: Victims): string[] } {
  const index = new BlobIndex();
  const names = new Map<Digest, string>();
  for (const { name, bytes = 10, usedAtMs, flags = LINKED, upstreams = ["a.example"] } of blobs) {
    const digest = digestOf(Buffer.from(name));
    names.set(digest, name);
    const entry = index.ensure(digest);
    index.setHeld(entry, bytes);
    index.use(entry, usedAtMs);
    for (const flag of [MANIFEST, PINNED, LINKED]) index.set(entry, flag, (flags & flag) !== 0);
    for (const upstream of upstreams) index.own(entry, upstream);
  }
  return { index, names: (victims) => victims.map(({ entry }) => names.get(index.digest(entry)) ?? "?") };
}

const B = (name: string, usedAtMs: number, more: Partial<Blob> = {}): Blob => ({ name, usedAtMs, ...more });

describe("what goes to make room", () => {
  const cases: readonly [
    title: string,
    blobs: readonly Blob[],
    wanted: Parameters<typeof chooseVictims>[1],
    goes: string[],
  ][] = [
    ["nothing, where nothing is wanted", [B("a", 1)], { bytes: 0 }, []],
    ["nothing, where nothing is held", [], { bytes: 10 }, []],
    ["what was used least recently", [B("new", 9), B("old", 1), B("middle", 5)], { bytes: 15 }, ["old", "middle"]],
    ["no more than it takes", [B("a", 1, { bytes: 100 }), B("b", 2), B("c", 3)], { bytes: 50 }, ["a"]],
    ["all, where that is not enough", [B("b", 2), B("a", 1)], { bytes: 1000 }, ["a", "b"]],
    ["never what is pinned", [B("pinned", 1, { flags: PINNED }), B("b", 2)], { bytes: 1000 }, ["b"]],
    [
      "manifests when nothing else is left",
      [B("old manifest", 1, { flags: MANIFEST }), B("manifest", 2, { flags: MANIFEST }), B("b", 9), B("a", 8)],
      { bytes: 25 },
      ["a", "b", "old manifest"],
    ],
    [
      "for an upstream's cap, only what is its alone",
      [
        B("theirs", 1, { upstreams: ["b.example"] }),
        B("shared", 2, { upstreams: ["a.example", "b.example"] }),
        B("nobody's", 3, { upstreams: [] }),
        B("own", 4),
        B("own, newer", 5),
      ],
      { bytes: 5, upstream: "a.example" },
      ["own"],
    ],
    ["those used at the same time, too", [B("a", 5), B("b", 5), B("c", 5)], { bytes: 1000 }, ["a", "b", "c"]],
  ];

  test.each(cases)("%s", (_, blobs, wanted, goes) => {
    const { index, names } = indexOf(blobs);
    const chosen = names(chooseVictims(index, wanted));
    expect(goes.length === 3 && blobs.every(({ usedAtMs }) => usedAtMs === 5) ? chosen.sort() : chosen).toEqual(goes);
  });

  test("in the order of use also among thousands, of which few go", () => {
    const blobs = Array.from({ length: 5000 }, (_, n) => B(String(n), (n * 7919) % 5003));
    const { index, names } = indexOf(blobs);
    const expected = [...blobs].sort((a, b) => a.usedAtMs - b.usedAtMs).slice(0, 300);
    expect(names(chooseVictims(index, { bytes: 3000 }))).toEqual(expected.map(({ name }) => name));
  });
});

test("what nobody asked for is what is older, not pinned, and no manifest", () => {
  const { index, names } = indexOf([
    B("old", 1),
    B("old manifest", 1, { flags: MANIFEST }),
    B("old, pinned", 1, { flags: PINNED }),
    B("older", 0),
    B("young", 10),
  ]);
  expect(names(chooseAged(index, 10))).toEqual(["older", "old"]);
});

test("what no repository has goes whatever it is, but not while it is young or pinned", () => {
  const { index, names } = indexOf([
    B("linked", 1),
    B("unlinked", 1, { flags: 0 }),
    B("unlinked manifest", 2, { flags: MANIFEST }),
    B("unlinked, young", 10, { flags: 0 }),
    B("unlinked, pinned", 1, { flags: PINNED }),
  ]);
  index.setHeld(index.ensure(digestOf(Buffer.from("not held"))), undefined);
  expect(names(chooseUnlinked(index, 10))).toEqual(["unlinked", "unlinked manifest"]);
  expect(index.has(index.ensure(digestOf(Buffer.from("not held"))), HELD)).toBe(false);
});
