import { expect, test } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { readAlone } from "../../../src/proxy/fill-alone.ts";
import { ReceiveMemory } from "../../../src/upstream/receive-memory.ts";
import { ResponseBody } from "../../../src/upstream/response-body.ts";
import { ManualClock } from "../../support/manual-clock.ts";

test("a download that is left in the midst of a body lets the body's memory go", async () => {
  const memory = new ReceiveMemory();
  const body = new ResponseBody({ pause() {}, resume() {}, abort() {} }, 100_000, memory);
  body.gather(Buffer.alloc(1000, 7));
  const reading = readAlone({
    digest: digestOf(Buffer.alloc(100_000, 7)),
    sources: [{ key: "a", upstream: "a", open: async () => ({ start: 0, total: 100_000, body }) }],
    start: 0,
    end: 100,
    total: 100_000,
    hash: undefined,
    tailBytes: 1,
    clock: new ManualClock(),
    random: () => 0.5,
    config: { rangeWaitMs: 0, minRate: 0, stalledAttempts: 1, abandon: "never" },
    signal: new AbortController().signal,
    resumed: () => {},
    behalf: {},
  });
  const parts: number[] = [];
  for await (const part of reading) {
    expect(memory.freePieces).toBe(0);
    parts.push(part.length);
  }
  expect([parts, body.destroyed, memory.freePieces]).toEqual([[100], true, 1]);
});
