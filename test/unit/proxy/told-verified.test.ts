import { expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { hearVerified, passOnVerified, tellVerified } from "../../../src/proxy/told-verified.ts";
import { eventually } from "../../support/fill-bench.ts";
import { linePair } from "../../support/port-pair.ts";

const DIGEST = digestOf(Buffer.from("a layer"));
const WHOLE = { version: "1 2 3 4", size: 1_000_000 };

interface Bench {
  readonly pairs: readonly ReturnType<typeof linePair>[];
  /** What each worker has heard. */
  readonly heard: readonly unknown[][];
}

/** Three workers of one parent. */
function bench(): Bench {
  const pairs = [linePair(), linePair(), linePair()];
  const heard = pairs.map((): unknown[] => []);
  for (const [at, { parent, worker }] of pairs.entries()) {
    passOnVerified(parent, () => pairs.map((pair) => pair.parent));
    hearVerified(worker, (...what) => heard[at]?.push(what));
  }
  return { pairs, heard };
}

test("what one worker has seen to be whole the others hear of, and itself not", async () => {
  const { pairs, heard } = bench();
  const [first, second] = pairs;
  if (first === undefined || second === undefined) throw new Error("there are no workers");
  tellVerified(first.worker, DIGEST, WHOLE);
  await eventually("the others to hear", () => heard.flat().length === 2);
  expect(heard).toEqual([[], [[DIGEST, WHOLE]], [[DIGEST, WHOLE]]]);
  tellVerified(second.worker, DIGEST, { ...WHOLE, version: "later" });
  await eventually("the others to hear", () => heard.flat().length === 4);
  expect(heard.map(({ length }) => length)).toEqual([1, 1, 2]);
});

test("what is no digest is not heard", async () => {
  const { pairs, heard } = bench();
  const [first] = pairs;
  first?.worker.tell("blobs.verified", ["nonsense", WHOLE.version, WHOLE.size]);
  first?.worker.tell("blobs.verified", [DIGEST, WHOLE.version, WHOLE.size]);
  await eventually("the others to hear", () => heard.flat().length > 0);
  expect(heard).toEqual([[], [[DIGEST, WHOLE]], [[DIGEST, WHOLE]]]);
});
