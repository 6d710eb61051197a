import fc from "fast-check";
import { expect, test } from "vitest";
import { FairSemaphore } from "../../../src/base/fair-semaphore.ts";

const forever = { signal: new AbortController().signal };

/** Who is in, in the order of entering; `leave` ends one stay. */
function watched(limit: number) {
  const semaphore = new FairSemaphore(limit);
  const entered: string[] = [];
  const inside: { readonly key: string; leave(): void }[] = [];
  return {
    semaphore,
    entered,
    inside,
    async come(key: string): Promise<void> {
      const release = await semaphore.acquire(key, forever);
      entered.push(key);
      const stay = {
        key,
        leave() {
          inside.splice(inside.indexOf(stay), 1);
          release();
        },
      };
      inside.push(stay);
    },
  };
}

/** Lets everybody in who may come in. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test.each([0, -1, 1.5, Number.NaN])("a limit of %d makes no sense", (limit) => {
  expect(() => new FairSemaphore(limit)).toThrow(RangeError);
});

test("U8 keys take turns, however long the queue of one of them", async () => {
  const { semaphore, entered, inside, come } = watched(1);
  for (const key of ["a", "a", "a", "a", "b", "c", "b"]) void come(key);
  await settled();
  expect(semaphore.waiting).toBe(6);
  while (inside.length > 0) {
    inside[0]?.leave();
    await settled();
  }
  expect(entered.join("")).toBe("aabcaba");
  expect(semaphore.waiting).toBe(0);
});

test("U8 the last place goes to a key that has none", async () => {
  const { semaphore, entered, inside, come } = watched(3);
  for (const key of ["a", "a", "a", "a"]) void come(key);
  await settled();
  expect(entered.join("")).toBe("aa");
  void come("b");
  void come("b");
  void come("c");
  await settled();
  expect(entered.join("")).toBe("aab");
  inside.find(({ key }) => key === "a")?.leave();
  await settled();
  expect(entered.join("")).toBe("aabc");
  expect(semaphore.waiting).toBe(3);
});

test("a key's own waiters come in in their order", async () => {
  const semaphore = new FairSemaphore(1);
  const order: number[] = [];
  const release = await semaphore.acquire("a", forever);
  for (const n of [1, 2, 3]) {
    void semaphore.acquire("a", forever).then((leave) => {
      order.push(n);
      leave();
    });
  }
  release();
  await settled();
  expect(order).toEqual([1, 2, 3]);
});

test("giving a place back twice gives back one", async () => {
  const semaphore = new FairSemaphore(1);
  const release = await semaphore.acquire("a", forever);
  release();
  release();
  await semaphore.acquire("a", forever);
  void semaphore.acquire("b", forever);
  expect(semaphore.waiting).toBe(1);
});

test("one that aborts while waiting loses its turn only", async () => {
  const semaphore = new FairSemaphore(1);
  const release = await semaphore.acquire("a", forever);
  const leaver = new AbortController();
  const left = semaphore.acquire("b", { signal: leaver.signal });
  const stayed = semaphore.acquire("c", forever);
  leaver.abort(new Error("client left"));
  await expect(left).rejects.toThrow("client left");
  await expect(semaphore.acquire("b", { signal: leaver.signal })).rejects.toThrow("client left");
  expect(semaphore.waiting).toBe(1);
  release();
  expect(await stayed).toBeTypeOf("function");
});

test("an abort after the place was given changes nothing", async () => {
  const semaphore = new FairSemaphore(1);
  const controller = new AbortController();
  const release = await semaphore.acquire("a", { signal: controller.signal });
  controller.abort();
  release();
  expect(await semaphore.acquire("a", forever)).toBeTypeOf("function");
});

test("an aborted signal gets no place", async () => {
  const semaphore = new FairSemaphore(1);
  await expect(semaphore.acquire("a", { signal: AbortSignal.abort(new Error("gone")) })).rejects.toThrow("gone");
  expect(await semaphore.acquire("a", forever)).toBeTypeOf("function");
});

test("U8 whatever happens: never more than the limit, nobody waits beside a place that is theirs, all get in", async () => {
  const key = fc.constantFrom("a", "b", "c", "d");
  const come = fc.record({ do: fc.constant("come" as const), key });
  const leave = fc.record({ do: fc.constantFrom("leave" as const, "give-up" as const), at: fc.nat() });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.oneof(come, leave), { maxLength: 60 }),
      async (limit, steps) => {
        const semaphore = new FairSemaphore(limit);
        const inside: { key: string; release(): void }[] = [];
        const waiting: { key: string; controller: AbortController }[] = [];
        for (const step of steps) {
          if (step.do === "come") {
            const entry = { key: step.key, controller: new AbortController() };
            waiting.push(entry);
            semaphore.acquire(step.key, entry.controller).then(
              (release) => {
                waiting.splice(waiting.indexOf(entry), 1);
                inside.push({ key: step.key, release });
              },
              () => {},
            );
          } else if (step.do === "leave") {
            inside.splice(step.at % Math.max(1, inside.length), 1)[0]?.release();
          } else {
            waiting.splice(step.at % Math.max(1, waiting.length), 1)[0]?.controller.abort();
          }
          await settled();
          expect(inside.length).toBeLessThanOrEqual(limit);
          expect(semaphore.waiting).toBe(waiting.length);
          const free = limit - inside.length;
          const holders = new Set(inside.map((one) => one.key));
          for (const one of waiting) expect(free === 0 || (free === 1 && holders.has(one.key))).toBe(true);
        }
        while (inside.length > 0) {
          inside.shift()?.release();
          await settled();
        }
        expect(waiting).toEqual([]);
      },
    ),
    { numRuns: 200 },
  );
});
