import fc from "fast-check";
import { expect, test } from "vitest";
import { Semaphore } from "../../../src/base/semaphore.ts";

const forever = { signal: new AbortController().signal };

test.each([0, -1, 1.5, Number.NaN])("a limit of %d makes no sense", (limit) => {
  expect(() => new Semaphore(limit)).toThrow(RangeError);
});

test("lets in as many as its limit, the others in the order of their coming", async () => {
  const semaphore = new Semaphore(2);
  const order: string[] = [];
  const enter = async (name: string): Promise<() => void> => {
    const release = await semaphore.acquire(forever);
    order.push(name);
    return release;
  };
  const [first, second] = await Promise.all([enter("a"), enter("b")]);
  const [third, fourth] = [enter("c"), enter("d")];
  expect(semaphore.waiting).toBe(2);

  second();
  await third;
  expect(order).toEqual(["a", "b", "c"]);
  first();
  await fourth;
  expect(order).toEqual(["a", "b", "c", "d"]);
  expect(semaphore.waiting).toBe(0);
});

test("giving a place back twice gives back one", async () => {
  const semaphore = new Semaphore(1);
  const release = await semaphore.acquire(forever);
  release();
  release();
  await semaphore.acquire(forever);
  void semaphore.acquire(forever);
  expect(semaphore.waiting).toBe(1);
});

test("one that aborts while waiting loses its turn only", async () => {
  const semaphore = new Semaphore(1);
  const release = await semaphore.acquire(forever);
  const leaver = new AbortController();
  const left = semaphore.acquire({ signal: leaver.signal });
  const stayed = semaphore.acquire(forever);
  leaver.abort(new Error("client left"));
  await expect(left).rejects.toThrow("client left");
  release();
  expect(await stayed).toBeTypeOf("function");
});

test("an abort after the place was given changes nothing", async () => {
  const semaphore = new Semaphore(1);
  const release = await semaphore.acquire(forever);
  const controller = new AbortController();
  const waiting = semaphore.acquire({ signal: controller.signal });
  release();
  controller.abort();
  (await waiting)();
  expect(await semaphore.acquire(forever)).toBeTypeOf("function");
});

test("an aborted signal gets no place", async () => {
  const semaphore = new Semaphore(1);
  await expect(semaphore.acquire({ signal: AbortSignal.abort(new Error("gone")) })).rejects.toThrow("gone");
  expect(await semaphore.acquire(forever)).toBeTypeOf("function");
});

test("no schedule lets too many in or loses a place", async () => {
  const visit = fc.record({ yields: fc.nat(3), aborts: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(visit, { maxLength: 20 }), async (limit, visits) => {
      const semaphore = new Semaphore(limit);
      let inside = 0;
      await Promise.allSettled(
        visits.map(async ({ yields, aborts }) => {
          const controller = new AbortController();
          const admission = semaphore.acquire({ signal: controller.signal });
          if (aborts) {
            controller.abort();
          }
          const release = await admission;
          inside += 1;
          expect(inside).toBeLessThanOrEqual(limit);
          for (let i = 0; i < yields; i += 1) {
            await Promise.resolve();
          }
          inside -= 1;
          release();
        }),
      );
      expect(semaphore.waiting).toBe(0);
      const all = Array.from({ length: limit }, () => semaphore.acquire(forever));
      expect(await Promise.all(all)).toHaveLength(limit);
    }),
  );
});
