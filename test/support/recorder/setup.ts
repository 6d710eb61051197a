/** Runs around every test file: see recorder.ts. */
import { afterAll, afterEach } from "vitest";
import { recorder } from "./recorder.ts";

// Of all hooks the first to be registered, so the last to run: what the test has started has ended by now.
afterEach(expectNothingAstray);
afterAll(expectNothingAstray);

function expectNothingAstray(): void {
  const problems = recorder.problems();
  recorder.forgetEnded();
  if (problems.length > 0) throw new Error(`secrets got where they do not belong:\n${problems.join("\n")}`);
}
