import { expect, test } from "vitest";
import { createRandomIds } from "../../../src/base/random-ids.ts";

test.each([
  [undefined, /^[0-9a-f]{32}$/],
  [8, /^[0-9a-f]{16}$/],
])("ids are two hexadecimal digits for each byte (%s), and no two are the same", (bytes, form) => {
  const newId = createRandomIds(bytes);
  const ids = Array.from({ length: 2_000 }, newId);
  for (const id of ids) expect(id).toMatch(form);
  expect(new Set(ids).size).toBe(ids.length);
});
