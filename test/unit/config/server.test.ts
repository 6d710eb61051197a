import { availableParallelism } from "node:os";
import { expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";

function workers(given: unknown): number | readonly string[] {
  const parsed = parseConfig({ server: { workers: given } }, {}, "/");
  return parsed.ok ? parsed.config.server.workers : parsed.problems.map(({ path }) => String(path));
}

test("server.workers is a number, also from a variable, or one for each core up to four", () => {
  expect([workers(1), workers(64), workers("3")]).toEqual([1, 64, 3]);
  expect(workers("auto")).toBe(Math.min(4, availableParallelism()));
});

test.each([0, 65, 1.5, -1, "all", true, ""])("server.workers: %j is refused by name", (given) => {
  const refused = workers(given);
  expect(refused).toHaveLength(1);
  expect(String(refused)).toContain("server.workers");
});
