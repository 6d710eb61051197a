import { expect, test } from "vitest";
import { createRandomIds } from "../../../src/base/random-ids.ts";

test("ids are 32 hexadecimal digits, and no two are the same", () => {
  const newId = createRandomIds();
  const ids = Array.from({ length: 2_000 }, newId);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
  expect(new Set(ids).size).toBe(ids.length);
});
