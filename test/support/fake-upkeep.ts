import type { Upkeep } from "../../src/proxy/upkeep/upkeep.ts";

/** An upkeep that does what a test says, and rejects what it says nothing of. */
export function fakeUpkeep(does: Partial<Upkeep> = {}): Upkeep {
  // biome-ignore lint/correctness/useYield: it never comes to that
  const unexpected = async function* (): AsyncGenerator<never> {
    throw new Error("not asked for");
  };
  return {
    gc: unexpected,
    verify: unexpected,
    stats: unexpected,
    purge: unexpected,
    refresh: unexpected,
    import: unexpected,
    explain: unexpected,
    explainRequest: unexpected,
    pin: unexpected,
    unpin: unexpected,
    pins: unexpected,
    ...does,
  };
}
