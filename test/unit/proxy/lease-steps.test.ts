import { expect, test } from "vitest";
import type { OpenStep, StepFields, Trail } from "../../../src/base/trail.ts";
import type { Leases } from "../../../src/cluster/leases.ts";
import { createTurns } from "../../../src/proxy/turns.ts";
import { ManualClock } from "../../support/manual-clock.ts";

class Steps implements Trail {
  readonly told: [string, StepFields][] = [];

  note(step: string, fields: StepFields): void {
    this.told.push([step, fields]);
  }

  begin(step: string, fields: StepFields): OpenStep {
    let ended = false;
    return {
      end: (more: StepFields) => {
        if (!ended) this.note(step, { ...fields, ...more });
        ended = true;
      },
      add: () => {},
      joins: () => {},
      trail: this,
    };
  }
}

/** Somebody else has the lease for so many looks. */
function leasesAfter(looks: number): Pick<Leases, "acquire"> {
  let left = looks;
  return {
    async acquire() {
      left -= 1;
      const lease = { lost: new AbortController().signal, doubt: () => undefined, release: async () => {} };
      return left < 0 ? { lease } : { holder: undefined };
    },
  };
}

test.each([
  [0, "ours"],
  [2, "ours"],
  [1_000, "waited in vain"],
])("a trail tells of the turn after %i looks: %s", async (looks, outcome) => {
  const clock = new ManualClock();
  const impatient = { now: () => clock.now(), sleep: async (ms: number) => clock.advance(ms) };
  const turns = createTurns({ leases: leasesAfter(looks) as Leases, clock: impatient, random: () => 1 });
  const trail = new Steps();
  await turns.run("tag a/b:1", { signal: new AbortController().signal, trail }, async () => {});
  expect(trail.told).toEqual([["lease", { name: "tag a/b:1", outcome }]]);
});
