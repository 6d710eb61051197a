import { expect, test } from "vitest";
import { createParkedCredentials } from "../../../src/storage/parked-credentials.ts";
import { createMemorySmallObjects } from "../../support/memory-store.ts";

const o = { signal: new AbortController().signal };
const FINGERPRINT = "ab".repeat(32);
const KEY = `weir/v1/credentials/${FINGERPRINT}.json`;

test("a refused credential is a small record under its fingerprint", async () => {
  const objects = createMemorySmallObjects();
  const parked = createParkedCredentials(objects);
  expect(await parked.get(FINGERPRINT, o)).toBeUndefined();
  await parked.put(FINGERPRINT, { untilMs: 5, failures: 2 }, o);
  expect(Buffer.from((await objects.get(KEY, o)) ?? []).toString()).toBe('{"untilMs":5,"failures":2}');
  expect(await createParkedCredentials(objects).get(FINGERPRINT, o)).toEqual({ untilMs: 5, failures: 2 });
  await parked.delete(FINGERPRINT, o);
  expect(await parked.get(FINGERPRINT, o)).toBeUndefined();
});

test.each([
  [""],
  ["null"],
  ["[]"],
  ['{"untilMs":1}'],
  ['{"untilMs":"1","failures":1}'],
  ['{"untilMs":-1,"failures":1}'],
])("a record that holds %j is none", async (text) => {
  const objects = createMemorySmallObjects();
  await objects.put(KEY, Buffer.from(text), o);
  expect(await createParkedCredentials(objects).get(FINGERPRINT, o)).toBeUndefined();
});

test.each([[""], ["ab"], ["../x"], ["AB".repeat(32)], [`${"ab".repeat(32)}/x`]])(
  "%j is no fingerprint",
  async (text) => {
    const parked = createParkedCredentials(createMemorySmallObjects());
    await expect(parked.put(text, { untilMs: 1, failures: 1 }, o)).rejects.toThrow(RangeError);
  },
);
