import { expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { TraceWarnings } from "../../../src/telemetry/trace-warnings.ts";
import { ManualClock } from "../../support/manual-clock.ts";

test("one line a minute, with the reason and how many were not said", () => {
  const said: unknown[] = [];
  const clock = new ManualClock();
  const warnings = new TraceWarnings(clock, { ...silentLog, warn: (fields) => said.push(fields) });
  const error = {
    name: "Error",
    code: "ECONNREFUSED",
    message: "connect 127.0.0.1:4318",
    stack: "at there",
    data: "x",
  };
  for (let i = 0; i < 10; i += 1) warnings.tell(JSON.stringify(error));
  expect(said).toEqual([{ reason: "Error ECONNREFUSED connect 127.0.0.1:4318" }]);
  clock.advance(59_999);
  warnings.tell("dropped");
  clock.advance(1);
  warnings.tell(`Dropped 3 spans\u001b[0m${"x".repeat(1_000)}`);
  expect(said).toHaveLength(2);
  expect(said[1]).toEqual({ reason: expect.stringMatching(/^Dropped 3 spans\?\[0mx{2,}$/), unsaid: 10 });
  expect((said[1] as { reason: string }).reason).toHaveLength(300);
});
