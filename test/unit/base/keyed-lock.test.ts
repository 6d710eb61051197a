import { expect, test } from "vitest";
import { KeyedLock } from "../../../src/base/keyed-lock.ts";

test("work for one key is done one after the other, for several at once", async () => {
  const lock = new KeyedLock<string>();
  const gate = Promise.withResolvers<void>();
  const done: string[] = [];
  const first = lock.run("a", async () => {
    await gate.promise;
    done.push("a1");
  });
  const second = lock.run("a", async () => void done.push("a2"));
  await lock.run("b", async () => void done.push("b"));
  expect(done).toEqual(["b"]);
  gate.resolve();
  await Promise.all([first, second]);
  expect(done).toEqual(["b", "a1", "a2"]);
});

test("a failure is its own caller's, and keeps nobody out", async () => {
  const lock = new KeyedLock<string>();
  const failing = lock.run("a", () => Promise.reject(new Error("broken")));
  const next = lock.run("a", async () => "fine");
  await expect(failing).rejects.toThrow("broken");
  expect(await next).toBe("fine");
});

test("who only tries is turned away while the key is taken", async () => {
  const lock = new KeyedLock<string>();
  const gate = Promise.withResolvers<void>();
  const first = lock.run("a", () => gate.promise);
  expect(await lock.tryRun("a", async () => "got it")).toBeUndefined();
  gate.resolve();
  await first;
  expect(await lock.tryRun("a", async () => "got it")).toBe("got it");
});
