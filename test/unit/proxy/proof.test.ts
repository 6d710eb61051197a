import { describe, expect, test } from "vitest";
import { decideProof, type ProofFacts } from "../../../src/proxy/proof.ts";

const NOTHING: ProofFacts = {
  visibility: "public",
  mayReadPrivate: false,
  held: false,
  linked: false,
  listed: false,
  confirmed: false,
  provenance: undefined,
  upstream: "docker.io",
};
const HELD: ProofFacts = { ...NOTHING, held: true };
const OPEN = { public: true, upstreams: [] };
const OURS = { public: false, upstreams: ["docker.io"] };
const FOREIGN = { public: false, upstreams: ["private.example"] };

const ROWS: readonly (readonly [string, ProofFacts, string])[] = [
  ["nothing held: the repository's own upstream has to deliver", NOTHING, "possess"],
  ["nothing held, although listed and linked", { ...NOTHING, listed: true, linked: true, provenance: OPEN }, "possess"],
  ["linked", { ...HELD, linked: true }, "serve"],
  ["linked, whatever the bytes' origin", { ...HELD, linked: true, provenance: FOREIGN }, "serve"],
  ["public bytes, no word yet", { ...HELD, provenance: OPEN }, "confirm"],
  ["public bytes, listed", { ...HELD, provenance: OPEN, listed: true }, "serve"],
  ["public bytes, confirmed", { ...HELD, provenance: OPEN, confirmed: true }, "serve"],
  ["bytes of this upstream, no word yet", { ...HELD, provenance: OURS }, "confirm"],
  ["bytes of this upstream, listed", { ...HELD, provenance: OURS, listed: true }, "serve"],
  ["bytes of this upstream, confirmed", { ...HELD, provenance: OURS, confirmed: true }, "serve"],
  ["A2 another upstream's private bytes, no word", { ...HELD, provenance: FOREIGN }, "possess"],
  ["A2 another upstream's private bytes, listed", { ...HELD, provenance: FOREIGN, listed: true }, "possess"],
  ["A2 another upstream's private bytes, confirmed", { ...HELD, provenance: FOREIGN, confirmed: true }, "possess"],
  ["bytes of unknown origin, listed and confirmed", { ...HELD, listed: true, confirmed: true }, "possess"],
  [
    "private bytes of several upstreams, this one among them",
    { ...HELD, provenance: { public: false, upstreams: ["private.example", "docker.io"] }, listed: true },
    "serve",
  ],
];

describe("who may have what", () => {
  test.each(ROWS)("%s", (_, facts, expected) => {
    expect(decideProof(facts).do).toBe(expected);
  });

  test.each(ROWS)("A1 private to an anonymous caller, %s: denied", (_, facts) => {
    for (const visibility of ["private", "unknown"] as const) {
      expect(decideProof({ ...facts, visibility })).toEqual({ do: "deny" });
    }
  });

  test.each(ROWS)("private to a caller who may read it, %s: as if it were public", (_, facts, expected) => {
    for (const visibility of ["private", "unknown"] as const) {
      expect(decideProof({ ...facts, visibility, mayReadPrivate: true }).do).toBe(expected);
    }
  });
});
